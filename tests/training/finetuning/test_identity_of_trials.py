"""A run is gone on with only where its trials are the same."""

from types import SimpleNamespace

import numpy as np
import pytest
from finetuning_runs import CPU, dataset_of, recipe_of

from hbn_foundation.training.finetune import FineTuningJob

CHECKPOINT = SimpleNamespace(metadata={"run_id": "parent"})


@pytest.fixture
def identity_of(data, tmp_path, monkeypatch):
    """Return what a run would be recognised by, without training."""
    store, windows, splits = data
    windows = windows.assign(rt=np.linspace(0.5, 2.5, len(windows)))

    def identity(kind: str, change: float = 0.0):
        column = {"kind": kind, "column": "rt"} if kind == "trial" else {"kind": kind}
        dataset = dataset_of((store, windows.assign(rt=windows["rt"] + change), splits))
        return FineTuningJob(dataset, recipe_of(label=column), CPU, CHECKPOINT).identity()

    return identity


def test_other_response_times_are_another_run(identity_of):
    assert identity_of("trial") == identity_of("trial")
    assert identity_of("trial") != identity_of("trial", 0.1)
    # what is not learned does not matter
    assert identity_of("task") == identity_of("task", 0.1)
