"""Features of a checkpoint are those of the pipeline, whatever the recording comes as."""

from __future__ import annotations

import pickle
import re
import sys
import warnings
from pathlib import Path

import mne
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import hbn_foundation
from embedding.as_pipeline import changed, first_subject, pipeline_features
from hbn_foundation.errors import UserError
from processes import imported_by
from recordings.eeg_files import NAMES, bids_file, edf, noise, raw_array, write, write_channels

TOLERANCE = 1e-5


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


@pytest.fixture(scope="module")
def embedder(foundation):
    return hbn_foundation.load(foundation)


@pytest.fixture(scope="module")
def brainvision(tmp_path_factory):
    """250 Hz; a channel is marked bad by channels.tsv, a segment by an annotation."""
    root = tmp_path_factory.mktemp("brainvision")
    signal = noise(len(NAMES), 20 * 250, 250.0)
    signal[3] *= 40
    raw = raw_array(signal, 250.0)
    raw.set_annotations(mne.Annotations([5.0], [1.5], ["BAD_movement"]))
    path = write(raw, bids_file(root, ".vhdr"))
    write_channels(path, [(n, "EEG", "bad" if n == "C3" else "good") for n in NAMES])
    return path


def test_the_package_and_its_commands_import_nothing_heavy():
    found = imported_by(
        "import hbn_foundation.cli\n"
        "from hbn_foundation.pipeline_registry import register_pipelines\n"
        "register_pipelines()"
    )
    assert not found & {"torch", "mne", "sklearn"}


def test_a_root_of_129_channels_is_embedded_as_by_the_pipeline(
    embedder, version, tiny_bids, tmp_path
):
    files = first_subject(tiny_bids)
    subject = files[0].parts[-3]
    windows, expected = pipeline_features(version, tiny_bids, tmp_path, subjects=[subject])
    found = embedder.embed(files, as_frame=True)
    np.testing.assert_allclose(found.iloc[:, 3:], expected, atol=TOLERANCE)
    assert found["recording"].tolist() == windows["recording"].tolist()
    np.testing.assert_allclose(found["start"], windows["onset"], atol=1e-6)


def test_real_files_and_raws_are_embedded_as_by_the_pipeline(
    embedder, version, eegmat_root, tmp_path
):
    windows, expected = pipeline_features(version, eegmat_root, tmp_path, subjects=["02"])
    files = sorted((eegmat_root / "sub-02" / "eeg").glob("*.edf"))
    np.testing.assert_allclose(embedder.embed(files), expected, atol=TOLERANCE)
    raws = [mne.io.read_raw(file, verbose="ERROR") for file in files]
    found = embedder.embed(raws, as_frame=True)
    np.testing.assert_allclose(found.iloc[:, 3:], expected, atol=TOLERANCE)
    assert found["recording"].tolist() == windows["recording"].tolist()
    assert set(found["subject"]) == {"02"}


def test_brainvision_with_bad_channel_and_segment(embedder, version, brainvision, tmp_path):
    root = brainvision.parents[2]
    windows, expected = pipeline_features(version, root, tmp_path)
    assert not ((windows["onset"] < 6.5) & (windows["onset"] > 3.0)).any()
    for place in (str(brainvision), root):
        np.testing.assert_allclose(embedder.embed(place), expected, atol=TOLERANCE)
    raw = mne.io.read_raw(brainvision, verbose="ERROR", preload=True)
    raw.info["bads"] = ["C3"]
    np.testing.assert_allclose(embedder.embed(raw), expected, atol=TOLERANCE)
    raw.info["bads"] = ["F3"]
    assert np.abs(embedder.embed(raw) - expected).max() > 100 * TOLERANCE


@pytest.mark.parametrize("dated", [False, True])
def test_segments_of_a_cropped_raw_lie_where_they_are_marked(embedder, dated):
    raw = raw_array(noise(8, 30 * 100, 100.0), 100.0)
    if dated:
        raw.set_meas_date(1.7e9)
    raw.crop(10.0)
    raw.set_annotations(mne.Annotations([4.0], [2.0], ["bad"]))
    starts = embedder.embed(raw, as_frame=True)["start"]
    np.testing.assert_allclose(starts, [0, 2, *range(6, 20, 2)], atol=0.011)


def test_epochs_are_near_their_recording(embedder, eegmat_root):
    """By a cosine of .8 at least and .9 on average, as docs/embedding.md says."""
    file = eegmat_root / "sub-02" / "eeg" / "sub-02_task-rest_eeg.edf"
    raw = mne.io.read_raw(file, verbose="ERROR").crop(0, 60.5).load_data()
    epochs = mne.make_fixed_length_epochs(raw, 2.0, preload=True, verbose="ERROR")
    whole = embedder.embed(raw, as_frame=True)
    with pytest.warns(UserWarning, match="filtered each on its own"):
        found = embedder.embed(epochs[5:], as_frame=True)
    assert found["start"].tolist() == whole["start"][5:].tolist()
    near = cosine(found.iloc[:, 3:].to_numpy(), whole.iloc[5:, 3:].to_numpy())
    assert near.min() > 0.8
    assert near.mean() > 0.9


