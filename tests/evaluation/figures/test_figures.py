"""Figures of trainings and scores show what their tables say, and survive what is missing."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from score_tables import fold_table, history, probe_scores

from hbn_foundation.evaluation.figures.embedding import embedding_figure
from hbn_foundation.evaluation.figures.predictions import (
    factor_figure,
    predictions_figure,
    response_time_figure,
)
from hbn_foundation.evaluation.figures.scores import folds_figure, scores_figure
from hbn_foundation.evaluation.figures.style import styled
from hbn_foundation.evaluation.figures.training import (
    finetuning_figure,
    learning_rate_figure,
    pretraining_figure,
)
from hbn_foundation.evaluation.folds import comparison_table
from hbn_foundation.evaluation.frame import by_method

TITLES = {"window_auroc": "window AUROC", "recording_auroc": "recording AUROC"}


def rates(join: int = 3) -> pd.DataFrame:
    epoch = np.arange(80) / 10
    shape = 0.5 * (1 + np.cos(np.pi * epoch / 8)) + 0.01
    parts = []
    for block in ("tokens", "block_0", "block_1", "head"):
        trained = (epoch >= join) | (block == "head")
        rate = (1e-3 if block == "head" else 1e-4) * shape * trained
        parts.append(pd.DataFrame({"epoch": epoch, "block": block, "rate": rate,
                                   "trained": trained}))  # fmt: skip
    return pd.concat(parts)


def phases(epochs: int = 10) -> pd.DataFrame:
    n = np.arange(epochs)
    return history(list(0.7 * 0.8**n), auroc=0.9 - 0.4 * 0.7**n, fisher_ratio=0.1 * n,
                   trainable=["head"] * 3 + ["block_1,head"] * (epochs - 3),
                   phase=[1] * 3 + [2] * (epochs - 3), update_head=1e-2,
                   update_block_1=np.where(n < 3, 0, 1e-4))  # fmt: skip


def titles(figure) -> list[str]:
    figure.canvas.draw()
    return [panel.get_title(loc="left") for panel in figure.axes]


def rows_of(figure) -> list[str]:
    return [label.get_text() for label in figure.axes[0].get_yticklabels()]


def inside(artist, figure) -> bool:
    box = artist.get_window_extent()
    return box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1


def test_blocks_that_share_a_curve_share_a_line():
    panel = learning_rate_figure(rates()).axes[0]
    labels = [line.get_label() for line in panel.lines]
    assert labels[:2] == ["head", "tokens to block_1 (3)"]
    assert [text.get_text() for text in panel.texts] == ["+ tokens to block_1 (3)"]
    marks = [line for line in panel.lines if line.get_linestyle() == "--"]
    assert [line.get_xdata()[0] for line in marks] == [3.0]
    assert np.isnan(panel.lines[1].get_ydata()[:30]).all()
    learning_rate_figure(rates().query("block == 'head'")).canvas.draw()
    assert not learning_rate_figure(rates(join=0)).axes[0].texts


def test_curves_of_a_training():
    figure = finetuning_figure(phases())
    for panel in figure.axes:
        marks = [line.get_xdata()[0] for line in panel.lines if line.get_linestyle() == "--"]
        assert marks == [3.5]
    assert "2 phases; blocks are unfrozen after epoch 3" in figure.texts[-1].get_text()
    run = history([1.0, 0.9], band_loss=[0.6, 0.5], patch_loss=[0.9, 0.8], trivial_copy=0.7,
                  trivial_patch_mean=1.0)  # fmt: skip
    assert titles(pretraining_figure(run))[:3] == ["Loss", "Spectra of the bands", "Hidden patches"]
    for bare in (phases()[["epoch", "train_loss"]], phases()[:0], history([])):
        assert titles(finetuning_figure(bare))[0] == titles(pretraining_figure(bare))[0] == "Loss"


def test_every_method_has_a_row():
    scores = by_method(probe_scores())
    figure = scores_figure(scores, TITLES, "Frozen probe")
    assert rows_of(figure) == ["majority class", "Riemannian broadband", "pretrained encoder"]
    assert figure.axes[0].get_yticklabels()[-1].get_fontweight() == "bold"
    none = scores_figure(scores.assign(**dict.fromkeys(TITLES, np.nan)), TITLES, "Frozen probe")
    assert any("no score: its test subjects have one class only" in text.get_text()
               for text in none.texts)  # fmt: skip
    folds = fold_table({"two_phase": [0.8, 0.7], "scratch": [0.6, 0.65], "riemann": [0.7, np.nan]})
    summary = comparison_table(folds, "window_auroc")
    figure = folds_figure(folds, summary, TITLES, "Plans")
    assert rows_of(figure) == summary["name"].tolist()[::-1]
    assert titles(figure) == [*TITLES.values(), "ahead by"]
    assert titles(folds_figure(folds[:0], summary[:0], TITLES, "Plans"))


@pytest.mark.parametrize("classes", [["F", "M"], ["RestingState", "contrastChangeDetection"]])
def test_nothing_is_cut_or_hidden_where_names_are_long(classes):
    random = np.random.default_rng(0)
    names = random.choice(classes, 200)
    predictions = pd.DataFrame({"recording": [f"{n}-{i % 3}" for i, n in enumerate(names)],
                                "subject": "a", "label": names})  # fmt: skip
    predictions = predictions.assign(**{f"p({name})": random.random(200) for name in classes})
    confusion = predictions_figure(predictions)
    confusion.draw_without_rendering()
    assert rows_of(confusion) == classes
    answers = predictions[[f"p({name})" for name in classes]].to_numpy().argmax(1)
    counts = [int(text.get_text().split("\n")[1]) for text in confusion.axes[0].texts]
    truth = predictions["label"].map({name: k for k, name in enumerate(classes)})
    expected = [((truth == k) & (answers == j)).sum() for k in range(2) for j in range(2)]
    assert counts == expected
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


def test_numbers_and_classes_are_drawn_in_their_own_figure():
    random = np.random.default_rng(0)
    values = np.repeat(np.arange(8.0), 10)
    table = pd.DataFrame(
        {"recording": np.repeat(list("abcdefgh"), 10), "subject": np.repeat(list("abcd"), 20),
         "value": values, "predicted": 0.5 * values + random.normal(size=80)}
    )  # fmt: skip
    figure = predictions_figure(table)
    assert len(figure.axes[1].lines[0].get_xdata()) == 8
    assert "NRMSE" in titles(figure)[0]
    classes = table.drop(columns=["value", "predicted"]).assign(**{"p(a)": 0.8, "p(b)": 0.2})
    found = [title.split("\n") for title in titles(predictions_figure(classes.assign(label="a")))]
    assert [title[0] for title in found] == ["80 windows", "8 recordings"]
    assert {title[1] for title in found} == {"one class or value only: no score"}
    # trials of one recording have no common class
    assert len(titles(predictions_figure(classes.assign(label=["a", "b"] * 40)))) == 1


def test_the_challenges_bear_what_is_missing():
    random = np.random.default_rng(0)
    trials = pd.DataFrame(
        {"subject": np.repeat(list("abcd"), 6), "rt": random.normal(1.6, 0.3, 24)}
    )
    figure = response_time_figure(trials.assign(predicted_rt=trials["rt"] + 0.1))
    assert "better than the mean in 4 of 4 subjects" in [t.get_text() for t in figure.axes[1].texts]
    for few in (trials, trials.head(1)):
        assert titles(response_time_figure(few.assign(predicted_rt=1.5)))
    people = pd.DataFrame({"subject": list("abcdefgh"), "p_factor": np.arange(8.0), "age": np.nan,
                           "sex": np.nan, "predicted_p_factor": np.arange(8.0)})  # fmt: skip
    assert titles(factor_figure(people, ("p_factor",))) == ["p factor\nr 1.00, given age, sex –"]
    assert titles(factor_figure(people.assign(p_factor=np.nan), ("p_factor",)))


def test_style_leaves_other_figures_alone():
    import matplotlib as mpl

    before = mpl.rcParams["axes.grid"]
    with styled():
        assert mpl.rcParams["axes.grid"] is True
    assert mpl.rcParams["axes.grid"] == before
