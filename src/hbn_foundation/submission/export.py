"""From models of the project to a submission: one file of source, and the weights beside it.

The source is made from the project's own modules: what the models need is collected, put in order
and written into one file in plain torch (`closure`, `rendering`); there is no second copy of any
model that could fall behind. How each model is made is described once (`Call`) and written from
that description, its parameters as plain values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hbn_foundation import __version__
from hbn_foundation.errors import UserError
from hbn_foundation.submission import harness
from hbn_foundation.submission.archive import SOURCE, Submission
from hbn_foundation.submission.calls import Call, symbol_of, symbols_in, write_value
from hbn_foundation.submission.closure import Closure
from hbn_foundation.submission.compatibility import problems
from hbn_foundation.submission.modules import Sources, Symbol
from hbn_foundation.submission.rendering import Rendering
from hbn_foundation.submission.weights import pack_weights

if TYPE_CHECKING:
    from torch import Tensor

PROJECT = __name__.split(".")[0]
CHALLENGES = (1, 2)
CALLED = ("get_model_challenge_1", "get_model_challenge_2")
HEAD = '''"""Submission to the 2025 EEG Foundation Challenge, in plain torch.

Written by hbn-foundation {version} from the source of its models; it is not meant to be edited.
A model takes windows in volts (B, 129, 200) at 100 Hz, channels E1 to E128 and Cz, and gives one
value each (B, 1).{origin}
"""
'''


@dataclass(frozen=True)
class ExportedModel:
    """How a model is made, and its weights.

    Attributes
    ----------
    call
        Makes the model without its weights.
    weights
        Its state dict.
    origin
        Which checkpoint it is from, in a few words.
    """

    call: Call
    weights: Mapping[str, Tensor]
    origin: str = ""


def export_submission(
    models: Mapping[int, ExportedModel], packages: tuple[str, ...] = (PROJECT,)
) -> Submission:
    """Make a submission of two models.

    Parameters
    ----------
    models
        Those of challenge 1 and 2, by number.
    packages
        Whose source is carried along.

    Returns
    -------
    Submission
        `submission.py` and two files of weights; the same models give the same bytes.

    Raises
    ------
    UserError
        When a model is missing, its weights do not fit, or it needs something that is not there
        where submissions run: another package, a newer Python or a newer torch.
    """
    missing = [number for number in CHALLENGES if number not in models]
    if missing:
        raise UserError(f"export: no model of challenge {missing[0]}")
    files = {SOURCE: export_source(models, packages).encode()}
    for number in CHALLENGES:
        _check_weights(number, models[number])
        name = harness.weights_name(f"challenge_{number}")
        files[name] = pack_weights(models[number].weights)
    return Submission(files)


def export_source(
    models: Mapping[int, ExportedModel], packages: tuple[str, ...] = (PROJECT,)
) -> str:
    """Write the source of a submission; arguments as for `export_submission`."""
    entry = symbol_of(harness.Submission)
    calls = {number: model.call for number, model in sorted(models.items())}
    needed = {entry}.union(*(symbols_in(call) for call in calls.values()))
    closure = Closure(Sources(PROJECT, *packages), sorted(needed), CALLED)
    rendering = Rendering(closure)
    table = rendering.names[Symbol(harness.__name__, "MODELS")]
    makers = [
        f'{table}["challenge_{number}"] = lambda: {write_value(call, rendering.names)}'
        for number, call in calls.items()
    ]
    origins = "".join(
        f"\n\nChallenge {number}: {model.origin}."
        for number, model in sorted(models.items())
        if model.origin
    )
    head = HEAD.format(version=__version__, origin=origins)
    parts = [rendering.imports(), rendering.definitions(), "\n".join(makers)]
    source = "\n".join([head, parts[0], "", "", parts[1], "", "", parts[2], ""])
    found = problems(source)
    if found:
        raise UserError(f"export: {found[0]} of the exported source")
    return source


def _check_weights(number: int, model: ExportedModel) -> None:
    """Make sure that the weights are those of the model that the source makes."""
    expected = {name: tuple(value.shape) for name, value in model.call.build().state_dict().items()}
    found = {name: tuple(value.shape) for name, value in model.weights.items()}
    for name in [*expected, *found]:
        if expected.get(name) != found.get(name):
            here, there = expected.get(name, "absent"), found.get(name, "absent")
            raise UserError(
                f"export: {name} of challenge {number} is {there} in the weights and {here} in the "
                "model"
            )
