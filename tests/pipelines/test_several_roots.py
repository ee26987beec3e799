"""Two data sets of other electrodes, rates and labels, read into one study."""

from pathlib import Path

import numpy as np
import pytest
from kedro.io import DataCatalog, MemoryDataset
from kedro.runner import SequentialRunner

from hbn_foundation.evaluation.recipes import FoundationRecipe, LabelRecipe
from hbn_foundation.io.placed_subjects import PlacedSubjectsDataset
from hbn_foundation.labels.params import LabelParams, SplitParams, TrialParams
from hbn_foundation.labels.targets import window_targets
from hbn_foundation.pipelines import ingestion
from hbn_foundation.recordings.params import CleaningParams, SelectionParams, SourceParams
from hbn_foundation.signals.event_windows import cut_event_windows
from hbn_foundation.signals.params import BuildParams, WindowParams
from recordings.eeg_files import NAMES, beside, bids_file, edf, noise

EMOTIV = ("AF3", "AF4", "O1", "O2", "P7", "P8", "T7", "T8")
SUBJECTS = ("01", "02", "03", "04")


@pytest.fixture(scope="module")
def roots(tmp_path_factory) -> dict[str, str]:
    """Write rest of 14 electrodes at 250 Hz, and states, as events, of 8 electrodes at 128 Hz."""
    folder = tmp_path_factory.mktemp("roots")
    made = {"rest": (NAMES, 250), "states": (EMOTIV, 128)}
    for place, (name, (electrodes, rate)) in enumerate(made.items()):
        root: Path = folder / name
        for number, subject in enumerate(SUBJECTS):
            path = bids_file(root, ".edf", subject)
            signals = noise(len(electrodes), 20 * rate, rate, seed=10 * place + number)
            edf(path, signals, rate, electrodes)
            if name == "states":
                rows = "onset\tduration\ttrial_type\n0\t10\tclosed\n10\t10\topen\n"
                beside(path, "events.tsv").write_text(rows)
        (root / "dataset_description.json").write_text(f'{{"Name": "{name}"}}')
        column, values = {"rest": ("age", "7 8 9 10"), "states": ("first", "a b a b")}[name]
        rows = "".join(f"sub-{s}\t{v}\n" for s, v in zip(SUBJECTS, values.split(), strict=True))
        (root / "participants.tsv").write_text(f"participant_id\t{column}\n{rows}")
    return {name: str(folder / name) for name in made}


@pytest.fixture(scope="module")
def made(roots, tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("study")
    label = LabelParams(kind="event", column="trial_type")
    parameters = {
        "ingestion.source": SourceParams(roots=roots),
        "ingestion.selection": SelectionParams(),
        "ingestion.cleaning": CleaningParams(),
        "ingestion.store": BuildParams(path=str(folder / "signals"), n_jobs=0),
        "ingestion.splits": SplitParams(
            stratify=["dataset"], train=0.5, validation=0.25, test=0.25
        ),
        "ingestion.trials": TrialParams(),
        "ingestion.windows": WindowParams(),
        "foundation": FoundationRecipe(),
        "finetuning": LabelRecipe(label=label),
    }
    given = {f"params:{name}": value for name, value in parameters.items()} | {"data_check": {}}
    catalog = DataCatalog({name: MemoryDataset(value) for name, value in given.items()})
    for name in ("placed_before", "placed_subjects"):
        catalog[name] = PlacedSubjectsDataset(filepath=str(folder / "placed.csv"))
    pipeline = ingestion.create_pipeline().to_outputs("dataset", "trials")
    results = SequentialRunner().run(pipeline, catalog)
    return {name: one.load() for name, one in results.items()}


def test_electrodes_are_joined_and_signals_have_one_rate(made):
    store = made["dataset"].store
    assert store.table["status"].tolist() == ["ok"] * 8
    assert store.sfreq == 100
    assert set(store.channel_names) == {*NAMES, *EMOTIV} - {"T3"} | {"T7"}
    of = {str(name): store.usable(row) for row, name in enumerate(store.recordings["recording"])}
    rest, states = of["rest-sub-01_task-rest"], of["states-sub-01_task-rest"]
    assert set(np.array(store.channel_names)[states]) <= set(EMOTIV)
    assert (rest & states).any()
    assert (rest & ~states).any()
    assert (~rest & states).any()
    assert store.datasets == {"rest": "rest", "states": "states"}


def test_subjects_are_divided_within_each_data_set(made):
    dataset = made["dataset"]
    of = dataset.participants.set_index("subject")["dataset"]
    split = dataset.splits.set_index("subject")["split"]
    counts = split.groupby([of, split]).size().unstack()
    assert counts[["train", "validation", "test"]].to_numpy().tolist() == [[2, 1, 1], [2, 1, 1]]


@pytest.mark.parametrize(
    ("label", "names", "of"),
    [
        ({"kind": "participant", "column": "dataset"}, ("rest", "states"), {"rest", "states"}),
        ({"kind": "participant", "column": "age", "type": "regression"}, ("age",), {"rest"}),
        ({"kind": "participant", "column": "first"}, ("a", "b"), {"states"}),
    ],
)
def test_labels_are_known_where_the_data_set_has_them(made, label, names, of):
    dataset = made["dataset"]
    subjects = dataset.participants["subject"]
    targets = window_targets(
        dataset.windows, dataset.participants, LabelParams.model_validate(label), subjects
    )
    assert targets.names == names
    known = dataset.windows["subject"][targets.known]
    assert set(known) == {name for name in subjects if name.partition("-")[0] in of}


def test_events_are_those_of_each_recording(made):
    dataset = made["dataset"]
    label = LabelParams(kind="event", column="trial_type")
    windows = cut_event_windows(dataset.store, dataset.events, label, 2.0)
    assert set(windows["subject"]) == {f"states-{name}" for name in SUBJECTS}
    assert set(windows["event"]) == {"closed", "open"}
    assert made["trials"].empty
