"""The published code as a recipe: against its loop written out, and the authors' own where it is at hand."""

import pytest
import torch
from tolerances import assert_equal

from amdm import sample_amdm
from amdm.denoisers import GaussianMixture
from examples.published_code import published

TRAINING = (1 / (1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000).double() ** 2).cumprod(0) - 1).sqrt()
ALPHA_BAR = 1 / (1 + TRAINING**2)
NUMBER = 10
TIMESTEPS = [100 * i + 1 for i in reversed(range(NUMBER))]  # diffusers' leading spacing with an offset of 1
SIGMAS = TRAINING[[*TIMESTEPS, 0]]  # set_alpha_to_one False


def mixtures(number):
    generator = torch.Generator().manual_seed(4)
    means = torch.randn(number, 3, 64, generator=generator, dtype=torch.float64)
    return [GaussianMixture(mean, torch.full((3,), 0.3, dtype=torch.float64)) for mean in means]


def noise(model, z, t):
    """What the network of an eps model predicts of a VP latent."""
    sigma = TRAINING[t]
    x = z * (1 + sigma**2).sqrt()
    return (x - model(x, sigma.expand(len(x)))) / sigma


def loop(models, starts, omegas, pulls, optim_start, optim_end):
    """The loops of interactmigc.py, interactip.py and interactmigcip.py in their own terms: VP, alphas, t."""
    alphas = ALPHA_BAR / torch.cat([ALPHA_BAR.new_ones(1), ALPHA_BAR[:-1]])
    z, z_prev, eps_prev = list(starts), [None] * len(models), [None] * len(models)
    for i, t in enumerate(TIMESTEPS):
        eps = [noise(model, own, t) for model, own in zip(models, z, strict=True)]
        before = t - 1000 // NUMBER
        a, b = ALPHA_BAR[t], ALPHA_BAR[before] if before >= 0 else ALPHA_BAR[0]
        z = [
            b.sqrt() * (own - (1 - a).sqrt() * e) / a.sqrt() + (1 - b).sqrt() * e
            for own, e in zip(z, eps, strict=True)
        ]
        u, v = omegas[0], (1 - omegas[0] ** 2) ** 0.5
        mixed = u * z[0] + v * z[1]
        if len(z) == 3:
            y = (1 - omegas[1] ** 2) ** 0.5
            mixed = u * omegas[1] * z[0] + v * omegas[1] * z[1] + v * y * z[2]
        if i > 0 and optim_start <= i <= optim_end:
            at = t + 1000 // NUMBER
            for k, p in enumerate(pulls):
                coefficient = (1 - alphas[at]) / ((1 - ALPHA_BAR[at]).sqrt() * alphas[at].sqrt())
                mu = z_prev[k] / alphas[at].sqrt() - coefficient * eps_prev[k]
                z[k] = mixed - p * (mixed - mu) / torch.norm(mixed - mu)
        z_prev, eps_prev = list(z), eps
    return z[0]


@pytest.mark.parametrize("steps", [(0, 9), (1, 3), (1, 7), (4, 4)])
@pytest.mark.parametrize(("omegas", "pulls"), [([0.5], [0.2, 0.3]), ([0.3, 0.6], [0.2, 0.3, 0.1])])
def test_it_is_the_published_loop(omegas, pulls, steps):
    models = mixtures(len(pulls))
    starts = torch.randn(len(pulls), 1, 64, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    expected = loop(models, starts, omegas, pulls, *steps)
    scale = (1 + SIGMAS**2).sqrt()
    options = published(omegas, pulls, TRAINING, steps)
    actual = sample_amdm(models, list(starts * scale[0]), SIGMAS, disable=True, **options) / scale[-1]
    assert_equal(actual, expected, 1e-11)
    own_means = {**options, "sampler": None}
    del own_means["sampler"]
    other = sample_amdm(models, list(starts * scale[0]), SIGMAS, disable=True, **own_means) / scale[-1]
    assert (other - expected).abs().max() > 1e-3, "the paper's mean is another"
