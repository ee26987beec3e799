"""Make encoders, heads and fine-tuned models from parameters.

The modules of `models` take plain values (`models.config`), as they are shipped without pydantic.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any, NamedTuple

from hbn_foundation.errors import UserError
from hbn_foundation.models.config import MAIN, EncoderConfig, HeadConfig, SequenceConfig
from hbn_foundation.models.encoder import Encoder
from hbn_foundation.models.external import ExternalEncoder
from hbn_foundation.models.finetuned import FineTuned, make_finetuned
from hbn_foundation.signals.params import ContextParams
from hbn_foundation.training.model_params import (
    AddedTokenParams,
    EncoderParams,
    ExternalParams,
    HeadParams,
    SequenceParams,
)


def build_encoder(params: EncoderParams, sfreq: float, n_samples: int) -> Encoder:
    """Make an encoder with random weights.

    Parameters
    ----------
    params
        Architecture.
    sfreq, n_samples
        Sampling rate in Hz and length of the windows that it will see.

    Raises
    ------
    ValueError
        When a band has no frequency in such a window, or a patch does not fit into it.
    UserError
        As `build_external`, of a module of another package.
    """
    if params.is_external:
        from hbn_foundation.training.external import build_external

        return build_external(params, sfreq, n_samples)
    own = params.model_dump(exclude=set(ExternalParams.model_fields))
    values = {**own, "sfreq": sfreq, "n_samples": n_samples}
    return Encoder(EncoderConfig.of(values))


def encoder_params(encoder: Encoder) -> EncoderParams:
    """Return the parameters that an encoder was made from."""
    if isinstance(encoder, ExternalEncoder):
        return EncoderParams(**encoder.config.made_from)
    values = asdict(encoder.config)
    own = EncoderParams.model_fields.keys() - ExternalParams.model_fields.keys()
    return EncoderParams(**{name: values[name] for name in own})


def lacking_tokens(encoder: Encoder, added: AddedTokenParams) -> tuple[str, ...]:
    """Name the families of tokens that there must be and are not."""
    return tuple(name for name in added.tokens if name not in encoder.config.tokens)


def with_tokens(encoder: Encoder, added: AddedTokenParams) -> Encoder:
    """Return an encoder that has these families of tokens besides its own.

    What is new has random weights and no normalisation yet; everything else is the encoder's.
    The encoder itself where it lacks nothing.
    """
    if not (lacking := lacking_tokens(encoder, added)):
        return encoder
    if isinstance(encoder, ExternalEncoder):
        raise UserError(
            f"tokens.tokens: an external encoder has tokens of its own alone; found {lacking[0]}"
        )
    params = encoder_params(encoder).with_tokens(added)
    extended = build_encoder(params, encoder.sfreq, encoder.n_samples)
    extended.load_state_dict(encoder.state_dict(), strict=False)
    return extended.train(encoder.training)


def sequence_config(context: ContextParams, params: SequenceParams) -> SequenceConfig | None:
    """Return the plain values of a sequence encoder; None where windows stand alone."""
    if not context.is_used:
        return None
    values = context.model_dump(exclude={"of", "denoise"}) | params.model_dump(
        exclude={"max_windows"}
    )
    return SequenceConfig(**values)


class HeadOf(NamedTuple):
    """What a head is made for: its parameters, the number of classes or values, which of both."""

    params: HeadParams
    n_outputs: int
    classification: bool


def head_config(params: HeadParams, n_outputs: int, classification: bool) -> HeadConfig:
    """Return the plain values of a head, defaults resolved.

    Parameters
    ----------
    params
        Kind, pooling.
    n_outputs
        Classes, or values; a distribution has its bins instead.
    classification
        Whether they are classes.

    Raises
    ------
    UserError
        When a margin or an attenuation is wanted of a regression, or a distribution of classes.
    """
    if params.margin != "none" and not classification:
        raise UserError(
            f"head.margin={params.margin!r}: a margin is between classes; expected none for a "
            "regression"
        )
    attenuation = params.attenuation(classification)
    if attenuation and not classification:
        raise UserError(
            f"head.subject_attenuation={attenuation:g}: differences between subjects may be what a "
            "number says; expected 0 or null for a regression"
        )
    if params.kind == "distribution":
        if classification:
            raise UserError("head.kind=distribution: a label of classes has no time; take linear")
        n_outputs = params.bins
    resolved = {
        "n_outputs": n_outputs,
        "attenuation": attenuation,
        "margin_size": params.full_margin,
    }
    taken = {one.name for one in fields(HeadConfig)}.intersection(HeadParams.model_fields)
    return HeadConfig(**(params.model_dump(include=taken) | resolved))


def build_finetuned(encoder: Encoder, heads: Mapping[str, HeadOf], **options: Any) -> FineTuned:
    """Put new heads on an encoder.

    Parameters
    ----------
    encoder
        Trained or not.
    heads
        By target, the main one first; the others take tokens with or without the final norm as
        the main one does.
    options
        `sequence` as for `make_finetuned`, `input` and `added` as for `FineTuned`.

    Raises
    ------
    UserError
        When a head does not suit its task, or a distribution the encoder's time tokens.
    """
    final_norm = heads[MAIN].params.final_norm
    if options.get("input") is not None and encoder.unit != "store":
        raise UserError(
            "input.unit=volts: it gives z-scores, and the encoder takes µV of the signal store; "
            "expected store"
        )
    configs = {
        name: head_config(one.params.model_copy(update={"final_norm": final_norm}), *one[1:])
        for name, one in heads.items()
    }
    sequence, width = options.get("sequence"), encoder.config.hidden_dim
    if sequence is not None and width % sequence.n_heads:
        raise UserError(
            f"sequence_encoder.n_heads={sequence.n_heads}: the tokens are {width} wide; expected a "
            "divisor of that"
        )
    if encoder.slow is None and any(one.pooling == "slow" for one in configs.values()):
        raise UserError(
            "head.pooling=slow: the encoder has no slow outputs; pretrain it with encoder.n_slow "
            "and objective.name=slow_prediction"
        )
    if options.get("added") and all(one.pooling == "slow" for one in configs.values()):
        raise UserError(
            "tokens.tokens: a head with pooling=slow reads slow outputs of band tokens alone; "
            "expected no further tokens"
        )
    if encoder.time is None and any(one.kind == "distribution" for one in configs.values()):
        raise UserError(
            "head.kind=distribution: it reads time tokens, and there are none; add them by "
            "tokens.tokens: [time]"
        )
    try:
        return make_finetuned(encoder, configs, **options)
    except ValueError as error:
        raise UserError(f"head.bins: {error}") from None
