"""Windows in their recording: nothing hidden is seen; what training begins with is an average."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hbn_foundation.models.config import SequenceConfig
from hbn_foundation.models.sequence import SequenceEncoder

DIM, N_TOKENS = 8, 2


def encoder(**fields) -> SequenceEncoder:
    values = {"recentre": True, "seconds": 6.0, "running": False, "n_heads": 2, "n_layers": 1,
              "dropout": 0.1, "share": 0.8, **fields}  # fmt: skip
    torch.manual_seed(0)
    made = SequenceEncoder(SequenceConfig(**values), DIM).eval()
    for parameter in made.parameters():  # as after some training
        parameter.data += 0.1 * torch.randn_like(parameter)
    return made


#: Two recordings of one subject, one of another; a pause of 40 s; two windows that are no tiles.
PLACES = torch.tensor(
    [[0, 0, 0, 1], [0, 0, 2, 1], [0, 0, 3, 0], [0, 0, 4, 1], [0, 0, 44, 1], [0, 1, 0, 1],
     [0, 1, 2, 1], [1, 2, 0, 1], [1, 2, 1, 0], [1, 2, 2, 1]],
    dtype=torch.float32,
)  # fmt: skip


def tokens_of(seed: int = 0) -> torch.Tensor:
    return torch.randn(len(PLACES), N_TOKENS, DIM, generator=torch.Generator().manual_seed(seed))


def seen_by(window: int, running: bool, recentre: bool) -> set[int]:
    """The windows that a window may depend on, in the words of the documentation."""
    group, recording, onset, _ = PLACES[window].tolist()
    found = {window}
    for other, (its_group, its_recording, its_onset, tile) in enumerate(PLACES.tolist()):
        later = (its_recording, its_onset) > (recording, onset)
        if tile and not (running and later):
            near = its_recording == recording and abs(its_onset - onset) <= 6
            if near or (recentre and its_group == group):
                found.add(other)
    return found


@settings(max_examples=40)
@given(st.integers(0, len(PLACES) - 1), st.booleans(), st.booleans())
def test_a_window_depends_on_what_it_sees_and_on_nothing_else(window, running, recentre):
    model, tokens = encoder(running=running, recentre=recentre), tokens_of()
    tokens.requires_grad_(True)
    (model(tokens, PLACES)[window] ** 2).sum().backward()
    moved = tokens.grad.abs().sum((1, 2)) > 0
    found, expected = set(moved.nonzero().flatten().tolist()), seen_by(window, running, recentre)
    if expected == {window} and recentre:  # it is the mean itself
        expected = set()
    assert found == expected


def test_the_order_in_a_batch_and_what_else_is_in_it_change_nothing():
    model, tokens = encoder(), tokens_of()
    whole = model(tokens, PLACES)
    order = torch.randperm(len(PLACES), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(model(tokens[order], PLACES[order]), whole[order])
    alone = PLACES[:, 0] == 1
    torch.testing.assert_close(model(tokens[alone], PLACES[alone]), whole[alone])


@pytest.mark.parametrize("seconds", [0.0, 60.0])
def test_a_new_encoder_is_nearly_the_mean_around_a_window(seconds):
    """Without reach only the mean is subtracted; with one, most of the rest is an average."""
    config = SequenceConfig(True, seconds, False, 2, 1, 0.0, 0.8)
    torch.manual_seed(0)
    made = SequenceEncoder(config, DIM).eval()
    onset = torch.arange(0.0, 40.0, 2.0)
    places = torch.stack([onset * 0, onset * 0, onset, onset * 0 + 1], 1)
    tokens = torch.randn(len(onset), N_TOKENS, DIM) + 5.0
    found, relative = made(tokens, places), tokens - tokens.mean(0)
    if not seconds:
        torch.testing.assert_close(found, relative)
    else:
        assert found.var(0).mean() < 0.3 * relative.var(0).mean()


def test_in_half_precision_the_mean_is_not_rounded():
    model = encoder(n_layers=0)
    tokens = 1e3 + tokens_of()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(
            model(tokens, PLACES), model.float()(tokens, PLACES), rtol=1e-5, atol=1e-3
        )
