"""What changes the weights of an encoder changes the key of its job, and nothing else does."""

from __future__ import annotations

from fold_data import CPU, INLINE, PRETRAINING
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hbn_foundation.evaluation.params import RepeatParams
from hbn_foundation.experiments.folds import make_folds, stores_in
from hbn_foundation.experiments.grid import with_values
from hbn_foundation.experiments.params import ExperimentParams
from hbn_foundation.labels.params import LabelParams
from hbn_foundation.training.recipes import PretrainingRecipe

#: Parameters of a pretraining, another value of each, and whether the weights depend on it.
PARAMETERS = {
    "encoder.hidden_dim": (64, True),
    "encoder.n_layers": (2, True),
    "objective.gain": (0.3, True),
    "trainer.seed": (3, True),
    "trainer.epochs": (4, True),
    "trainer.learning_rate": (2e-3, True),
    "trainer.batch_size": (16, True),
    "trainer.work_dir": ("elsewhere", False),
    "trainer.resume": (False, False),
    "trainer.checkpoint_keep": (5, False),
    "trainer.keep_unfinished": (7, False),
    "trainer.max_training_time": (77.0, False),
    "supervision.max_restarts": (9, False),
    "hardware.device": ("cpu", False),
}
changes = st.sets(st.sampled_from(sorted(PARAMETERS)), max_size=4)
engines = st.sampled_from([INLINE, ExperimentParams(workers=3, retries=7, threads=2)])


def changed(names):
    content = PRETRAINING.model_dump(mode="json")
    values = {name: PARAMETERS[name][0] for name in names}
    return PretrainingRecipe.model_validate(with_values(content, values, "test"))


def folds_of(dataset, folder, recipe=PRETRAINING, engine=INLINE):
    return make_folds(
        dataset, recipe, RepeatParams(folds=3), stores_in(folder, engine),
        device_plan=CPU, label=LabelParams(),
    )  # fmt: skip


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(names=changes, engine=engines, folder=st.sampled_from(["here", "there"]))
def test_the_key_of_an_encoder(dataset, tmp_path, names, engine, folder):
    base = {fold.job.key for fold in folds_of(dataset, tmp_path)}
    found = {fold.job.key for fold in folds_of(dataset, tmp_path / folder, changed(names), engine)}
    assert len(found) == len(base)  # each fold has its own
    counts = any(PARAMETERS[name][1] for name in names)
    assert (not found & base) if counts else (found == base)
