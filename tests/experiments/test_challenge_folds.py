"""Both challenges over the same folds: each subject tested once, encoders shared, nothing twice."""

from __future__ import annotations

import pytest
from fold_data import CPU, INLINE

from hbn_foundation.errors import UserError
from hbn_foundation.evaluation.preflight import check_challenge
from hbn_foundation.evaluation.recipes import Challenge1Recipe, Challenge2Recipe, FoundationRecipe
from hbn_foundation.evaluation.tasks.factors import score_factors
from hbn_foundation.evaluation.tasks.response_times import score_response_times
from hbn_foundation.experiments.learning_curve import cross_validate_challenge
from hbn_foundation.labels.params import LabelParams
from hbn_foundation.signals.dataset import EEGDataset
from hbn_foundation.signals.params import WindowParams
from hbn_foundation.signals.windows import cut_windows
from planted_trials import FACTORS, dataset_of, plant

pytestmark = pytest.mark.usefixtures("forked_trainings")

REPEATS = {"folds": 2, "repeats": 1, "n_jobs": 1}
SHORT = {"epochs": 1, "batch_size": 32, "precision": "32", "monitor": "loss"}
NUMBERS = {n: {"kind": "participant", "column": n, "type": "regression"} for n in FACTORS}


@pytest.fixture(scope="module")
def learned(tmp_path_factory) -> EEGDataset:
    """Windows of trials, with the factors of their subjects."""
    data = dataset_of(plant(tmp_path_factory.mktemp("planted")))
    windows = data.windows.merge(data.participants[["subject", *FACTORS]], on="subject")
    return data.replace(windows=windows)


@pytest.fixture(scope="module")
def dataset(learned) -> EEGDataset:
    window = WindowParams(seconds=2.0, stride=4.0)
    return learned.replace(windows=cut_windows(learned.store, window), window=window)


def recipes(folder) -> tuple[FoundationRecipe, Challenge1Recipe, Challenge2Recipe]:
    """Small ones whose results lie in a folder."""
    foundation = {
        "encoder": {"hidden_dim": 16, "n_heads": 2, "n_layers": 1},
        "trainer": {"epochs": 1, "batch_size": 32, "precision": "32", "warmup_steps": 2,
                    "work_dir": str(folder)},
    }  # fmt: skip
    shared = {
        "trainer": {**SHORT, "work_dir": str(folder / "challenge")},
        "plan": {"strategy": "full"},
        "evaluation": {"baselines": ["constant", "age_sex"], "repeats": REPEATS, "bootstraps": 20},
    }
    times = {"kind": "trial", "column": "rt", "type": "regression"}
    more = {name: {"label": NUMBERS[name]} for name in FACTORS[:-1]}
    return (
        FoundationRecipe.model_validate(foundation),
        Challenge1Recipe.model_validate({**shared, "label": times}),
        Challenge2Recipe.model_validate(
            {**shared, "label": NUMBERS[FACTORS[-1]], "more_targets": more}
        ),
    )


def test_every_subject_is_tested_once_by_models_new_to_it(dataset, learned, tmp_path):
    foundation, times, factors = recipes(tmp_path)

    def run(recipe):
        return cross_validate_challenge(dataset, learned, foundation, recipe, False, CPU, INLINE)

    found = run(times)
    scores = score_response_times(found, times.evaluation)
    of_model = scores.predictions[scores.predictions["method"] == "fine_tuned"]
    assert sorted(of_model["start"]) == sorted(learned.windows["start"])
    assert scores.metrics["n_subjects"] == 28
    assert scores.metrics["folds"] == 2
    assert set(scores.scores["method"]) >= {"fine_tuned", "constant", "age_sex"}
    encoders = list(tmp_path.glob("folds/encoders/??/*"))
    assert len(encoders) == 2
    kept = {path: path.stat().st_mtime_ns for path in encoders}
    of_factors = score_factors(run(factors), factors.evaluation)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("folds/encoders/??/*")} == kept
    subjects = of_factors.predictions.groupby("method")["subject"].nunique()
    assert set(subjects) == {28}
    assert found.table.equals(run(times).table)  # from what is kept


def few(dataset, n: int) -> EEGDataset:
    """A dataset in which the factors are known of so many test subjects."""
    tested = dataset.splits.loc[dataset.splits["split"] == "test", "subject"]
    unknown = dataset.windows["subject"].isin(tested[n:])
    windows = dataset.windows.copy()
    windows.loc[unknown, list(FACTORS)] = float("nan")
    return dataset.replace(windows=windows)


def test_what_the_split_cannot_score_is_found_before_training(dataset, learned, tmp_path):
    _, times, factors = recipes(tmp_path)
    label = LabelParams()
    one = factors.model_copy(
        update={"evaluation": factors.evaluation.model_copy(update={"repeats": None})}
    )
    check_challenge(dataset, few(learned, 2), one, label)
    with pytest.raises(UserError, match=(
        r"participants: externalizing is known of 1 test subject with windows; expected 2 or more; "
        r"challenge2\.evaluation\.repeats\.folds=5 tests each subject once"
    )):  # fmt: skip
        check_challenge(dataset, few(learned, 1), one, label)
    check_challenge(dataset, few(learned, 1), factors, label)  # the folds score it
    check_challenge(dataset, learned, times, label)
    for asked in ({"keep_head": True}, {"checkpoint": "finetuning_checkpoint"}):
        check_challenge(dataset, learned, one.model_copy(update=asked), label)
        (key,) = asked
        with pytest.raises(UserError, match=rf"repeats, challenge1\.{key}=.* begin from encoders"):
            check_challenge(dataset, learned, times.model_copy(update=asked), label)