@pytest.mark.filterwarnings("ignore:Epochs are filtered")
@pytest.mark.parametrize("slower", ["decimate", "resample"])
def test_epochs_of_another_rate_begin_where_their_events_are(embedder, slower):
    raw = raw_array(noise(8, 6000, 500.0), 500.0)
    events = mne.make_fixed_length_events(raw, start=1, duration=4)
    epochs = mne.Epochs(raw, events, tmin=-0.5, tmax=3.498, baseline=None, preload=True)
    of_rate = {"decimate": 2, "resample": 250}[slower]
    found = embedder.embed(getattr(epochs, slower)(of_rate, verbose="ERROR"), as_frame=True)
    assert found["start"].tolist() == [0.5, 2.5, 4.5, 6.5]
    with pytest.raises(UserError, match="denoise: found Epochs, which may not be in order"):
        clone(embedder).set_params(recentre=True, denoise=True).embed(epochs)


@pytest.mark.parametrize(("rate", "low_pass"), [(100.0, 20.0), (40.0, None)])
def test_recordings_that_lack_a_part_of_the_band_are_named(embedder, rate, low_pass):
    raws = [raw_array(noise(8, 1000, one), one) for one in (100.0, rate)]
    raws[1].filter(None, low_pass, verbose="ERROR")
    with pytest.warns(UserWarning, match=r"1 recording of 2 end at (20|1\d(\.\d+)?) Hz .* 50 Hz"):
        embedder.embed(raws)
    high_passed = raws[0].copy().filter(2.0, None, verbose="ERROR")
    with pytest.warns(
        UserWarning, match=r"1 recording of 2 begin at 2 Hz or below, .* own at 0\.5 Hz"
    ):
        embedder.embed([raws[0], high_passed])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        embedder.embed(raws[0])


def test_recordings_too_short_to_be_relative_to_themselves_are_named(version):
    embedder = hbn_foundation.load(version, recentre=True)
    raws = [raw_array(noise(8, n, 100.0), 100.0) for n in (400, 1000)]
    with pytest.warns(UserWarning, match="1 recording of 2 with fewer than three windows"):
        embedder.embed(raws)


def test_it_is_a_transformer_of_scikit_learn(embedder):
    raws = [raw_array(noise(8, 1200, 100.0, seed), 100.0) for seed in range(4)]
    copy = clone(embedder).set_params(per="recording", n_jobs=0)
    assert not hasattr(copy, "_loaded")
    assert copy.fit(raws) is copy
    rows = copy.transform(raws)
    np.testing.assert_allclose(rows[1], embedder.transform(raws[1]).mean(0), atol=1e-5)
    names = copy.get_feature_names_out()
    assert rows.shape == (4, len(names))
    assert list(copy.set_output(transform="pandas").transform(raws[:1]).columns) == list(names)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(embedder)).embed(raws[0]),
                                  embedder.embed(raws[0]))  # fmt: skip
    model = make_pipeline(clone(embedder).set_params(per="recording"), LogisticRegression())
    assert model.fit(raws, [0, 1, 0, 1]).predict(raws).shape == (4,)


def test_features_may_be_relative_to_their_recording(embedder, version, tiny_bids):
    files = sorted(tiny_bids.rglob("*_eeg.*"))
    files = [path for path in files if path.suffix in (".set", ".bdf", ".edf", ".vhdr")][:2]
    plain = embedder.embed(files, as_frame=True)
    relative = hbn_foundation.load(version, recentre=True).embed(files, as_frame=True)
    names = [name for name in plain if name.startswith("embedder")]
    means = plain.groupby("recording")[names].transform("mean")
    np.testing.assert_allclose(relative[names], plain[names] - means, atol=1e-3)
    with pytest.raises(UserError, match="so that their mean is zero; expected window"):
        hbn_foundation.load(version, recentre=True, per="recording").embed(files)
    with pytest.raises(UserError, match="expected recentre: true and a foundation checkpoint"):
        hbn_foundation.load(version, recentre=True, denoise=True).embed(files)


def test_recordings_of_a_subject_are_scaled_together(version, tiny_bids, tmp_path):
    cleaning = {**hbn_foundation.load(version).model.checkpoint.metadata["cleaning"]}
    there = changed(version, tmp_path / "model", cleaning=cleaning | {"scale": "subject"})
    files = first_subject(tiny_bids)
    subject = files[0].parts[-3]
    _, expected = pipeline_features(there, tiny_bids, tmp_path / "store", subjects=[subject])
    embedder = hbn_foundation.load(there)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_allclose(embedder.embed(files), expected, atol=TOLERANCE)
    with pytest.warns(UserWarning, match="scale: subject"):
        alone = embedder.embed(files[0])
    namesake = tmp_path / "other" / files[0].relative_to(tiny_bids)  # of another data set
    namesake.parent.mkdir(parents=True)
    namesake.symlink_to(files[1])
    with pytest.warns(UserWarning, match="2 recordings given alone"):
        both = embedder.embed([files[0], namesake])
    np.testing.assert_allclose(both[: len(alone)], alone, atol=TOLERANCE)


