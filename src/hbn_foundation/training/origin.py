"""In what the data that a checkpoint was made of differ from those here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from hbn_foundation.errors import count_of, first_few
from hbn_foundation.labels.params import LabelParams
from hbn_foundation.labels.people import CHOSEN, TRAINED, seen_subjects
from hbn_foundation.training.checkpoint import check_signals

if TYPE_CHECKING:
    from hbn_foundation.signals.dataset import EEGDataset
    from hbn_foundation.training.checkpoint import Checkpoint

NOT_OF_SIGNALS = {"sfreq", "chunk_seconds"}
"""Parameters of the cleaning that are an error where they differ, or do not change the signals."""


def check_label_windows(checkpoint: Checkpoint, dataset: EEGDataset, label: LabelParams) -> None:
    """Check that the windows of a label are what the checkpoint's encoder was made for.

    Those of trials and events are cut as the encoder needs them; others are the dataset's. A
    UserError names both values and the parameter.
    """
    n_samples = checkpoint.metadata["n_samples"]
    if label.kind in ("task", "participant"):
        n_samples = dataset.n_samples
    check_signals(checkpoint, dataset.sfreq, n_samples)


def differences(checkpoint: Checkpoint, dataset: EEGDataset) -> Iterator[str]:
    """Say in what cleaning and people differ from those of the checkpoint, a line each."""
    metadata, store = checkpoint.metadata, dataset.store
    encoder = metadata.get("parameters", {}).get("encoder", {})
    if encoder.get("kind") == "external":
        from hbn_foundation.training.external import check_store
        from hbn_foundation.training.model_params import EncoderParams

        yield from check_store(EncoderParams(**encoder), store)
    before, here = metadata.get("cleaning") or {}, store.cleaning
    if here and not before:
        yield "how its signals were cleaned is not recorded"
    for name in sorted(before.keys() & here.keys() - NOT_OF_SIGNALS):
        if before[name] != here[name]:
            yield (
                f"ingestion.cleaning.{name} was {before[name]} for its signals, and is "
                f"{here[name]} here"
            )
    if sum(metadata.get("people", {}).values()) and not metadata.get(TRAINED):
        yield (
            "it was exported, and names none of the people that it has seen: whether subjects here "
            "are among them is not known"
        )
    seen = {subject for role in (TRAINED, CHOSEN) for subject in metadata.get(role, ())}
    named_alike = seen & set(dataset.splits["subject"])
    for role in (TRAINED, CHOSEN):
        named_alike -= seen_subjects(metadata, role, named_alike, store.datasets).keys()
    if named_alike:
        yield (
            f"{count_of(len(named_alike), 'subject')} here ({first_few(sorted(named_alike))}) "
            "are named as some of its subjects, and are others, as its data set is another"
        )
