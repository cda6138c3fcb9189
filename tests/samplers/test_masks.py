"""Inpainting: every model's latent has the known region, and what joins them leaves it out."""

import math

import pytest
import torch
from samplers.models import Recorder, gaussian, karras, mixture
from strategies import randn
from tolerances import assert_equal

from amdm import Known, amdm, karcher_mean, lerp_fold, sample_amdm, sample_ddim, slerp_fold
from amdm.denoisers import GaussianMixture
from amdm.geometry import angle, radial_correct
from amdm.samplers import ddim, dpmpp_2m, dpmpp_2m_sde, heun, join

SIGMAS = karras(10)
KNOWN = randn(5, 3, 8)
MASK = torch.tensor([1.0] * 5 + [0.0] * 3, dtype=torch.float64)
SOFT = torch.tensor([1.0, 0.7, 1.0, 0.2, 1.0, 0.0, 0.0, 0.5], dtype=torch.float64)
DIFFERENTIAL = [torch.gt(SOFT, 1 - (i + 1) / 10) for i in range(10)]
FREE = slice(0, 5)


def starts():
    return [20 * randn(i, 3, 8) for i in range(2)]


def correlated():
    """A Gaussian of 8 dependent coordinates: mean, covariance, and its denoiser."""
    factors = randn(3, 8, 8) / 2
    mean = randn(4, 8)
    model = GaussianMixture(mean[None], torch.full((1,), 0.1, dtype=torch.float64), factors=factors[None])
    return mean, 0.1 * torch.eye(8).double() + factors.mT @ factors, model


def joint():
    """Like `correlated`, whatever the layout of factors is: its covariance measured from its denoiser."""
    mean, _, model = correlated()
    gain = model(torch.eye(8).double() + mean, torch.ones(8).double()) - mean  # C (C + I)^-1
    covariance = torch.linalg.solve((torch.eye(8).double() - gain).mT, gain.mT).mT
    return mean, covariance, model


def test_the_latent_that_every_model_sees_is_known_there():
    models = [Recorder(mixture(n=8)), Recorder(mixture(1, n=8))]
    noise = randn(6, 3, 8)
    seen = [[], []]
    spied = [
        lambda x, sigma, k=k: (seen[k].append((x, float(sigma[0]))), models[k](x, sigma))[1] for k in (0, 1)
    ]
    result = sample_amdm(spied, starts(), SIGMAS, known=Known(KNOWN, MASK, noise), window=1.0, disable=True)
    for calls in seen:
        assert len(calls) == 10
        for x, sigma in calls:
            assert_equal(x[:, 5:], (KNOWN + sigma * noise)[:, 5:])
    assert torch.equal(result[:, 5:], KNOWN[:, 5:])


def test_the_default_noise_is_the_starts_own():
    """Then the start stays as it is, and what is known comes out of it on a straight line."""
    xs = starts()
    steps = list(amdm([mixture(n=8)] * 2, xs, SIGMAS, known=Known(KNOWN, MASK)))
    assert_equal(steps[0].x, xs[0])
    for step in steps:
        line = KNOWN + step.sigma_next / 20 * (xs[0] - KNOWN)
        assert_equal(step.x_next[:, 5:], line[:, 5:])
        assert torch.equal(step.denoised[:, 5:], KNOWN[:, 5:])


@pytest.mark.parametrize(("sampler", "eta"), [(ddim, 0.0), (ddim, 1.0), (heun, 0.0), (dpmpp_2m, 0.0)])
def test_of_independent_coordinates_the_rest_is_drawn_as_if_alone(sampler, eta):
    """Known and free coordinates do not depend on each other: the rest is that of the models of the rest."""
    wide = [gaussian([m] * 8, [0.5, 1.0] * 4) for m in (0.0, 1.0)]
    narrow = [gaussian([m] * 5, [0.5, 1.0, 0.5, 1.0, 0.5]) for m in (0.0, 1.0)]
    draws = randn(9, 20, 3, 8)
    noise = [iter(draws), iter(draws[:, :, FREE])]
    options = {"sampler": sampler, "eta": eta, "weights": 0.3, "disable": True}
    samplers = [lambda sigma, sigma_next, k=k: next(noise[k]) for k in (0, 1)]
    actual = sample_amdm(
        wide, starts(), SIGMAS, known=Known(KNOWN, MASK), noise_sampler=samplers[0], **options
    )
    expected = sample_amdm(
        narrow, [x[:, FREE] for x in starts()], SIGMAS, noise_sampler=samplers[1], **options
    )
    assert_equal(actual[:, FREE], expected, 1e-11)
    assert torch.equal(actual[:, 5:], KNOWN[:, 5:])


