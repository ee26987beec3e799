"""Give a checkpoint away: weights, a config and a model card, without anybody's name.

Only what loading needs leaves, by a list of what is kept; people are counted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from hbn_foundation import __version__
from hbn_foundation.embedding.embedder import find_checkpoint
from hbn_foundation.errors import UserError, one_line
from hbn_foundation.evaluation.methods import MODEL
from hbn_foundation.labels.people import CHOSEN, TRAINED

CARD, CONFIG = "README.md", "config.json"
KEPT = (
    "kind", "run_id", "parent_version", "sfreq", "n_samples", "channel_names", "positions",
    "cleaning", "cleaning_version", "datasets", "versions", "precision", "objective", "targets",
    "more_targets", "best_epoch", "monitored",
)  # fmt: skip
KEPT_PARAMETERS = (
    "encoder", "objective", "window", "label", "head", "more_targets", "tokens", "input", "context",
    "sequence_encoder", "keep_head", "regularisation",
)  # fmt: skip
PEOPLE = "people"
"""Key of the counts of people, by role, in the metadata of an exported checkpoint."""


def export(checkpoint: str, folder: Path, licence: str | None = None) -> Path:
    """Write a checkpoint into a folder that can be given away and read by `load`.

    Parameters
    ----------
    checkpoint
        Folder of a checkpoint, or the id of a repository of the hub.
    folder
        Replaced if an exported checkpoint is there; it appears whole or not at all.
    licence
        Of the weights, as an identifier of the hub such as `cc-by-sa-4.0`.

    Raises
    ------
    UserError
        The folder holds something else, or a person's name would leave.
    """
    from hbn_foundation.training.checkpoint import Checkpoint
    from hbn_foundation.training.supervision.run_folder import METADATA
    from hbn_foundation.training.variants import restored

    if folder.exists() and not all((folder / name).is_file() for name in (CARD, METADATA)):
        raise UserError(f"{folder}: is there already and was not exported; give another folder")
    source = find_checkpoint(checkpoint)
    model = Checkpoint.load(source)
    told = anonymous(model.metadata)
    n_weights = sum(part.numel() for part in restored(model.weights).values())
    text = model_card(told, n_weights, scores_of(source), licence)
    values = json.dumps({**told, "channel_names": []}) + text
    for name in (name for role in (TRAINED, CHOSEN) for name in model.metadata.get(role, ())):
        if f'"{name}"' in values or f"sub-{name}" in values:
            raise UserError(f"checkpoint: the name of a person ({name}) would be exported")
    config = {
        "library_name": "hbn-foundation",
        **{name: told[name] for name in ("kind", "sfreq", "n_samples", "channel_names")},
        "encoder": told["parameters"]["encoder"],
    }
    beside = {CARD: text.encode(), CONFIG: json.dumps(config, indent=2).encode()}
    return Checkpoint(model.weights, told).save(folder, beside=beside)


def anonymous(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata that loading needs, people counted and not named."""
    from hbn_foundation.training.variants import KEY, variant_of

    parameters = metadata["parameters"]
    kept = {name: metadata[name] for name in KEPT if name in metadata}
    kept["parameters"] = {name: parameters[name] for name in KEPT_PARAMETERS if name in parameters}
    if "weights" in kept["parameters"]["encoder"]:  # a path of this machine, needed no more
        kept["parameters"]["encoder"] = {**parameters["encoder"], "weights": None}
    kept["parameters"]["trainer"] = {"seed": parameters.get("trainer", {}).get("seed", 0)}
    if KEY in metadata:
        kept[KEY] = {"name": variant_of(metadata)}
    before = metadata.get("ancestors", ())
    counts = {
        role: len({*metadata.get(role, ()), *(n for one in before for n in one.get(role, ()))})
        for role in (TRAINED, CHOSEN)
    }
    return {**kept, TRAINED: [], CHOSEN: [], PEOPLE: metadata.get(PEOPLE, counts)}


def scores_of(source: Path) -> pd.DataFrame:
    """Return the scores of the run that made a checkpoint, as the project's folders have them.

    Empty where there are none, as for a checkpoint that was fetched.
    """
    table = f"{source.name.removesuffix('_checkpoint')}_scores.csv"
    data = source.parents[min(3, len(source.parents) - 1)]
    path = data / "08_reporting" / table / source.parent.name / table
    if not path.is_file():
        return pd.DataFrame()
    scores = pd.read_csv(path)
    return scores[(scores["kind"] == MODEL) & (scores["split"] == "test")]


def model_card(
    metadata: Mapping[str, Any], n_weights: int, scores: pd.DataFrame, licence: str | None
) -> str:
    """Write the model card, from `anonymous` metadata and the scores of `scores_of`."""
    from jinja2 import Environment, PackageLoader

    from hbn_foundation.training.variants import VARIANTS, variant_of

    pages = Environment(
        loader=PackageLoader("hbn_foundation.embedding", "."),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    return pages.get_template("card.md").render(
        metadata,
        seconds=metadata["n_samples"] / metadata["sfreq"],
        data_sets=", ".join(str(name) for name in metadata.get("datasets", {}).values() if name),
        n_weights=n_weights,
        scores=scores.to_dict("records"),
        licence=licence,
        form=VARIANTS[variant_of(metadata)].text,
        program=__version__,
    )


def push(folder: Path, repository: str, private: bool = False) -> str:
    """Send an exported folder to a repository of the Hugging Face hub; return its address.

    Raises
    ------
    UserError
        huggingface_hub is missing, or the hub does not take it.
    """
    try:
        from huggingface_hub import HfApi
    except ImportError:
        raise UserError(
            f'--push-to-hub {repository}: pip install "hbn-foundation[hub]" first'
        ) from None
    api = HfApi()
    try:
        address = api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=folder)
    except Exception as error:  # whatever the hub or the network answers
        raise UserError(
            f"--push-to-hub {repository}: not sent ({one_line(error)}); {folder} is complete"
        ) from None
    return str(address)
