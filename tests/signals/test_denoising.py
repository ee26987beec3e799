"""Features freed of noise: what is slow stays, artefacts weigh little, few tiles do no harm."""

import numpy as np
import pandas as pd
import pytest

from hbn_foundation.signals.context import Surroundings
from hbn_foundation.signals.denoising import denoised, winsorised
from hbn_foundation.signals.params import ContextParams


def test_denoising_keeps_what_is_slow_in_each_recording():
    """Two recordings: which direction holds the state and which the noise differs; artefacts."""
    n, random = 120, np.random.default_rng(0)
    table = pd.DataFrame({"row": np.repeat([0, 1], n), "onset": np.tile(2.0 * np.arange(n), 2)})
    around = Surroundings(table, 2 * n, np.arange(2 * n))
    state = np.tile(np.sign(np.sin(np.arange(n) / 8)), 2)
    noise, other = random.standard_normal((2, 2 * n))
    first = (table["row"] == 0).to_numpy()
    mixed = np.stack([state + noise, noise + 0.5 * other], 1)
    mixed[~first] = np.stack([noise + 0.5 * other, state - noise], 1)[~first]
    context = ContextParams(of="recording", denoise=True)
    found = denoised(mixed, around, context)
    for own, column in ((first, 0), (~first, 1)):
        before, after = (
            abs(np.corrcoef(values[own, column], state[own])[0, 1]) for values in (mixed, found)
        )
        assert before < 0.7
        assert after > 0.8
    torn = mixed.copy()
    torn[::20] *= 1000.0
    whole = np.arange(2 * n) % 20 > 0
    assert np.corrcoef(denoised(torn, around, context)[whole, 0], found[whole, 0])[0, 1] > 0.95
    # another recording changes nothing, nor does a constant
    moved = np.where(first[:, None], mixed + 5, 100 * mixed)
    np.testing.assert_allclose(denoised(moved, around, context)[first], found[first], atol=1e-9)


@pytest.mark.parametrize("seconds", [2.0, 30.0])
def test_long_windows_and_windows_between_tiles_are_denoised_alike(seconds):
    n, random = 12, np.random.default_rng(0)
    onset = np.concatenate([seconds * np.arange(n), seconds * np.arange(400) / 40])
    table = pd.DataFrame({"row": 0, "onset": onset})
    around = Surroundings(table, len(onset), np.arange(n))
    noise = random.standard_normal((len(onset), 25))
    found = denoised(noise, around, ContextParams(of="recording", denoise=True))
    assert 0 < found[:n].std() < 0.6  # two dozen features of a dozen windows
    assert found[n:].std() < 0.6


def test_features_without_spread_are_not_limited():
    """A recording of one tile, one feature that is mostly the same, one that is unknown."""
    table = pd.DataFrame({"row": [0, 0, 1, 1, 1, 1, 2], "onset": [0.0, 1, 0, 2, 4, 6, 0]})
    around = Surroundings(table, 7, np.array([0, 2, 3, 4, 5]))
    given = np.array([[1.0, 2, np.nan], [5, 6, np.nan], [0, 0, 1], [0, 1, 2], [0, 2, 3],
                      [5, 90, 4], [7, 8, 9]])  # fmt: skip
    found = winsorised(given, around, ContextParams(of="recording"))
    expected = given.copy()
    spread = 1.4826
    expected[[2, 5], 1] = 1.5 - spread, 1.5 + spread
    expected[[2, 5], 2] = 2.5 - spread, 2.5 + spread
    np.testing.assert_allclose(found, expected)