@pytest.mark.parametrize("fold", [slerp_fold, lerp_fold, karcher_mean])
def test_of_independent_coordinates_the_record_is_that_of_the_rest(fold):
    wide = [gaussian([m] * 8, 0.5) for m in (0.0, 1.0, -1.0)]
    narrow = [gaussian([m] * 5, 0.5) for m in (0.0, 1.0, -1.0)]
    xs = [*starts(), 20 * randn(8, 3, 8)]
    options = {"fold": fold, "weights": [0.5, 0.65], "correction": [0.01, 0.2, 3.0]}
    pairs = zip(
        amdm(wide, xs, SIGMAS, known=Known(KNOWN, MASK), **options),
        amdm(narrow, [x[:, FREE] for x in xs], SIGMAS, **options),
        strict=True,
    )
    for masked, alone in pairs:
        assert_equal(masked.x_next[:, FREE], alone.x_next, 1e-10)
        if masked.aggregation is not None:
            for name in ("angle", "distance", "norm_gap", "deviation", "correction_share"):
                assert_equal(getattr(masked.aggregation, name), getattr(alone.aggregation, name), 1e-8)
            assert masked.aggregation.corrected[0] is masked.x_next


def test_auto_goes_by_the_size_of_the_rest():
    mask = MASK.expand(3, 8).clone()
    mask[2] = 0  # a sample with nothing to draw
    step = next(amdm([mixture(n=8), mixture(1, n=8)], starts(), SIGMAS, known=Known(KNOWN, mask)))
    for lengths in step.aggregation.lengths:
        assert_equal(
            lengths, 0.3 * torch.tensor([5.0, 5.0, 0.0], dtype=torch.float64).div(16384).sqrt(), 1e-7
        )
    assert step.x_next.isfinite().all()


@pytest.mark.parametrize("mask", [MASK, SOFT, DIFFERENTIAL], ids=["hard", "soft", "differential"])
@pytest.mark.parametrize("equal", [1, 2])
def test_of_a_gaussian_it_is_the_closed_form(mask, equal):
    """Of dependent coordinates: the steps are affine, written out with the gain C (C + sigma^2)^-1."""
    mean, covariance, model = joint()
    noise, x = randn(6, 3, 8), starts()[0]
    masks = [m.double() for m in mask] if isinstance(mask, list) else [mask] * 10
    z = masks[0] * x + (1 - masks[0]) * (KNOWN + SIGMAS[0] * noise)
    for i in range(10):
        gain = covariance @ torch.linalg.inv(covariance + SIGMAS[i] ** 2 * torch.eye(8).double())
        denoised = mean + (z - mean) @ gain.mT
        z = denoised + SIGMAS[i + 1] / SIGMAS[i] * (z - denoised)
        z = masks[i] * z + (1 - masks[i]) * (KNOWN + SIGMAS[i + 1] * noise)
    actual = sample_amdm(
        [model] * equal, x, SIGMAS, known=Known(KNOWN, mask, noise), correction=0.0, disable=True
    )
    assert_equal(actual, z, 1e-9)


def test_a_model_of_the_posterior_draws_the_posterior():
    """Given the known coordinates a Gaussian's others are Gaussian, and drawn by models that know it."""
    mean, covariance, _ = joint()
    gain = covariance[:5, 5:] @ torch.linalg.inv(covariance[5:, 5:])
    centre = mean[:5] + (KNOWN[0, 5:] - mean[5:]) @ gain.mT
    rest = covariance[:5, :5] - gain @ covariance[5:, :5]
    sigmas = karras(60, 60.0, 0.01)

    def posterior(x, sigma):
        s2 = sigma[0] ** 2
        shrink = rest @ torch.linalg.inv(rest + s2 * torch.eye(5).double())
        return torch.cat([centre + (x[:, :5] - centre) @ shrink.mT, x[:, 5:]], dim=1)

    x = 60 * randn(0, 4000, 8)
    options = {"correction": 0.0, "window": 1, "disable": True, "sampler": heun}
    drawn = sample_amdm([posterior] * 2, x, sigmas, known=Known(KNOWN[:1], MASK), **options)[:, :5]
    assert torch.allclose(drawn.mean(0), centre, atol=0.06)
    assert torch.allclose(torch.cov(drawn.mT), rest, atol=0.1)


def test_a_mask_that_covers_nothing_changes_nothing():
    models, xs = [mixture(n=8), mixture(1, n=8)], starts()
    expected = sample_amdm(models, xs, SIGMAS, disable=True, correction=0.2)
    actual = sample_amdm(
        models, xs, SIGMAS, disable=True, correction=0.2, known=Known(KNOWN, torch.ones(1).double())
    )
    assert torch.equal(actual, expected)


