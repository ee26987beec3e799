"""An encoder with a head, or several, of which any blocks can be frozen.

Frozen means that nothing of a block moves: its parameters take no gradient, gradients that it had
are dropped (an optimizer would go on applying them), and it stays in evaluation mode, so that
statistics of norms and dropout stay the same too. A plan of the training decides which blocks are
frozen when.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Literal

from torch import Tensor, nn

from .config import MAIN, SEQUENCE, HeadConfig, SequenceConfig
from .encoder import Encoder, Parts
from .heads import Head, Heads
from .parameter_groups import parameter_groups
from .sequence import SequenceEncoder

HEAD = "head"
NEW = (SEQUENCE, HEAD)  # blocks that no foundation checkpoint has
FINAL_NORM, SLOW = "final_norm", "slow_outputs"


class FineTuned(nn.Module):
    """A head on an encoder; at first every block is trainable.

    Blocks before the first trainable one need no gradient, and autograd then keeps nothing of
    them: training the head alone costs little more than looking at the windows.

    Parameters
    ----------
    input
        Takes windows (B, C, T) and usable channels (B, C), and gives both as the encoder is to
        see them; None leaves them as they are.
    added
        Families of tokens that are new in the encoder. They belong to the block `head`, which is
        everything that is new: trained from the first step, at its rate.
    sequence
        Puts the tokens of windows into their recording; None: each window stands alone.
    """

    def __init__(
        self,
        encoder: Encoder,
        head: Head | Heads,
        input: nn.Module | None = None,
        added: Collection[str] = (),
        sequence: SequenceEncoder | None = None,
    ) -> None:
        super().__init__()
        self.input = input
        self.encoder = encoder
        self.sequence = sequence
        self.head = head
        self.added = tuple(added)
        # nothing is frozen yet: DistributedDataParallel must see every parameter when it wraps it
        self._trainable = tuple(name for name, _ in self.blocks())

    @property
    def unit(self) -> Literal["store", "microvolts", "volts"]:
        """In which unit windows are read for it."""
        return self.encoder.unit if self.input is None else "volts"

    def blocks(self) -> list[tuple[str, nn.Module]]:
        """Named parts from input to output, the head last; the final norm only where it is used."""
        new = [f"{name}_tokens" for name in self.added]
        backbone = [
            (name, module)
            for name, module in self.encoder.blocks()
            if name not in new and name not in self.unused
        ]
        if self.sequence is not None and len(self.sequence.blocks):
            backbone.append((SEQUENCE, self.sequence))
        if not new:
            return [*backbone, (HEAD, self.head)]
        tokenisers = [self.encoder.tokenisers[name] for name in self.added]
        return [*backbone, (HEAD, nn.ModuleList([*tokenisers, self.head]))]

    @property
    def unused(self) -> dict[str, nn.Module]:
        """Parts of the encoder, by name, that nothing goes through on the way to the head."""
        config, found = self.head.config, dict[str, nn.Module]()
        if not config.final_norm or config.pooling == "slow":
            found[FINAL_NORM] = self.encoder.final_norm
        if config.pooling == "slow":
            if self.encoder.time is not None:
                found["time_tokens"] = self.encoder.time
        elif self.encoder.slow is not None:
            found[SLOW] = self.encoder.slow
        return found

    def sizes(self) -> dict[str, int]:
        """How many parameters each block has, frozen or not."""
        return {name: sum(p.numel() for p in part.parameters()) for name, part in self.blocks()}

    def tokens(self, parts: Parts, places: Tensor | None = None) -> Tensor:
        """Tokens (B, N, D) that the head sees, from `encoder.inputs` of the windows.

        Their places (B, 4) are those of `SequenceEncoder`, where there is one. An encoder with slow
        outputs takes its band tangents relative to the recording, where the context says so.
        """
        if self.encoder.slow is not None and self.sequence is not None and places is not None:
            parts = {**parts, "band": self.sequence.recentred(parts["band"], places)}
        if self.head.config.pooling == "slow":
            tokens = self.encoder.slow_token(parts["band"])
        else:
            tokens = self.encoder.body(parts)
            if self.head.config.final_norm:
                tokens = self.encoder.final_norm(tokens)
        if self.sequence is None:
            return tokens
        if places is None:
            raise ValueError("the model has a context; expected the places of the windows")
        return self.sequence(tokens, places)

    def prepare(self, signals: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Signals and usable channels as the encoder sees them, of windows as they are read."""
        return (signals, mask) if self.input is None else self.input(signals, mask)

    def features(
        self, signals: Tensor, positions: Tensor, mask: Tensor, places: Tensor | None = None
    ) -> Tensor:
        """Features (B, F) that the outputs are made from; `head.output` takes them on."""
        parts = self.encoder.inputs(signals, positions, mask)
        return self.head.features(self.tokens(parts, places))

    def forward(
        self,
        signals: Tensor,
        positions: Tensor,
        mask: Tensor,
        labels: Any = None,
        margin_share: Any = 1.0,
        places: Tensor | None = None,
    ) -> Tensor:
        """Give outputs (B, K) of windows as `prepare` gives them, of all targets side by side.

        Labels and margin share are those of `Head`, or of `Heads.output`, in training.
        """
        features = self.features(signals, positions, mask, places)
        return self.head.output(features, labels, margin_share)

    def split(self, outputs: Tensor) -> dict[str, Tensor]:
        """Take outputs (B, K) apart by target."""
        parts = self.head.parts
        sizes = [head.config.n_outputs for head in parts.values()]
        return dict(zip(parts, outputs.split(sizes, 1), strict=True))

    def value(self, outputs: Tensor, target: str = MAIN) -> Tensor:
        """Values (B,) of a target that is a number, in the unit of its label."""
        return self.head.parts[target].value(self.split(outputs)[target])

    def trainable(self) -> tuple[str, ...]:
        """Names of the blocks that are not frozen, from input to output."""
        return self._trainable

    def set_trainable(self, names: Iterable[str]) -> None:
        """Make these blocks trainable and freeze all others; an unknown name is a ValueError."""
        wanted, blocks = set(names), self.blocks()
        known = [name for name, _ in blocks]
        if unknown := sorted(wanted.difference(known)):
            raise ValueError(f"no block {unknown[0]!r}; known: {', '.join(known)}")
        self._trainable = tuple(name for name in known if name in wanted)
        for module in self.unused.values():  # in no block
            module.requires_grad_(False)
        for name, module in blocks:
            module.requires_grad_(name in wanted)
            if name not in wanted:
                for parameter in module.parameters():
                    parameter.grad = None
        self.train(self.training)

    def train(self, mode: bool = True) -> FineTuned:
        """Set training mode, but leave frozen blocks in evaluation mode."""
        super().train(mode)
        for name, module in self.blocks():
            if name not in self._trainable:
                module.eval()
        return self

    def freeze_backbone(self) -> None:
        """Freeze everything but the head and the sequence encoder, which are new."""
        self.set_trainable(name for name, _ in self.blocks() if name in NEW)

    def unfreeze_backbone(self) -> None:
        """Make every block trainable."""
        self.set_trainable([name for name, _ in self.blocks()])

    def set_progressive_unfreezing_mode(self, phase: int) -> None:
        """Go to phase 1, the head and the sequence encoder alone, or 2, everything.

        Another one is a ValueError.
        """
        if phase not in (1, 2):
            raise ValueError(f"phase {phase!r}: expected 1 (head only) or 2 (everything)")
        (self.freeze_backbone if phase == 1 else self.unfreeze_backbone)()

    def get_param_groups(
        self, head_lr: float = 1e-3, backbone_lr: float | None = None
    ) -> list[dict[str, Any]]:
        """Make groups for an optimizer, as `parameter_groups`, with its own weight decay.

        The backbone's learning rate is by default a tenth of the head's.
        """
        groups = parameter_groups(
            self.blocks(), head_lr / 10 if backbone_lr is None else backbone_lr
        )
        return [{**group, "lr": head_lr} if group["block"] in NEW else group for group in groups]


def make_finetuned(
    encoder: Encoder,
    heads: Mapping[str, HeadConfig],
    sequence: SequenceConfig | None = None,
    **options: Any,
) -> FineTuned:
    """Put new heads, by target and the main one first, on an encoder; options of `FineTuned`.

    All heads take tokens with the final norm, or none. Bins that cannot be shared out among the
    time tokens are a ValueError.
    """
    n_time = 0 if encoder.time is None else len(encoder.time)
    made = {
        name: Head(
            config,
            1 if config.pooling == "slow" else encoder.n_tokens,
            encoder.config.hidden_dim,
            n_time,
        )
        for name, config in heads.items()
    }
    head = made[MAIN] if len(made) == 1 else Heads(made)
    around = None if sequence is None else SequenceEncoder(sequence, encoder.config.hidden_dim)
    return FineTuned(encoder, head, sequence=around, **options)
