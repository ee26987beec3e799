"""What is told, and what is refused, where a checkpoint was made of other data."""

from types import SimpleNamespace

import pandas as pd
import pytest

from hbn_foundation.errors import UserError
from hbn_foundation.labels.params import LabelParams
from hbn_foundation.recordings.params import CleaningParams
from hbn_foundation.training.checkpoint import Checkpoint
from hbn_foundation.training.origin import check_label_windows, differences

HERE = CleaningParams().model_dump(mode="json")
METADATA = {
    "sfreq": 100.0, "n_samples": 200, "datasets": {"": "there"}, "cleaning": HERE,
    "training_subjects": ["01", "02"], "validation_subjects": ["03"],
}  # fmt: skip


def dataset(sfreq: float = 100.0, n_samples: int = 200, **changes):
    store = SimpleNamespace(cleaning=HERE | changes, datasets={"": "here"})
    splits = pd.DataFrame({"subject": ["03", "1"], "split": ["test", "train"]})
    return SimpleNamespace(store=store, splits=splits, sfreq=sfreq, n_samples=n_samples)


def test_what_differs_is_told_in_a_line_each():
    found = list(differences(Checkpoint({}, METADATA), dataset(h_freq=45.0, sfreq=1.0)))
    assert found[0] == "ingestion.cleaning.h_freq was 50.0 for its signals, and is 45.0 here"
    assert found[1].startswith("1 subject here (03) are named as some of its subjects, and are oth")
    assert len(found) == 2
    same = METADATA | {"datasets": {"": "here"}}
    assert not list(differences(Checkpoint({}, same), dataset()))
    unknown = {name: METADATA[name] for name in ("sfreq", "n_samples")}
    found = list(differences(Checkpoint({}, unknown), dataset()))
    assert found == ["how its signals were cleaned is not recorded"]


@pytest.mark.parametrize(
    ("label", "here", "says"),
    [
        ({"kind": "task"}, {"n_samples": 400}, "2 s, found 4 s; .*ingestion.windows.seconds=2$"),
        ({"kind": "task"}, {"sfreq": 128.0}, "100 Hz, found 128 Hz; .*cleaning.sfreq=100$"),
        ({"kind": "event", "column": "x"}, {"sfreq": 128.0}, "cleaning.sfreq=100$"),
        ({"kind": "event", "column": "x"}, {"n_samples": 400}, None),
    ],
)
def test_windows_that_do_not_fit_are_refused(label, here, says):
    arguments = Checkpoint({}, METADATA), dataset(**here), LabelParams.model_validate(label)
    if says is None:
        check_label_windows(*arguments)
    else:
        with pytest.raises(UserError, match=says):
            check_label_windows(*arguments)
