"""Choose the windows that are scored: labelled, in a split, not too many, the same for all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from hbn_foundation.errors import UserError
from hbn_foundation.evaluation.methods import display_name
from hbn_foundation.evaluation.params import BaselineParams, EvaluationParams
from hbn_foundation.labels.params import SPLITS
from hbn_foundation.labels.targets import UNKNOWN, window_labels
from hbn_foundation.signals.windows import subsample
from hbn_foundation.training.control import shuffle_within

if TYPE_CHECKING:
    from hbn_foundation.signals.dataset import EEGDataset
    from hbn_foundation.signals.params import ContextParams

PLACE = ["recording", "start"]


class Sample(NamedTuple):
    """Windows that methods are fitted and scored on."""

    table: pd.DataFrame  # with their `split`: training, validation, then test windows
    counts: dict[str, dict[str, int]]  # by split: `windows`, `of` how many, `subjects`
    classes: tuple[str, ...] = ()  # names of the classes, where windows have one as `label`

    @property
    def test(self) -> pd.DataFrame:
        """The test windows."""
        return self.table[self.table["split"] == "test"].reset_index(drop=True)

    def about(self, dataset: EEGDataset, context: ContextParams | None = None) -> dict[str, Any]:
        """Give the counts of windows and channels, and the context, for the metrics."""
        return {
            "sample": self.counts,
            "n_channels": len(dataset.store.positions),
            "context": context.text if context else "",
        }


def choose_windows(
    windows: pd.DataFrame,
    splits: pd.DataFrame,
    known: np.ndarray,
    params: BaselineParams,
    what: str,
    *,
    subsample_test: bool = False,
) -> Sample:
    """Take the windows that are labelled and in a split, each split subsampled evenly.

    Windows with a label are `known` (N,), `what` names it for the message. The test windows are
    subsampled only where `subsample_test` says so.

    Raises
    ------
    UserError
        When a split has no labelled window.
    """
    split = windows["subject"].map(splits.set_index("subject")["split"])
    parts, counts = [], {}
    for number, name in enumerate(SPLITS):
        part = windows[(split == name).to_numpy() & known]
        if part.empty:
            raise UserError(f"evaluation: no window of the {name} subjects has a known {what}")
        places = np.arange(len(part))
        if subsample_test or name != "test":
            places = subsample(len(part), params.max_windows, params.seed + number)
        counts[name] = {"windows": len(places), "of": len(part),
                        "subjects": part["subject"].nunique()}  # fmt: skip
        parts.append(part.iloc[places].assign(split=name))
    return Sample(pd.concat(parts, ignore_index=True), counts)


def labelled_windows(
    windows: pd.DataFrame,
    splits: pd.DataFrame,
    participants: pd.DataFrame,
    params: EvaluationParams,
) -> Sample:
    """Label the windows of the three splits and subsample each evenly to at most `max_windows`.

    Raises
    ------
    UserError
        When the label cannot be made, or a split has no labelled window.
    """
    split = windows["subject"].map(splits.set_index("subject")["split"])
    table = windows[split.notna()].assign(split=split.dropna()).reset_index(drop=True)
    train_subjects = splits.loc[splits["split"] == "train", "subject"]
    values, classes = window_labels(table, participants, params.label, train_subjects)
    if params.shuffle_labels:
        groups = table["recording" if params.label.kind == "task" else "subject"].astype(str)
        if params.label.kind == "event":
            groups = table["recording"].astype(str) + " " + table["event_number"].astype(str)
        inside = table["split"].to_numpy(dtype=str)
        values = shuffle_within(values, groups.to_numpy(), inside, params.seed)
    chosen = choose_windows(
        table.assign(label=values), splits, values != UNKNOWN, params,
        params.label.column or "task", subsample_test=True,
    )  # fmt: skip
    return chosen._replace(classes=classes)


def with_columns(windows: pd.DataFrame, people: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Put what is known of a window's subject beside it, NaN where nothing is known."""
    known = people.assign(subject=people["subject"].astype(str)).set_index("subject")[columns]
    of_windows = known.reindex(windows["subject"].astype(str)).reset_index(drop=True)
    bare = windows.drop(columns=columns, errors="ignore").reset_index(drop=True)
    return pd.concat([bare, of_windows], axis=1)


def matched(
    predictions: pd.DataFrame, test: pd.DataFrame, columns: list[str], method: str
) -> pd.DataFrame:
    """Bring columns of predictions into the order of the test windows, each of which has one.

    Windows are told by `recording` and `start`; `method` is for the message.

    Raises
    ------
    UserError
        When a column is missing, a window has no prediction, two, or one that is not finite, or a
        prediction is of no test window.
    """
    name = f"predictions of {display_name(method)}"
    missing = [column for column in [*PLACE, *columns] if column not in predictions]
    if missing:
        raise UserError(f"{name}: no column {missing[0]}; expected {', '.join(columns)}")
    found, wanted = (pd.MultiIndex.from_frame(table[PLACE]) for table in (predictions, test))
    result = predictions[columns].set_axis(found).astype(float)
    wrong = found[~np.isfinite(result.to_numpy()).all(1)]
    for places, what in (
        (found[found.duplicated()], "is predicted twice"),
        (wanted.difference(found), "has no prediction"),
        (found.difference(wanted), "is predicted, but is no test window"),
        (wrong, "has a prediction that is not finite"),
    ):
        if len(places):
            recording, start = places[0]
            raise UserError(
                f"{name}: the window of {recording} from sample {start} on {what} "
                f"({len(places)} such windows)"
            )
    return result.loc[wanted].reset_index(drop=True)
