"""What is timed and compared of a variant is what its model computes."""

import torch

from hbn_foundation.optimization.variants import answer_of, make_variant
from hbn_foundation.training.checkpoint import Checkpoint
from small_models import N_SAMPLES, SFREQ, small_encoder


def test_variants_of_an_encoder_with_slow_outputs_differ():
    """By what goes through the trunk, which the features of a window alone do not."""
    encoder = small_encoder("band", n_slow=2)
    torch.nn.init.normal_(encoder.slow.beside.weight)
    shape = {"tokens": ["band"], "n_slow": 2, "hidden_dim": 32, "n_heads": 4, "n_layers": 2}
    weights = {f"encoder.{name}": part for name, part in encoder.state_dict().items()}
    metadata = {"parameters": {"encoder": shape}, "sfreq": SFREQ, "n_samples": N_SAMPLES}
    checkpoint = Checkpoint(weights, metadata)
    positions = torch.nn.functional.normalize(torch.randn(24, 3), dim=1)
    windows = torch.randn(4, 24, N_SAMPLES), positions, torch.ones(4, 24, dtype=torch.bool)
    with torch.inference_mode():
        whole, rounded = (
            answer_of(one)(*windows) for one in (checkpoint, make_variant(checkpoint, "bf16"))
        )
    torch.testing.assert_close(rounded, whole, rtol=0.05, atol=0.05)
    assert not torch.equal(rounded, whole)
