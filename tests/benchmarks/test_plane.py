"""The plane's truth and metrics in closed form, and table 7 as a whole, small."""

import math

import numpy as np
import pytest
import torch

from amdm import sample_superdiff
from amdm.denoisers import GaussianMixture
from benchmarks import plane, report, table7


def gaussian(mean, variance):
    return GaussianMixture(torch.tensor([[mean, 0.0]]).double(), torch.tensor([variance]).double())


def drawn(model, count, seed):
    return model.sample(count, generator=torch.Generator().manual_seed(seed))


def test_the_truths_likelihood():
    """-log 8 - log(2 pi s^2) - 1 = 2.0960, modes being far apart; the mean of 20,000 deviates by 0.02."""
    expected = -math.log(8) - math.log(2 * math.pi * plane.STD**2) - 1
    assert expected == pytest.approx(2.096, abs=5e-4)
    x = drawn(plane.WHOLE, 20_000, 0)
    assert plane.WHOLE.log_density(x).mean().item() == pytest.approx(expected, abs=0.03)
    assert plane.within_modes(x) == pytest.approx(plane.STD**2, rel=0.03)
    assert plane.covariance_error(x) < 0.005 < 0.02 < plane.covariance_error(x[x[:, 1] > 0])


def test_what_is_left_of_the_truths_likelihood_at_the_notebooks_last_level():
    """-log 8 - log(2 pi s^2) - t^2/s^2 with t^2 = abar s^2 + 1 - abar, of a VP level abar = 0.999369."""
    abar = 0.999369
    assert ((1 - abar) / abar) ** 0.5 == pytest.approx(0.025, abs=2e-4)
    variance = abar * plane.STD**2 + 1 - abar
    expected = -math.log(8) - math.log(2 * math.pi * plane.STD**2) - variance / plane.STD**2
    assert f"{expected:.2f}" == "1.40" and "1.40" in table7.PROTOCOL
    noise = torch.randn(20_000, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x = abar**0.5 * drawn(plane.WHOLE, 20_000, 0) + (1 - abar) ** 0.5 * noise
    assert plane.WHOLE.log_density(x).mean().item() == pytest.approx(expected, abs=0.04)


def test_the_halves_make_the_whole():
    x = drawn(plane.WHOLE, 50, 0)
    halves = torch.stack([half.log_density(x) for half in (plane.UPPER, plane.LOWER)]).logsumexp(0)
    assert torch.allclose(halves - math.log(2), plane.WHOLE.log_density(x), rtol=0, atol=1e-9)


def test_the_union_of_the_halves_is_the_whole_at_every_level():
    """Its denoiser and its density, composed of the halves'."""
    denoiser, log_density = plane.union([plane.UPPER, plane.LOWER], table7.ENERGIES)
    for level in (0.002, 0.03, 0.2, 1.0, 10.0):
        noise = torch.randn(50, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        x, sigma = drawn(plane.WHOLE, 50, 0) + level * noise, torch.full((50,), level, dtype=torch.float64)
        assert torch.allclose(denoiser(x, sigma), plane.WHOLE(x, sigma), rtol=0, atol=1e-9)
        assert torch.allclose(log_density(x, sigma), plane.WHOLE.log_density(x, sigma), rtol=0, atol=1e-9)


def test_a_network_tells_superdiff_its_divergence():
    """Gradients reach the samples, whose parameters have none."""
    models = [plane.train(half, k, steps=2, quiet=True) for k, half in enumerate((plane.UPPER, plane.LOWER))]
    x = 10 * torch.randn(5, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    sigmas = torch.tensor([10.0, 1.0, 0.0], dtype=torch.float64)
    made = [
        sample_superdiff(models, x, sigmas, combine=rule, eta=0.0, disable=True) for rule in ("or", "and")
    ]
    assert all(bool(each.isfinite().all()) for each in made)


@pytest.mark.parametrize("bandwidth", [0.5, 1.0])
def test_mmd_of_two_gaussians(bandwidth):
    """E k of N(m_1, v_1) and N(m_2, v_2) in the plane is b^2/(b^2 + v) exp(-|m|^2/(2 (b^2 + v)))."""

    def kernel(apart, variance):
        total = bandwidth**2 + variance
        return bandwidth**2 / total * math.exp(-(apart**2) / (2 * total))

    expected = kernel(0, 0.2) + kernel(0, 0.6) - 2 * kernel(0.7, 0.4)
    one, other = gaussian(0.0, 0.1), gaussian(0.7, 0.3)
    found = [
        plane.mmd(drawn(one, 500, seed), drawn(other, 400, 100 + seed), bandwidth)[1] for seed in range(30)
    ]
    error = np.std(found, ddof=1) / math.sqrt(len(found))
    assert np.mean(found) == pytest.approx(expected, abs=3 * error) and error < expected / 20


@pytest.mark.parametrize("bandwidth", table7.BANDWIDTHS)
def test_the_floor_is_what_true_samples_have(bandwidth):
    """And the unbiased estimate is 0 there: of 40 pairs of 300 samples, within three standard errors."""
    pairs = [
        plane.mmd(drawn(plane.WHOLE, 300, k), drawn(plane.WHOLE, 300, 100 + k), bandwidth) for k in range(40)
    ]
    biased, unbiased = np.mean(pairs, axis=0)
    errors = np.std(pairs, axis=0, ddof=1) / math.sqrt(len(pairs))
    assert biased == pytest.approx(plane.floor(300, bandwidth), abs=3 * errors[0])
    assert unbiased == pytest.approx(0, abs=3 * errors[1])


@pytest.mark.slow
def test_a_trained_network_is_near_the_exact_denoiser():
    """What it gets wrong beside what there is to predict, after a tenth of its steps."""
    model = plane.train(plane.UPPER, 0, steps=400, quiet=True)
    clean, g = drawn(plane.UPPER, 2000, 1), torch.Generator().manual_seed(2)
    for level in (0.2, 0.5, 2.0):
        x = clean + level * torch.randn(2000, 2, generator=g, dtype=torch.float64)
        sigma = torch.full((2000,), level, dtype=torch.float64)
        exact = plane.UPPER(x, sigma)
        wrong = (model(x, sigma) - exact).square().mean() / (x - exact).square().mean()
        assert wrong < 0.1, (level, wrong)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:window is 0.05, which rounds to none of 6:UserWarning")
def test_table_7_has_a_picture_and_a_section(monkeypatch, tmp_path):
    monkeypatch.setattr(table7, "SAMPLES", 60)
    monkeypatch.setattr(table7, "SEEDS", 2)
    monkeypatch.setattr(table7, "STEPS", 6)
    monkeypatch.setattr(table7, "LEVELS", 4)
    monkeypatch.setattr(plane, "train", lambda half, seed, quiet: half)
    table, figure = table7.tabulate("full", quiet=True)
    figure.savefig(tmp_path / "picture.png")
    assert len(table) == len(table7.EXACT) + 2 * len(table7.METHODS)
    both = table[table7.label("HMC, the union's energy", "exact")].evaluations
    assert both == 2 * 4 * (1 + 10 * 3)  # of two halves at four levels: once, and ten moves of three leaps
    text = report.text("table7", table7, table, {}, {})
    assert "another protocol" in text and "nan" not in text
    for method in table7.METHODS:  # the same models under two names
        exact, trained = (table[table7.label(method, kind)] for kind in ("exact", "trained"))
        assert exact == trained and exact.evaluations > 0
