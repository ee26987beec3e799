"""A two-dimensional map of the encoder's features of windows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from hbn_foundation.errors import count_of
from hbn_foundation.evaluation.figures import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_SUBJECTS = 8
MAX_LENGTH = 40  # characters of a name
WIDTH = 75  # characters beside each other below a map


def embedding_figure(embedding: pd.DataFrame) -> Figure:
    """Draw the same map twice: coloured by label, and by subject.

    A map that separates subjects but not labels shows features that identify persons.

    Parameters
    ----------
    embedding
        `x`, `y`, `label`, `split`, `subject` of each window.
    """
    subjects = embedding.loc[embedding["split"] == "test", "subject"]
    shown = set(sorted(subjects.unique())[:MAX_SUBJECTS])
    named = ("sub-" + subjects).where(subjects.isin(shown), "other test subjects")
    by = {
        "Coloured by label (large: test subjects)": embedding["label"],
        "Coloured by test subject": named.reindex(embedding.index, fill_value="train, validation"),
    }
    table = embedding.sample(frac=1, random_state=0)  # no class on top of another
    sizes = (table["split"] == "test").map({True: 18, False: 8})
    with style.styled():
        figure, axes = style.new_figure(1, 2, panel=(5.0, 5.2))
        style.heading(
            figure,
            "Windows in the encoder's space",
            f"{len(table):,} windows of {count_of(table['subject'].nunique(), 'subject')} in two "
            "dimensions; distances across the map mean little, neighbourhoods do",
        )
        for panel, (title, groups) in zip(axes, by.items(), strict=True):
            panel.set_title(title)
            names = sorted(groups.unique())
            colours = {name: style.CYCLE[k % len(style.CYCLE)] for k, name in enumerate(names)}
            colours |= {"other test subjects": style.MUTED, "train, validation": style.PALE}
            panel.scatter(table["x"], table["y"], s=sizes, c=groups[table.index].map(colours), lw=0,
                          alpha=0.75)  # fmt: skip
            for name in names:
                panel.scatter([], [], c=colours[name], label=style.shorten(name, MAX_LENGTH))
            panel.set_xticks([])
            panel.set_yticks([])
            panel.grid(False)
            longest = min(max(map(len, names)), MAX_LENGTH)
            panel.legend(
                loc="upper left", bbox_to_anchor=(0, -0.01), handletextpad=0.2, columnspacing=1.0,
                borderaxespad=0.2, ncols=min(4, max(1, WIDTH // (longest + 5))),
            )  # fmt: skip
    return figure
