"""Parameters of the subject splits, of the trials and of the labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from hbn_foundation.errors import as_text
from hbn_foundation.params import Params

SPLITS = ("train", "validation", "test")
TRIAL_NUMBERS = ("rt", "correct")
TRIAL_LABELS = (*TRIAL_NUMBERS, "side", "response_side")
"""Labels of trials: response time (s), success, side of the target and of the press."""
OF_EVENTS = ("values", "where", "windows", "margin", "stride", "offset")
"""Parameters of labels of events alone."""
TRAIN_RELEASES = ("R1", "R2", "R3", "R4", "R6", "R7", "R8", "R9", "R10", "R11")


class SplitParams(Params):
    """How the subjects are divided into training, validation and test."""

    method: Literal["auto", "hash", "stratified", "release"] = Field(
        "auto",
        description="auto: stratified below 200 subjects, hash from there on; decided at the "
        "first run, and who has been placed stays there; stratified: exact shares within what is "
        "learned of subjects, age, sex and site; hash: each subject by its own hash; release: by "
        "the release column.",
    )
    train: float = Field(0.7, gt=0, le=1, description="Share of the training subjects.")
    validation: float = Field(0.15, ge=0, lt=1, description="Share of the validation subjects.")
    test: float = Field(0.15, ge=0, lt=1, description="Share of the test subjects.")
    seed: int = Field(0, ge=0, description="Another seed gives another division.")
    stratify: tuple[str, ...] | None = Field(
        None,
        description="Columns of participants.tsv that make the strata; by default those of "
        "age, sex, site and release_number that the data set has.",
    )
    age_bins: int = Field(3, ge=1, description="Quantile bins of each numeric column.")
    keep: str | None = Field(
        None,
        description="An earlier splits CSV (subject, split) whose subjects keep their place; "
        "for the methods stratified and auto, which then looks at no other earlier place.",
    )
    release_column: str = Field("release_number", description="Column that names the release.")
    train_releases: tuple[str, ...] = Field(
        TRAIN_RELEASES, min_length=1, description="Releases to train on."
    )
    validation_releases: tuple[str, ...] = Field(("R5",), description="Releases to validate on.")
    test_releases: tuple[str, ...] = Field((), description="Releases to test on; may be none.")

    @property
    def shares(self) -> dict[str, float]:
        """The share of each split."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    @property
    def releases(self) -> dict[str, tuple[str, ...]]:
        """The releases of each split."""
        return {
            "train": self.train_releases,
            "validation": self.validation_releases,
            "test": self.test_releases,
        }

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        total = self.train + self.validation + self.test
        if abs(total - 1) > 1e-6:
            raise ValueError(f"train + validation + test must be 1, found {total:g}")
        if self.keep is not None and self.method not in ("auto", "stratified"):
            raise ValueError(f"keep goes with the methods auto and stratified, found {self.method}")
        named = [release for releases in self.releases.values() for release in releases]
        twice = sorted({release for release in named if named.count(release) > 1})
        if twice:
            raise ValueError(f"releases in two splits: {', '.join(twice)}")
        return self


class TrialParams(Params):
    """Which events of an events.tsv make a trial, and which feedback calls a press correct."""

    event_column: str = Field("value", description="Column of the events' names.")
    feedback_column: str = Field("feedback", description="Column of what a press was answered.")
    starts: tuple[str, ...] = Field(
        ("contrastTrial_start",),
        min_length=1,
        description="Events that begin a trial and end the one before; where a data set has none, "
        "name the targets here, too.",
    )
    left_targets: tuple[str, ...] = Field(
        ("left_target",), description="Events of a target on the left, as checker-left."
    )
    right_targets: tuple[str, ...] = Field(
        ("right_target",), description="Events of a target on the right."
    )
    left_presses: tuple[str, ...] = Field(
        ("left_buttonPress",), description="Events of a press of the left button."
    )
    right_presses: tuple[str, ...] = Field(
        ("right_buttonPress",), description="Events of a press of the right button."
    )
    correct_feedback: tuple[str, ...] = Field(
        ("smiley_face",), description="Feedback on a correct press; any other is on a wrong one."
    )

    @property
    def targets(self) -> dict[str, str]:
        """The side of each target event."""
        return dict.fromkeys(self.left_targets, "left") | dict.fromkeys(self.right_targets, "right")

    @property
    def presses(self) -> dict[str, str]:
        """The side of each press event."""
        return dict.fromkeys(self.left_presses, "left") | dict.fromkeys(self.right_presses, "right")

    @model_validator(mode="after")
    def _one_role_each(self) -> Self:
        if not self.targets or not self.presses:
            raise ValueError("trials need at least one event for targets and one for presses")
        named = [*self.left_targets, *self.right_targets, *self.left_presses, *self.right_presses]
        both = set(self.starts) & set(self.presses)
        twice = sorted({name for name in named if named.count(name) > 1} | both)
        if twice:
            raise ValueError(f"events in two roles: {', '.join(twice)}")
        return self