def test_one_model_is_inpainted_too():
    """As k-diffusion's users do it, with the known latent put in after every step."""
    noise = randn(6, 3, 8)
    known = Known(KNOWN, MASK, noise)
    actual = sample_amdm([mixture(n=8)], starts()[0], SIGMAS, known=known, disable=True)
    put = lambda x, sigma: torch.where(MASK > 0, x, KNOWN + sigma * noise)
    x = put(starts()[0], SIGMAS[0])
    for step in range(10):
        x = put(sample_ddim(mixture(n=8), x, SIGMAS[step : step + 2], disable=True), SIGMAS[step + 1])
    assert_equal(actual, x)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_other_dtypes(dtype):
    models = [lambda x, sigma: x / (1 + sigma[:, None] ** 2)] * 2
    xs = [x.to(dtype) for x in starts()]
    result = sample_amdm(
        models, xs, SIGMAS, known=Known(KNOWN.float(), MASK > 0), disable=True, sampler=dpmpp_2m_sde, eta=1.0
    )
    assert result.dtype == dtype and torch.equal(result[:, 5:], KNOWN.float().to(dtype)[:, 5:])


def test_join_leaves_the_rest_to_each_model():
    xs, means = [randn(i, 3, 4, 2) for i in range(2)], [randn(i, 3, 4, 2) for i in (2, 3)]
    mask = torch.tensor([1.0, 0.0, 0.5, 0.0]).double()[:, None]
    record = join(xs, means, 1.0, mask=mask, correction=0.3)
    rows = [0, 2]
    merged = slerp_fold([x[:, rows] for x in xs], [0.5])
    for k in range(2):
        expected = radial_correct(merged, means[k][:, rows], 0.3 * math.sqrt(2))
        assert_equal(record.corrected[k][:, rows], expected)
        assert torch.equal(record.corrected[k][:, [1, 3]], xs[k][:, [1, 3]])
    assert_equal(record.angle[0], angle(*[x[:, rows] for x in xs]))
    assert not record.merged[:, [1, 3]].any()


@pytest.mark.parametrize(("sampler", "eta"), [(ddim, 0.0), (ddim, 1.0), (heun, 0.0), (dpmpp_2m, 0.0)])
def test_a_step_that_is_taken_again_is_the_same(sampler, eta):
    """After a callback that writes next to nothing, with partners, a soft mask and a late window."""

    def run(callback):
        draws = iter(randn(9, 20, 3, 8))
        options = {"sampler": sampler, "eta": eta, "window": (2, 7), "callback": callback, "disable": True}
        models = [mixture(n=8), mixture(1, n=8)]
        noise = lambda sigma, sigma_next: next(draws)
        known = Known(KNOWN, SOFT, randn(6, 3, 8))
        return sample_amdm(models, starts(), SIGMAS, known=known, noise_sampler=noise, **options)

    def touch(info):
        info["x"][:, 6] += 1e-10  # where all have the known latent

    assert_equal(run(touch), run(None), 1e-8)


def test_a_generator_of_ones_own_is_told():
    """It gets the latent with the known region in it."""

    def own(model, x, sigmas, extra_args=None, *, eta, noise_sampler):
        yield from ddim(model, x, sigmas, extra_args, eta=eta, noise_sampler=noise_sampler)

    models, known = [mixture(n=8), mixture(1, n=8)], Known(KNOWN, MASK)
    expected = sample_amdm(models, starts(), SIGMAS, known=known, disable=True)
    assert_equal(sample_amdm(models, starts(), SIGMAS, known=known, sampler=own, disable=True), expected)


def test_nan_in_the_known_latent_is_its_own():
    latent = KNOWN.clone()
    latent[1, 7] = torch.nan
    with pytest.raises(
        FloatingPointError, match=r"known.latent has NaN or infinity for sample 1, first at step 0"
    ):
        sample_amdm([mixture(n=8)] * 2, starts(), SIGMAS, known=Known(latent, MASK), disable=True)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("known", "error", "message"),
    [
        (
            lambda: Known(KNOWN[:2], MASK),
            ValueError,
            r"known.latent has shape \(2, 8\), expected .* \(3, 8\)",
        ),
        (lambda: Known(KNOWN, MASK[:4]), ValueError, r"known.mask has shape \(4,\), expected .* \(3, 8\)"),
        (lambda: Known(KNOWN, [MASK] * 4), ValueError, "known.mask has 4 entries but there are 10 steps"),
        (lambda: Known(KNOWN, MASK, KNOWN[:, :3]), ValueError, r"known.noise has shape \(3, 3\)"),
        (lambda: Known(3.0, MASK), TypeError, "known.latent is float, expected a tensor"),
        (lambda: Known(KNOWN, [1.0] * 10), TypeError, r"known.mask\[0\] is float, expected a tensor"),
        (lambda: KNOWN, TypeError, "known is Tensor, expected Known"),
    ],
)
def test_arguments(known, error, message):
    with pytest.raises(error, match=message):
        amdm([mixture(n=8)] * 2, starts(), SIGMAS, known=known())
