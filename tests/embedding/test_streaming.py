"""A stream gives what the whole recording would, from the past alone."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner

from hbn_foundation.embedding.recordings import recordings_given
from hbn_foundation.embedding.streaming import CausalFilter, RunningMean, Streamer, _answers
from hbn_foundation.model_commands import stream
from hbn_foundation.models.electrodes import DIRECTIONS_10_20
from hbn_foundation.recordings.params import CleaningParams
from hbn_foundation.recordings.recording import open_recording
from hbn_foundation.training.checkpoint import Checkpoint
from small_models import small_encoder

POSITIONS = np.array(list(DIRECTIONS_10_20.values()), dtype=np.float32)


@pytest.fixture(scope="module")
def recording(tiny_bids):
    (given,) = recordings_given(next(tiny_bids.rglob("*RestingState*.set"), None)
                                or next(tiny_bids.rglob("*RestingState*_eeg.[besv]*")))  # fmt: skip
    return open_recording(given.row["bids_root"], given.row["path"])


def streamer(version, recording, **options) -> Streamer:
    positions = dict(zip(recording.channels.names, recording.channels.positions, strict=True))
    return Streamer(Checkpoint.load(version), positions, recording.sfreq, **options)


@pytest.mark.parametrize("sfreq", [100.0, 250.0, 512.0])
def test_chunks_of_any_size_are_filtered_alike(sfreq):
    random = np.random.default_rng(0)
    volts = random.standard_normal((3, round(8 * sfreq)))
    whole = CausalFilter(sfreq, 3, CleaningParams())(volts)
    cuts = np.sort(random.integers(0, volts.shape[1], 40))
    own = CausalFilter(sfreq, 3, CleaningParams())
    found = np.concatenate([own(part) for part in np.split(volts, cuts, axis=1)], 1)
    assert whole.shape[1] == pytest.approx(800, abs=1)
    np.testing.assert_allclose(found, whole, rtol=0, atol=1e-9)


def test_later_samples_change_nothing():
    volts = np.random.default_rng(1).standard_normal((2, 2000))
    later = np.concatenate([volts[:, :1000], 9 * volts[:, 1000:]], 1)
    first, second = (CausalFilter(500.0, 2, CleaningParams())(part) for part in (volts, later))
    np.testing.assert_array_equal(first[:, :200], second[:, :200])
    assert not np.allclose(first[:, 201:], second[:, 201:])


def test_what_is_beyond_the_band_is_gone():
    time = np.arange(10_000) / 500
    for hz, least, most in ((10, 0.95, 1.05), (90, 0, 0.015), (0.01, 0, 0.05)):
        wave = np.sin(2 * np.pi * hz * time)[None]
        rest = CausalFilter(500.0, 1, CleaningParams())(wave)[0, 800:]
        assert least <= np.abs(rest).max() <= most


@pytest.mark.parametrize("recentre", [False, True])
def test_windows_do_not_depend_on_the_chunks(version, recording, recentre):
    volts = recording.read(0, int(12 * recording.sfreq))
    options = {"stride": 1.0, "recentre": recentre}
    whole = list(streamer(version, recording, **options).push(volts))
    live, found = streamer(version, recording, **options), []
    for part in np.array_split(volts, 150, axis=1):
        found += list(live.push(part))
    assert [one.start for one in found] == [one.start for one in whole] == list(range(11))
    values, expected = (np.array([one.values for one in part]) for part in (found, whole))
    np.testing.assert_allclose(values, expected, atol=1e-3 * np.abs(expected).max())
    assert values.shape[1] == len(live.columns)
    assert np.allclose(values[0], 0) == recentre  # the mean of one window is that window


def test_slow_outputs_are_of_tangents_relative_to_those_so_far():
    encoder = small_encoder("band", n_slow=2).eval()
    torch.nn.init.normal_(encoder.slow.beside.weight)
    plain = SimpleNamespace(metadata={})
    _, answer = _answers(plain, SimpleNamespace(encoder=encoder, n_features=2), RunningMean())
    random, seen = torch.Generator().manual_seed(0), []
    positions, mask = torch.tensor(POSITIONS), torch.ones(1, len(POSITIONS), dtype=torch.bool)
    with torch.inference_mode():
        for _ in range(4):
            window = torch.randn(1, len(POSITIONS), encoder.n_samples, generator=random)
            found = answer(window, positions, mask)
            seen.append(encoder.inputs(window, positions, mask)["band"])
            expected = encoder.slow_outputs(seen[-1] - torch.stack(seen).mean(0))[0]
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_the_command_plays_a_file_and_tells_its_latency(version, recording, tmp_path):
    path = recording.file.root + "/" + recording.file.path
    output = tmp_path / "out.tsv"
    options = ["--checkpoint", str(version), "--fast", "--output", str(output)]
    done = CliRunner().invoke(stream, [path, *options], catch_exceptions=False)
    assert done.exit_code == 0
    assert "ms (median)" in done.output
    table = pd.read_csv(output, sep="\t")
    assert (table["start"].diff().dropna() == 2.0).all()
    assert len(table) >= 10


def test_what_cannot_be_played_is_one_line(version, tiny_bids, tmp_path):
    options = ["--checkpoint", str(version), "--output", str(tmp_path / "out.tsv")]
    done = CliRunner().invoke(stream, [str(tiny_bids), *options])
    assert done.exit_code == 1
    assert "recordings; expected one file" in done.output
