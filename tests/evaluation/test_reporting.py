"""Criteria, report and figures from the tables of a run."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from hbn_foundation.evaluation.confusion_figure import confusion_figure
from hbn_foundation.evaluation.criteria import MET, NOT_APPLICABLE, NOT_MET, criteria_table
from hbn_foundation.evaluation.embedding_figure import embedding_figure
from hbn_foundation.evaluation.figures import foundation_figures
from hbn_foundation.evaluation.foundation import evaluate_foundation
from hbn_foundation.evaluation.pretext import improvements
from hbn_foundation.evaluation.report import folds_text, report_text, show, table, verdict
from hbn_foundation.evaluation.score_figure import score_figure
from hbn_foundation.evaluation.tables import fold_table, summarise_folds


@pytest.fixture(scope="module")
def scored(toy, pretrained, quick):
    return evaluate_foundation(pretrained[0], *toy, quick)


def history(losses, **columns) -> pd.DataFrame:
    n = len(losses)
    table = {"epoch": range(1, n + 1), "train_loss": losses, "validation_loss": losses,
             "learning_rate": 1e-3, "seconds": 60.0}  # fmt: skip
    return pd.DataFrame({**table, **columns})


def checkpoint(objective: str, stopped: str = "all epochs"):
    return SimpleNamespace(metadata={"objective": objective, "stopped": stopped})


METRICS = {
    "probe": {"pretrained": {"balanced_accuracy": 0.65, "confusion_matrix": [[70, 30], [40, 60]]}},
    "subjects": {"train": 20, "validation": 10, "test": 10},
    "model": {"megabytes": 13.8},
    "pretext": {"test": {"improvement": 0.1}},
}


def verdicts(table: pd.DataFrame) -> list[str]:
    return table["verdict"].tolist()


def test_criteria_of_a_self_supervised_run():
    table = criteria_table(history([1.0, 0.5, 0.4, 0.3]), METRICS, checkpoint("band_completion"))
    assert verdicts(table) == [
        MET, NOT_APPLICABLE, MET, NOT_MET, NOT_MET, MET, MET, NOT_MET,
    ]  # fmt: skip
    assert table["value"].tolist()[2] == "65.0%, lowest recall 60%"


@pytest.mark.parametrize("n", [1, 9, 10])
def test_a_verdict_needs_ten_subjects(n):
    metrics = {**METRICS, "subjects": {"validation": n, "test": n}}
    table = criteria_table(history([1.0, 0.5]), metrics, checkpoint("band_completion"))
    of_people = table[table["criterion"].str.contains("accuracy|pretext")]["verdict"]
    assert of_people.tolist() == (["undecided"] * 3 if n < 10 else [MET, NOT_MET, NOT_MET])
    alone = table[~table["criterion"].str.contains("accuracy|pretext")]["verdict"]
    assert "undecided" not in set(alone)  # of loss, time and size


def test_a_class_that_is_missed_is_no_success():
    probe = {"balanced_accuracy": 0.61, "confusion_matrix": [[99, 1], [77, 23]]}
    metrics = {**METRICS, "probe": {"pretrained": probe}}
    table = criteria_table(history([1.0, 0.5]), metrics, checkpoint("band_completion"))
    row = table.set_index("criterion").loc["balanced accuracy of the probe"]
    assert row["aim"] == "> 60%, each class recalled above 50%"
    assert row["value"] == "61.0%, lowest recall 23%"
    assert row["verdict"] == NOT_MET


def test_criteria_of_a_binary_task_take_its_own_accuracy():
    run = history(
        [0.69, 0.5, 0.28, 0.281, 0.282], accuracy=[0.5, 0.6, 0.75, 0.7, 0.7], trivial_loss=0.693
    )
    stopped = "no better validation for 2 validations"
    table = criteria_table(run, METRICS, checkpoint("relative_positioning", stopped))
    by_name = table.set_index("criterion")
    assert by_name.loc["training loss of a binary task", "verdict"] == MET
    assert by_name.loc["validation accuracy", "value"] == "75.0%"
    assert by_name.loc["convergence", "verdict"] == MET
    assert "stopped early" in by_name.loc["convergence", "value"]


def test_criteria_without_anything_are_not_applicable():
    table = criteria_table(history([]), {}, checkpoint("band_completion"))
    assert set(verdicts(table)) == {NOT_APPLICABLE}


def test_a_control_meets_no_aim(scored):
    run = history([0.69, 0.2], accuracy=[0.5, 0.75], trivial_loss=0.693)
    metrics = {**METRICS, "objective": {"shuffled": True}}
    table = criteria_table(run, metrics, checkpoint("task_classification"))
    control = table[table["value"].str.contains("labels shuffled")]
    assert len(control) == 4
    assert set(control["verdict"]) == {NOT_APPLICABLE}
    metrics = {**METRICS, "label": {"shuffled": True}}
    table = criteria_table(history([1.0, 0.5]), metrics, checkpoint("band_completion"))
    assert verdicts(table)[2:5] == [NOT_APPLICABLE, NOT_APPLICABLE, NOT_MET]
    marked = {**scored.metrics, "objective": {"name": "masked", "shuffled": True}}
    assert "Pretext task, LABELS SHUFFLED" in report_text(marked, scored.scores, None, table)


def test_improvement_is_against_the_better_trivial_predictor():
    found = improvements({"loss": 0.6, "band_loss": 0.6, "trivial_copy": 0.8,
                          "trivial_band_mean": 1.0})  # fmt: skip
    assert found == {
        "improvement": pytest.approx(0.25),
        "improvement_band_loss": found["improvement"],
    }
    assert improvements({"loss": 0.7, "trivial_loss": 0.5})["improvement"] == pytest.approx(-0.4)
    assert improvements({"loss": 0.7}) == {}


def test_report_says_who_wins_and_who_loses(scored, pretrained, folds_of, capsys):
    checkpoint_, run = pretrained
    criteria = criteria_table(run, scored.metrics, checkpoint_)
    scores = {"pretrained": [0.80, 0.78, 0.82], "band_power": [0.81, 0.80, 0.82]}
    summary = summarise_folds(folds_of(scores))
    text = report_text(scored.metrics, scored.scores, summary, criteria)
    assert "The best baseline (log band power) beats the pretrained encoder by 0.010" in text
    assert "not significant" in text
    assert "No interval: 3 test subjects, an interval needs 10." in text
    assert f"All methods see all {scored.metrics['n_channels']} channels." in " ".join(text.split())
    assert "\x1b" not in text
    for name in scored.scores["name"]:
        assert name in text
    assert max(map(len, text.splitlines())) < 130
    show(text)
    assert "training time" in capsys.readouterr().out


def test_verdict_of_a_clear_win(folds_of):
    scores = {"pretrained": [0.80, 0.78, 0.82, 0.81], "band_power": [0.70, 0.69, 0.71, 0.72]}
    text = verdict(summarise_folds(folds_of(scores)))
    assert "leads the best baseline (log band power)" in text
    assert "in 4 of 4 folds" in text
    assert "Significantly ahead of: log band power." in text
    said = folds_text(summarise_folds(folds_of(scores)))
    assert "+25.0% against the best trivial predictor (folds: +10.0% to +40.0%)" in said
    assert "350 windows/s" in said


def test_scores_and_intervals_stay_on_one_line():
    header = ["method", "window AUROC", "recording", "balanced", "ahead by", "95 %", "folds",
              "p (Holm)"]  # fmt: skip
    row = ["Riemannian filter bank", *["0.774 ± 0.081"] * 3, "+0.018", "-0.040 to +0.076", "10/10",
           "1.000"]  # fmt: skip
    lines = table("Scores", header, [row]).splitlines()
    assert len(lines) == 4
    assert all(word in lines[-1] for word in row)


def test_report_names_a_split_without_pretext_windows(scored):
    metrics = {**scored.metrics, "pretext": {"test": {"n_windows": 0.0}}}
    criteria = criteria_table(history([]), metrics, checkpoint("relative_positioning"))
    text = report_text(metrics, scored.scores, None, criteria)
    assert "test subjects: no window can be used" in text


def test_report_survives_json_and_csv(scored, pretrained, tmp_path):
    """What the catalog writes and reads back must give the same report."""
    import json

    metrics = json.loads(json.dumps(scored.metrics))
    tables = []
    for number, one in enumerate((scored.scores, summarise_folds(fold_table([])), pretrained[1])):
        path = tmp_path / f"{number}.csv"
        one.to_csv(path, index=False)
        tables.append(pd.read_csv(path))
    criteria = criteria_table(tables[2], metrics, pretrained[0])
    before = criteria_table(pretrained[1], scored.metrics, pretrained[0])
    assert report_text(metrics, tables[0], tables[1], criteria) == report_text(
        scored.metrics, scored.scores, None, before
    )


@pytest.mark.parametrize("repeated", [True, False])
def test_figures_are_drawn(scored, pretrained, folds_of, tmp_path, repeated):
    folds = folds_of({"pretrained": [0.8, 0.7], "riemann": [0.6, 0.65]}) if repeated else None
    figures = foundation_figures(
        pretrained[1], scored.scores, scored.predictions, scored.embedding, folds
    )
    assert list(figures) == ["training_curves", "scores", "confusion_matrix", "embedding"]
    for name, figure in figures.items():
        figure.savefig(tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").stat().st_size > 10_000
    methods = [label.get_text() for label in figures["scores"].axes[0].get_yticklabels()]
    assert ("Riemannian broadband" in methods) is True
    assert len(methods) == (2 if repeated else len(scored.scores))


def test_figures_say_that_there_is_no_score(scored):
    scores = scored.scores.assign(window_auroc=np.nan, recording_auroc=np.nan,
                                  balanced_accuracy=np.nan)  # fmt: skip
    said = [text.get_text() for text in score_figure(scores).texts]
    assert any("no score: its test subjects have one class only" in text for text in said)
    one = scored.predictions.iloc[:1]
    titles = [axes.get_title(loc="left") for axes in confusion_figure(one).axes]
    assert [title.split("\n") for title in titles] == [
        ["1 window", "one class only"],
        ["1 recording", "one class only"],
    ]


def test_confusion_figure_counts_what_the_metrics_count(scored, pretrained):
    figures = foundation_figures(*(pretrained[1], scored.scores, scored.predictions,
                                   scored.embedding))  # fmt: skip
    texts = [text.get_text() for text in figures["confusion_matrix"].axes[0].texts]
    counts = [int(text.split("\n")[1].replace(",", "")) for text in texts]
    expected = scored.metrics["probe"]["pretrained"]["confusion_matrix"]
    assert counts == np.ravel(expected).tolist()


@pytest.mark.parametrize("classes", [["F", "M"], ["RestingState", "contrastChangeDetection"]])
def test_nothing_is_cut_or_hidden_where_names_are_long(classes):
    random = np.random.default_rng(0)
    names = random.choice(classes, 200)
    predictions = pd.DataFrame({"recording": [f"{n}-{i % 3}" for i, n in enumerate(names)],
                                "subject": "a", "label": names})  # fmt: skip
    predictions = predictions.assign(**{f"p({name})": random.random(200) for name in classes})
    confusion = confusion_figure(predictions)
    confusion.draw_without_rendering()
    assert [label.get_text() for label in confusion.axes[0].get_yticklabels()] == classes
    for axes in confusion.axes:
        for text in (axes._left_title, axes.xaxis.label, *axes.get_yticklabels()):
            assert inside(text, confusion), text.get_text()
    embedding = pd.DataFrame(
        {"x": random.random(200), "y": random.random(200), "label": names,
         "split": random.choice(["train", "validation", "test"], 200),
         "subject": random.choice([f"NDARAA{n:06}" for n in range(30)], 200)}
    )  # fmt: skip
    drawn = embedding_figure(embedding)
    drawn.draw_without_rendering()
    left, right = (axes.get_legend() for axes in drawn.axes)
    assert inside(left, drawn)
    assert inside(right, drawn)
    assert left.get_window_extent().x1 < right.get_window_extent().x0
    for axes in drawn.axes:
        assert axes.get_window_extent().width > 0.43 * drawn.bbox.width


def inside(artist, figure) -> bool:
    box = artist.get_window_extent()
    return box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1


def test_training_figure_of_two_families_gives_each_a_panel():
    from hbn_foundation.evaluation.training_figure import training_figure

    run = history([1.0, 0.9], band_loss=[0.6, 0.5], patch_loss=[0.9, 0.8], trivial_copy=0.7,
                  trivial_patch_mean=1.0)  # fmt: skip
    titles = [axes.get_title(loc="left") for axes in training_figure(run).axes]
    assert titles[:3] == ["Loss", "Spectra of the bands", "Hidden patches"]
    assert training_figure(history([])).axes
