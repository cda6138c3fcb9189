"""Ways to join two latents: which fold is used when, and norms that are known."""

import math

import pytest
import torch

from amdm.denoisers import GaussianMixture
from amdm.geometry import lerp_fold, slerp_fold
from theory_checks.joining import WAYS, Way, in_turn, last_norm

SHAPE = (4, 16, 16)
N = math.prod(SHAPE)


def test_the_first_fold_is_used_once():
    xs = [torch.eye(2)[:1], torch.eye(2)[1:]]
    fold = in_turn(lerp_fold, slerp_fold)
    norms = [fold(xs, [0.5]).norm().item() for _ in range(3)]
    assert norms == pytest.approx([0.5**0.5, 1, 1])


def unit():
    """Data N(0, I): its probability flow keeps every VP latent where it is."""
    return GaussianMixture(torch.zeros(1, *SHAPE), torch.ones(1))


@pytest.mark.parametrize("window", [0, 1, 2, 5])
def test_norms_of_runs_whose_flow_is_the_identity(window):
    # Euler's steps are not the flow, but linear: all ways are compared with a run without aggregation.
    sigmas = torch.cat([torch.logspace(1, -1, 10), torch.zeros(1)])
    models = [unit(), unit()]
    alone = last_norm(WAYS["slerp"], models, SHAPE, sigmas, 0)
    got = {
        name: last_norm(way._replace(length=0.0), models, SHAPE, sigmas, window) / alone
        for name, way in WAYS.items()
    }
    one, later = (1, max(0, window - 1)) if window else (0, 0)
    # Independent starts: at a right angle but for 1/sqrt(n); after the first aggregation the two are one.
    for name in ("slerp", "Karcher", "first slerp, then lerp"):
        assert got[name] == pytest.approx(1, abs=0.03)
    for name in ("lerp", "first lerp, then slerp"):
        assert got[name] == pytest.approx(0.5 ** (one / 2), abs=0.03)
    mix = 0.5 + 0.75**0.5
    assert got["authors' mix"] == pytest.approx(mix**later, rel=0.03)


def test_lengths_are_those_of_stable_diffusions_latents():
    # One step to sigma 0 from a point: x' - mean is half the distance of the means, and is walked in full.
    models = [GaussianMixture(torch.full((1, *SHAPE), m), torch.tensor([1e-6])) for m in (0.0, 0.01)]
    sigmas = torch.tensor([1.0, 0.0])
    way = Way(lerp_fold, lerp_fold, length=0.04 * 4)  # at n = 1024 a fourth: 0.04 of 0.005 * 32 = 0.16
    got = last_norm(way, models, SHAPE, sigmas, 1)
    assert got == pytest.approx(0.005 - 0.04 / 32, abs=2e-4)
