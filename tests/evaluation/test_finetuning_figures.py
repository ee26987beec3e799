"""Figures of fine-tuning show what their tables say, and survive what is missing."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from hbn_foundation.evaluation.finetuning_comparison import comparison_table
from hbn_foundation.evaluation.finetuning_figures import (
    answers_figure,
    comparison_figure,
    finetuning_figure,
)
from hbn_foundation.evaluation.rate_figure import lr_curves

BLOCKS = ["tokens", "block_0", "block_1", "head"]


def rates(epochs: int = 8, join: int = 3) -> pd.DataFrame:
    rows = []
    for step in range(epochs * 10):
        epoch = step / 10
        for block in BLOCKS:
            trained = block == "head" or epoch >= join
            peak = 1e-3 if block == "head" else 1e-4
            shape = 0.5 * (1 + np.cos(np.pi * epoch / epochs)) + 0.01
            rows.append((step, epoch, block, peak * shape if trained else 0.0, trained))
    return pd.DataFrame(rows, columns=["step", "epoch", "block", "rate", "trained"])


def history(epochs: int = 10) -> pd.DataFrame:
    number = np.arange(epochs)
    table = pd.DataFrame({"epoch": number + 1, "train_loss": 0.7 * 0.8**number})
    table["validation_loss"] = 0.7 * 0.9**number
    table["auroc"], table["f1"] = 0.9 - 0.4 * 0.7**number, 0.85 - 0.4 * 0.7**number
    table["fisher_ratio"] = 0.1 * number
    table["trainable"] = ["head"] * 3 + ["block_1,head"] * (epochs - 3)
    table["update_head"], table["update_block_1"] = 1e-2, np.where(number < 3, 0, 1e-4)
    return table


def labels_of(panel) -> list[str]:
    return [str(line.get_label()) for line in panel.lines]


def test_blocks_that_share_a_curve_share_a_line():
    panel = lr_curves(rates()).axes[0]
    assert labels_of(panel)[:2] == ["head", "tokens to block_1 (3)"]
    assert [text.get_text() for text in panel.texts] == ["+ tokens to block_1 (3)"]
    marks = [line for line in panel.lines if line.get_linestyle() == "--"]
    assert [line.get_xdata()[0] for line in marks] == [3.0]
    frozen = panel.lines[1].get_ydata()[:30]
    assert np.isnan(frozen).all()


def test_nothing_joins_and_one_block_only():
    table = rates()
    lr_curves(table[table["block"] == "head"]).canvas.draw()
    assert not lr_curves(rates(join=0)).axes[0].texts


def test_phases_are_marked_where_blocks_join():
    figure = finetuning_figure(history())
    figure.canvas.draw()
    for panel in figure.axes:
        marks = [line.get_xdata()[0] for line in panel.lines if line.get_linestyle() == "--"]
        assert marks == [3.5]
    assert "join after epoch 3" in figure.texts[-1].get_text()


def test_a_history_with_little_in_it():
    finetuning_figure(history()[["epoch", "train_loss"]]).canvas.draw()
    finetuning_figure(history()[:0]).canvas.draw()


def test_numbers_and_classes_are_answered_in_their_own_figure():
    random = np.random.default_rng(0)
    values = np.repeat(np.arange(8.0), 10)
    table = pd.DataFrame(
        {"recording": np.repeat(list("abcdefgh"), 10), "subject": np.repeat(list("abcd"), 20),
         "value": values, "predicted": 0.5 * values + random.normal(size=80)}
    )  # fmt: skip
    figure = answers_figure(table)
    figure.canvas.draw()
    assert len(figure.axes[1].lines[-1].get_xdata()) == 8
    assert "NRMSE" in figure.axes[0].get_title(loc="left")
    classes = table.assign(label="a", predicted="a").drop(columns="value")
    classes = classes.assign(**{"p(a)": 0.8, "p(b)": 0.2})
    assert "predicted" in answers_figure(classes).axes[0].get_xlabel()
    assert len(answers_figure(classes).axes) == 2
    # trials of one recording have no common class
    mixed = answers_figure(classes.assign(label=["a", "b"] * 40))
    assert [axes.get_title(loc="left")[:10] for axes in mixed.axes] == ["80 windows"]


@pytest.mark.parametrize("score", ["window_auroc", "nrmse"])
def test_every_method_has_a_row(score):
    random = np.random.default_rng(0)
    folds = pd.DataFrame(
        [
            {"repeat": 0, "fold": fold, "seed": seed, "method": method, "n_train": 12,
             "n_test": 4, score: level + random.normal(0, 0.03)}
            for fold in range(5)
            for seed in range(2)
            for method, level in {"two_phase": 0.8, "scratch": 0.7, "riemann": 0.75}.items()
        ]
    )  # fmt: skip
    summary = comparison_table(folds, score)
    figure = comparison_figure(folds, summary, score)
    figure.canvas.draw()
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert sorted(names) == ["Riemannian broadband", "from scratch", "two phases"]
    comparison_figure(folds[:0], summary[:0], score).canvas.draw()
