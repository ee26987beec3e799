"""Band tokens: the spectra, the geometry, the normalisation, the precision."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hbn_foundation.models import symmetric
from hbn_foundation.models.band_tokens import BandTokens, Moments, band_bins, make_tapers
from hbn_foundation.models.spatial import DIRECTIONS_10_20
from small_models import band_config, small_encoder

POSITIONS = torch.tensor(list(DIRECTIONS_10_20.values()))
ALL = torch.ones(1, 19, dtype=torch.bool)


def test_bins_divide_the_spectrum():
    bins = band_bins(((1, 4), (4, 7.5), (7.5, 13), (13, 60)), 100.0, 200)
    assert bins == [(2, 8), (8, 15), (15, 26), (26, 101)]


@pytest.mark.parametrize(("kind", "count"), [("hann", 1), ("sine", 3), ("sine", 5)])
def test_tapers_have_unit_energy(kind, count):
    tapers = make_tapers(kind, count, 200)
    assert tapers.shape == (count, 200)
    assert tapers.square().sum().item() == pytest.approx(1, abs=1e-5)
    gram = tapers @ tapers.T
    torch.testing.assert_close(gram, torch.eye(count) / count, atol=1e-5, rtol=0)


@pytest.mark.parametrize("taper", ["hann", "sine"])
def test_a_sine_lands_in_its_band_and_at_its_electrode(taper):
    tokens = BandTokens(band_config(taper=taper), 100.0, 200, 16)
    signals = 1e-3 * torch.randn(1, 19, 200)
    signals[0, 3] += torch.sin(2 * torch.pi * 10 * torch.arange(200) / 100)
    power = tokens.cross_spectra(signals, POSITIONS, ALL).diagonal(dim1=-2, dim2=-1)[0]
    assert divmod(int(power.argmax()), 19) == (3, 3)


def test_the_cross_spectrum_is_that_of_numpy():
    params = band_config(
        taper="hann", shrinkage=0.1, edges=((8.0, 13.0),), sharpness=1e4
    )  # one channel per virtual electrode
    tokens = BandTokens(params, 100.0, 200, 16)
    signals = torch.randn(1, 19, 200)
    taper = np.hanning(202)[1:-1]
    taper /= np.linalg.norm(taper)
    spectrum = np.fft.rfft(signals[0].double().numpy() * taper)[:, 16:26]
    expected = (spectrum @ spectrum.conj().T).real / 10
    expected = 0.9 * expected + 0.1 * np.trace(expected) / 19 * np.eye(19)
    found = tokens.cross_spectra(signals, POSITIONS, ALL)[0, 0]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-3, atol=1e-4)


def test_fitted_tangents_are_centred_with_one_scale_per_band():
    encoder = small_encoder("band")
    gain = torch.tensor([0.3, 3.0]).repeat(200)[:, None, None]
    batch = SimpleNamespace(
        signals=gain * torch.randn(400, 19, 100), mask=torch.ones(400, 19, dtype=torch.bool)
    )
    statistics = encoder.fit_normalisation([batch], POSITIONS)
    tangents = encoder.band.tangents(batch.signals, POSITIONS, batch.mask)
    assert tangents.shape == (400, 8, 190)
    torch.testing.assert_close(tangents.mean(0), torch.zeros(8, 190), atol=1e-3, rtol=0)
    variance = tangents.var(0, unbiased=False)
    torch.testing.assert_close(variance.mean(1), torch.ones(8), atol=1e-3, rtol=0)
    # natural variances: a common gain moves the diagonal, so they must not be equal
    assert variance.max() > 3 * variance.min()
    covariance = statistics["band_covariance"]
    torch.testing.assert_close(covariance.diagonal(dim1=1, dim2=2), variance, atol=1e-2, rtol=1e-2)


def test_a_gain_moves_the_tangent_along_the_identity():
    tokens = BandTokens(band_config(), 100.0, 200, 16)
    signals = torch.randn(1, 19, 200)
    plain, gained = (tokens.tangents(gain * signals, POSITIONS, ALL) for gain in (1, np.e))
    expected = symmetric.upper_triangle(2 * torch.eye(19))
    torch.testing.assert_close((gained - plain)[0, 0], expected, atol=1e-3, rtol=0)
    with torch.autocast("cpu", torch.bfloat16):  # which does not reach the eigenvalues
        found = tokens.tangents(signals, POSITIONS, ALL)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, plain)


def test_moments_are_numpys():
    values = torch.randn(50, 2, 5)
    moments = Moments()
    for part in values.split(7):
        moments.add(part, outer=True)
    for band in range(2):
        x = values[:, band].double().numpy()
        np.testing.assert_allclose(moments.mean[band], x.mean(0), atol=1e-7)
        np.testing.assert_allclose(moments.covariance[band], np.cov(x.T, ddof=0), atol=1e-7)