class LabelParams(Params):
    """What is to be told apart or predicted: tasks, a participants column, trials, or events."""

    kind: Literal["task", "participant", "trial", "event"] = Field(
        "task",
        description="Label windows by their task, by a column of participants.tsv, by the "
        "trial that they belong to (fine-tuning only: its windows are then those of the trials), "
        "or by events, which also say where the windows lie.",
    )
    type: Literal["auto", "binary", "multiclass", "regression"] = Field(
        "auto",
        description="binary: two classes, numbers cut in two; multiclass: each value a class; "
        "regression: the number itself; auto: numbers of more than five different values are "
        "cut in two, anything else is a class by its value.",
    )
    column: str | None = Field(
        None,
        description="The column of participants.tsv, where kind is participant; rt (response "
        "time in s), correct, side or response_side, where kind is trial; a column of events.tsv, "
        "such as trial_type, where kind is event.",
    )
    values: dict[str, str] | tuple[str, ...] | None = Field(
        None,
        description="Which events, where kind is event: their values, each with its class, or a "
        "list of values that are classes themselves; null: all. A value is a name, the beginning "
        "of names such as stimulus/left, or a pattern such as stage_*.",
    )
    where: dict[str, tuple[str, ...]] = Field(
        {}, description="Values that further columns of events.tsv must have, by column."
    )
    windows: Literal["blocks", "until_next", "locked"] = Field(
        "blocks",
        description="Where the windows of events lie. blocks: side by side over the duration; "
        "until_next: the same, until the label's next event; locked: one at each onset.",
    )
    margin: float = Field(
        0.0, ge=0, description="Seconds left out at both ends of a block, where states change."
    )
    stride: float | None = Field(
        None,
        gt=0,
        description="Seconds from one window of a block to the next; null: their length.",
    )
    offset: float = Field(
        0.0, description="Seconds from the onset to a locked window; negative before it."
    )
    positive: tuple[str, ...] | None = Field(
        None, description="Values that make the class 1; all others are class 0."
    )
    threshold: float | None = Field(
        None,
        description="Where a numeric column is cut; by default the median of the training "
        "subjects or trials, for columns of more than five different values.",
    )

    @field_validator("values", "where", mode="before")
    @classmethod
    def _texts(cls, value: Any) -> Any:
        """Take numbers of the YAML as the texts of a table, and one value as a list of one."""
        if isinstance(value, Mapping):
            return {as_text(key): cls._texts(one) for key, one in value.items()}
        if isinstance(value, list | tuple):
            return [as_text(one) for one in value]
        return value if value is None else as_text(value)

    @field_validator("where", mode="before")
    @classmethod
    def _lists(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        return {key: one if isinstance(one, list | tuple) else [one] for key, one in value.items()}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.kind == "participant" and not self.column:
            raise ValueError("kind: participant needs column, a column of participants.tsv")
        if self.kind == "trial" and self.column not in TRIAL_LABELS:
            raise ValueError(
                f"kind: trial needs column, one of {', '.join(TRIAL_LABELS)}; found {self.column}"
            )
        if self.kind == "event" and not self.column:
            raise ValueError("kind: event needs column, a column of events.tsv (trial_type)")
        if self.kind == "event" and self.values is not None and not self.values:
            raise ValueError("values must name at least one value, found none")
        if self.kind != "event":
            fields = type(self).model_fields
            given = next((n for n in OF_EVENTS if getattr(self, n) != fields[n].default), None)
            if given is not None:
                raise ValueError(f"{given} goes with kind: event, found kind: {self.kind}")
        elif self.windows == "locked" and (self.margin or self.stride):
            raise ValueError("margin and stride are of blocks, found windows: locked")
        elif self.windows != "locked" and self.offset:
            raise ValueError(f"offset is of windows: locked, found windows: {self.windows}")
        if self.kind == "task" and (self.column is not None or self.threshold is not None):
            raise ValueError(
                "column and threshold go with kind: participant, trial or event, found kind: task"
            )
        if self.positive is not None and not self.positive:
            raise ValueError("positive must name at least one value, found none")
        if self.positive and self.threshold is not None:
            raise ValueError("give positive or threshold, not both")
        if self.type == "regression" and self.kind == "task":
            raise ValueError("type: regression needs a column of numbers, found kind: task")
        if self.type == "regression" and self.kind == "trial" and self.column not in TRIAL_NUMBERS:
            raise ValueError(
                f"type: regression needs a column of numbers, {' or '.join(TRIAL_NUMBERS)}; "
                f"found {self.column}"
            )
        if self.type in ("multiclass", "regression"):
            cut = "positive" if self.positive else "threshold"
            if self.positive or self.threshold is not None:
                raise ValueError(f"{cut} makes two classes, found type: {self.type}")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Classes in the order in which `values` names them; empty where it names none."""
        values = self.values or ()
        return tuple(dict.fromkeys(values.values() if isinstance(values, Mapping) else values))