def test_what_cannot_be_embedded_says_why(embedder, tmp_path):
    signal = noise(8, 1000, 100.0)

    def refused(recording) -> str:
        with pytest.raises(UserError) as error:
            embedder.embed(recording)
        assert "\n" not in str(error.value)
        return str(error.value)

    one = edf(tmp_path / "one.edf", signal, 100.0, ["Cz", *"abcdefg"])
    assert "one.edf: no positions for 7 of 8 EEG channels" in refused(one)
    assert "1 usable electrode" in refused(raw_array(signal[:1], 100.0))
    in_microvolts = refused(raw_array(signal * 1e6, 100.0))
    assert re.search("amplitude of .*e[+]0[67] µV.*unit is probably wrong", in_microvolts)
    assert "too short: 1.50 s" in refused(raw_array(signal[:, :150], 100.0))
    gaps = raw_array(signal, 100.0)
    gaps.set_annotations(mne.Annotations([1.0, 2.5, 4.0, 5.5, 7.0, 8.5], [0.1] * 6, ["BAD"] * 6))
    assert "shorter than a window of 2 s: 1.4 s at most are free of" in refused(gaps)
    assert "no such file" in refused(tmp_path / "none.edf")
    assert "expected a Raw, Epochs" in refused(3.0)
    epochs = mne.make_fixed_length_epochs(raw_array(signal, 100.0), 2.0, preload=True)
    with pytest.warns(RuntimeWarning, match="empty"):
        assert "none are left" in refused(epochs[:0])
    for name, value in {"per": "windows", "on_error": "ignore", "batch_size": 0}.items():
        with pytest.raises(UserError, match=f"^{name}.*(expected|should be)"):
            clone(embedder).set_params(**{name: value}).embed(raw_array(signal, 100.0))
    assert "1 of 2 recordings cannot be used: " in refused([raw_array(signal, 100.0), one])
    kept = clone(embedder).set_params(on_error="skip").embed([one, raw_array(signal, 100.0)])
    assert len(kept) == 5


def test_checkpoints_that_cannot_serve_say_why(version, tmp_path, monkeypatch):
    def refused(name) -> str:
        with pytest.raises(UserError) as error:
            hbn_foundation.load(name)
        assert "\n" not in str(error.value)
        return str(error.value)

    found = refused(changed(version, tmp_path / "a", cleaning=None, versions=None))
    assert "how its signals were cleaned is not recorded (made by an earlier version)" in found
    strange = changed(version, tmp_path / "b", cleaning={"reference": "average"})
    assert re.search(
        r"cleaning.reference means nothing to this version \(made by 0", refused(strange)
    )
    (tmp_path / "empty").mkdir()
    assert "no checkpoint here" in refused(tmp_path / "empty")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert "hbn-foundation[hub]" in refused("someone/model")
    assert "no such folder" in refused("some/where/else")


def test_a_checkpoint_without_positions_and_of_the_older_format_still_serves(
    version, embedder, tiny_bids, tmp_path
):
    old = hbn_foundation.load(
        changed(version, tmp_path / "old", positions=None, cleaning_version=None)
    )
    file = first_subject(tiny_bids)[0]
    np.testing.assert_allclose(old.embed(file), embedder.embed(file), atol=TOLERANCE)
    other = changed(version, tmp_path / "other", cleaning_version=0)
    with pytest.warns(UserWarning, match="version 0 of the cleaning"):
        hbn_foundation.load(other)


def test_without_a_network_a_hub_id_is_refused_in_one_line(monkeypatch):
    hub = pytest.importorskip("huggingface_hub")

    def offline(*_, **__):
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(hub, "snapshot_download", offline)
    with pytest.raises(UserError, match=r"someone/model: no such folder.*no route to host"):
        hbn_foundation.load("someone/model")


@pytest.mark.parametrize("page", ["README.md", "docs/embedding.md"])
def test_the_python_of_the_pages_runs(page, foundation, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    place = tmp_path / "data" / "simulated" / "06_models"
    place.mkdir(parents=True)
    (place / foundation.name).symlink_to(foundation)
    for seed, name in enumerate(("recording.edf", "other.edf")):
        edf(tmp_path / name, noise(14, 1200, 100.0, seed), 100.0)
    text = (Path(__file__).parents[2] / page).read_text(encoding="utf-8")
    blocks, names = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL), {}
    exec("\n".join(blocks), names)
    assert len(names["features"]) == 6
