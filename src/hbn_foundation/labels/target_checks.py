"""Make sure that every split can serve what is learned, before anything is trained."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pandas as pd

from hbn_foundation.errors import UserError
from hbn_foundation.labels.targets import WindowTargets
from hbn_foundation.labels.wording import some
from hbn_foundation.progress import say


def check_targets(
    targets: WindowTargets,
    windows: pd.DataFrame,
    splits: pd.DataFrame,
    needed: Collection[str] = ("train", "validation"),
) -> None:
    """Make sure that the splits have what training and choosing need; tell what scoring lacks.

    Parameters
    ----------
    targets
        Values of the windows.
    windows
        Windows table with `subject`, in the same order.
    splits
        `subject` and `split`.
    needed
        Splits in which every class has to occur, and numbers have to differ.

    Raises
    ------
    UserError
        One line: a split without a known value, a class without a subject in a split, or one
        number only.
    """
    split = windows["subject"].map(splits.set_index("subject")["split"]).to_numpy(dtype=object)
    tested = targets.values[(split == "test") & targets.known]
    if len(tested) and not targets.is_regression and "test" not in needed:
        absent = [name for k, name in enumerate(targets.names) if k not in tested]
        if absent:
            say(
                f"labels: no test subject has the class {', '.join(absent)}: scores that compare "
                "classes leave it out, or are missing"
            )
    for name in needed:
        inside = (split == name) & targets.known
        values = targets.values[inside]
        if not len(values):
            raise UserError(f"labels: no window of the {name} subjects has a known label")
        if targets.is_regression:
            if len(np.unique(values)) < 2:
                raise UserError(
                    f"labels: two different values of {targets.names[0]} or more are needed among "
                    f"the {name} subjects, found {values[0]:g} only; divide the subjects otherwise"
                )
            continue
        absent = [targets.names[k] for k in range(len(targets.names)) if k not in values]
        if absent:
            found = some(targets.names[k] for k in np.unique(values))
            raise UserError(
                f"labels: no {name} subject has the class {', '.join(absent)}, only {found}; "
                "divide the subjects otherwise (splits.seed, splits.method) or join classes "
                "by positive"
            )
