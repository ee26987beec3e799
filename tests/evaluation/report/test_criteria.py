"""Criteria are met or not met, undecided or not applicable, and ask for nothing."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from score_tables import factor_scores, history, time_scores

from hbn_foundation.evaluation.frame import by_method
from hbn_foundation.evaluation.report.criteria import (
    MET,
    NOT_APPLICABLE,
    NOT_MET,
    UNDECIDED,
    factor_criteria,
    foundation_criteria,
    response_time_criteria,
)

PROBE = "balanced, of the frozen probe; optimistic, for its strength was chosen on these subjects"


def probe(balanced_accuracy, confusion_matrix):
    """Of validation subjects; what the test subjects give decides nothing."""
    found = {"balanced_accuracy": balanced_accuracy, "confusion_matrix": confusion_matrix}
    return {"pretrained": {"balanced_accuracy": 0.99, "validation": found}}


METRICS = {
    "probe": probe(0.65, [[70, 30], [40, 60]]),
    "subjects": {"train": 20, "validation": 10, "test": 10},
    "model": {"megabytes": 13.8},
    "pretext": {"test": {"improvement": 0.1}},
    "objective": {"shuffled": False},
    "label": {"shuffled": False},
    "missing": {},
}


def judged(run, metrics=METRICS, objective="band_completion", stopped="all epochs"):
    checkpoint = SimpleNamespace(metadata={"objective": objective, "stopped": stopped})
    return foundation_criteria(run, metrics, checkpoint).set_index("criterion")


def test_a_self_supervised_run():
    table = judged(history([1.0, 0.5, 0.4, 0.3]))
    assert table["verdict"].tolist() == [
        MET, NOT_APPLICABLE, MET, NOT_MET, NOT_MET, MET, MET, NOT_MET,
    ]  # fmt: skip
    assert table["value"].tolist()[2] == f"65.0% ({PROBE}), lowest recall 60%"
    nothing = {**METRICS, "probe": probe(None, [[9]]), "pretext": {"test": {}}}
    table = judged(history([]), {**nothing, "missing": {"choice": "one class"}})
    assert set(table["verdict"].drop("size of the encoder")) == {NOT_APPLICABLE}
    assert table.loc["validation accuracy", "value"] == "one class only"


@pytest.mark.parametrize("n", [1, 9, 10])
def test_a_verdict_needs_ten_subjects(n):
    table = judged(history([1.0, 0.5]), {**METRICS, "subjects": {"validation": n, "test": n}})
    of_people = table.index.str.contains("accuracy|pretext")
    expected = [UNDECIDED] * 3 if n < 10 else [MET, NOT_MET, NOT_MET]
    assert table.loc[of_people, "verdict"].tolist() == expected
    assert UNDECIDED not in set(table.loc[~of_people, "verdict"])  # of loss, time and size


def test_a_class_that_is_missed_is_no_success():
    row = judged(history([1.0, 0.5]), {**METRICS, "probe": probe(0.61, [[99, 1], [77, 23]])})
    assert row.loc["validation accuracy"].tolist() == [
        "> 60%, each class recalled above 50%",
        f"61.0% ({PROBE}), lowest recall 23%", NOT_MET,
    ]  # fmt: skip


def test_a_binary_task_takes_its_own_accuracy():
    run = history([0.69, 0.5, 0.28, 0.281, 0.282], accuracy=[0.5, 0.6, 0.75, 0.7, 0.7],
                  trivial_loss=0.693)  # fmt: skip
    stopped = "no better validation for 2 validations"
    table = judged(run, objective="task_classification", stopped=stopped)
    assert table.loc["training loss of a binary task", "verdict"] == MET
    assert table.loc["validation accuracy", "value"] == "75.0%"
    assert table.loc["convergence", "verdict"] == MET
    assert "stopped early" in table.loc["convergence", "value"]


def test_a_control_meets_no_criterion():
    run = history([0.69, 0.2], accuracy=[0.5, 0.75], trivial_loss=0.693)
    shuffled = {**METRICS, "objective": {"shuffled": True}}
    table = judged(run, shuffled, "task_classification")
    control = table[table["value"].str.contains("labels shuffled")]
    assert len(control) == 4
    assert set(control["verdict"]) == {NOT_APPLICABLE}
    table = judged(history([1.0, 0.5]), {**METRICS, "label": {"shuffled": True}})
    assert table["verdict"].tolist()[2:5] == [NOT_APPLICABLE, NOT_APPLICABLE, NOT_MET]


def test_the_challenges_have_theirs():
    scores = by_method(time_scores())
    people = {"n_subjects": 10}
    judged = response_time_criteria(scores, people)
    assert judged["threshold"].tolist() == ["> 0.3", "> 0.7"]
    assert judged["verdict"].tolist() == [MET, NOT_MET]
    for problem, said, verdict in ((None, "valid", MET), ("no rows", "no rows", NOT_MET)):
        last = response_time_criteria(scores, {"n_subjects": 12, "table_problem": problem}).iloc[-1]
        assert last.tolist()[1:] == ["valid", said, verdict]
    none = scores.assign(auroc=np.nan)
    assert response_time_criteria(none, people)["verdict"].tolist() == [MET, NOT_APPLICABLE]
    parts = factor_scores().groupby("target", sort=False)
    rows = pd.DataFrame([by_method(part).iloc[0].to_dict() | {"factor": name}
                         for name, part in parts])  # fmt: skip
    rows["subject_r"] = [0.1, 0.18, 0.25]
    table = factor_criteria(rows, people)
    assert table["criterion"].iloc[0].startswith("mean of the factors")
    assert table["threshold"].tolist() == ["> 0.2", "> 0.15", "> 0.15"]
    assert table["verdict"].tolist() == [MET, NOT_MET, MET]
    assert set(factor_criteria(rows, {"n_subjects": 9})["verdict"]) == {UNDECIDED}
