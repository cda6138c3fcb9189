"""Projective guidance: its formula by a loop, exact models, empty windows, AMDM's first step."""

import math
from typing import Any

import pytest
import torch
from samplers.models import gaussian, karras, mixture, noises
from strategies import randn
from tolerances import assert_equal

from amdm import Restart, lerp_fold, seeded_noise, sigma_window
from amdm.denoisers import GaussianMixture, Guided, GuidedPair
from amdm.samplers import (
    Controls,
    amdm,
    ddim,
    ddim_step,
    dpmpp_2m,
    dpmpp_2m_sde,
    heun,
    projective_guidance,
    sample_amdm,
    sample_ddim,
    sample_dpmpp_2m,
    sample_heun,
    sample_projective_guidance,
)

SIGMAS = karras(10)
X = 20 * randn(0, 4, 6)
INNER = [(ddim, 0.0), (ddim, 0.7), (heun, 0.0), (dpmpp_2m, 0.0), (dpmpp_2m_sde, 0.6)]


def own(model, x, sigmas, extra_args=None, **options):
    """A generator of the user's own, which is driven."""
    return (yield from ddim(model, x, sigmas, extra_args, **options))


def guided(seed, scale=3.0):
    return GuidedPair(mixture(seed), mixture(99), scale)


LEAD, PARTNERS, BACKGROUND = guided(0), [guided(1, 2.0), mixture(2)], mixture(7)
MODELS = [LEAD, *PARTNERS]


class Counted:
    """A guided network whose rows are counted: `Guided` doubles them."""

    def __init__(self, seed):
        self.model, self.rows = mixture(seed), 0

    def __call__(self, x, sigma, shift=0.0):
        self.rows += len(x)
        return self.model(x, sigma) + shift


def composed(x, sigma, g, weights=(1.0, 1.0), backgrounds=(BACKGROUND, BACKGROUND)):
    """D, term by term."""
    level = x.new_full((len(x),), sigma)
    u, c = mixture(99)(x, level), mixture(0)(x, level)
    for w, seed, background in zip(weights, (1, 2), backgrounds, strict=True):
        c = c + w * (mixture(seed)(x, level) - background(x, level))
    return u + g * (c - u)


@pytest.mark.parametrize("num_starts", [1, 3])
@pytest.mark.parametrize("weights", [1.0, [0.5, 1.5]])
def test_predictions_that_are_all_guided_already(weights, num_starts):
    """u_i + g (c_i - u_i) - (u_i + g (c_0 - u_i)) = g (c_i - c_0) if a background has its partner's u_i."""
    g, x = 3.0, X if num_starts == 1 else list(20 * randn(5, 3, 4, 6))

    def wrapped(seed, unconditional):
        uncond, cond = mixture(unconditional), mixture(seed)
        return lambda x, sigma: uncond(x, sigma) + g * (cond(x, sigma) - uncond(x, sigma))

    def split(seed, unconditional):
        return GuidedPair(mixture(seed), mixture(unconditional), g)

    found, expected = (
        sample_projective_guidance(
            [of(0, 90), of(1, 91), of(2, 92)],
            x,
            SIGMAS,
            background=[of(7, 91), of(7, 92)],
            weights=weights,
            disable=True,
        )
        for of in (wrapped, split)
    )
    assert_equal(found, expected, 1e-12)


def test_the_formula_by_a_loop():
    """Euler's steps by hand: in the window with D, then with the lead's own guidance."""
    x = X
    for i, (sigma, sigma_next) in enumerate(zip(SIGMAS[:-1].tolist(), SIGMAS[1:].tolist(), strict=True)):
        denoised = composed(x, sigma, 2.0) if i < 4 else LEAD(x, x.new_full((4,), sigma))
        x = denoised + sigma_next / sigma * (x - denoised)
    found = sample_projective_guidance(
        MODELS, X, SIGMAS, background=BACKGROUND, guidance=2.0, window=4, disable=True
    )
    assert_equal(found, x, 1e-12)


@pytest.mark.parametrize(
    "weights", [0.5, [0.5, -2.0], torch.tensor([0.5, 0.5]), lambda controls: [0.25, 1.5]]
)
@pytest.mark.parametrize("guidance", [None, 0.0, 1.0, 4.0])
def test_the_denoiser_of_a_step(guidance, weights):
    step = next(
        projective_guidance(
            MODELS, X, SIGMAS, background=BACKGROUND, guidance=guidance, weights=weights, window=1
        )
    )
    each = {0.5: (0.5, 0.5)}.get(weights) if isinstance(weights, float) else weights
    each = [0.25, 1.5] if callable(each) else each
    expected = composed(X, SIGMAS[0].item(), 3.0 if guidance is None else guidance, each)
    assert_equal(step.denoised, expected, 1e-12)
    assert_equal(step.x_next, ddim_step(X, expected, SIGMAS[0], SIGMAS[1])[0], 1e-12)


def test_a_background_for_each_partner():
    backgrounds = [mixture(11), GuidedPair(mixture(12), mixture(99), 7.0)]
    step = next(projective_guidance(MODELS, X, SIGMAS, background=backgrounds, window=1))
    expected = composed(X, SIGMAS[0].item(), 3.0, backgrounds=(mixture(11), mixture(12)))
    assert_equal(step.denoised, expected, 1e-12)


def test_weights_per_sample_and_per_element():
    x, sigmas = X.reshape(4, 1, 2, 3), SIGMAS
    flat = lambda model: lambda x, sigma: model(x.flatten(1), sigma).reshape(x.shape)
    models = [flat(mixture(seed)) for seed in (0, 1, 2)]
    region, each = torch.tensor([[0.0, 1, 2], [3, 4, 5]]).double()[None, None], randn(3, 4)
    options = {"background": flat(BACKGROUND), "window": 1}
    step = next(projective_guidance(models, x, sigmas, weights=[region, each], **options))
    shares = (region.expand(4, 1, 2, 3).flatten(1), each[:, None])
    assert_equal(step.denoised.flatten(1), composed(X, sigmas[0].item(), 1.0, shares), 1e-12)


@pytest.mark.usefixtures("unchecked")
def test_weights_of_another_shape():
    with pytest.raises(ValueError, match=r"weights\[1\] has shape \(3, 2\), expected a number"):
        projective_guidance(MODELS, X, SIGMAS, background=BACKGROUND, weights=[1.0, torch.ones(3, 2)])


@pytest.mark.parametrize(("sampler", "eta"), [*INNER, (own, 0.7)])
@pytest.mark.parametrize("options", [{"window": 0}, {"window": (3, 3)}, {"models": 1}])
def test_one_model_or_an_empty_window_is_the_lead_alone(options, sampler, eta):
    models, options = MODELS[: options.get("models", 3)], {"window": options.get("window", 0.4)}
    alone = list(sampler(LEAD, X, SIGMAS, eta=eta, noise_sampler=noises(3, *X.shape)))[-1].x_next
    found = sample_projective_guidance(
        models,
        X,
        SIGMAS,
        background=BACKGROUND,
        guidance=5.0,
        sampler=sampler,
        eta=eta,
        noise_sampler=noises(3, *X.shape),
        disable=True,
        **options,
    )
    assert torch.equal(found, alone)


@pytest.mark.parametrize(("sampler", "eta"), [*INNER, (own, 0.7)])
def test_the_whole_schedule_is_the_samplers_with_that_denoiser(sampler, eta):
    denoiser = lambda x, sigma: composed(x, sigma[0].item(), 2.0)
    expected = list(sampler(denoiser, X, SIGMAS, eta=eta, noise_sampler=noises(3, *X.shape)))[-1].x_next
    found = sample_projective_guidance(
        MODELS,
        X,
        SIGMAS,
        background=BACKGROUND,
        guidance=2.0,
        window=1.0,
        sampler=sampler,
        eta=eta,
        noise_sampler=noises(3, *X.shape),
        disable=True,
    )
    assert_equal(found, expected, 1e-9)


@pytest.mark.parametrize(("sampler", "eta"), [*INNER, (own, 0.7)])
@pytest.mark.parametrize("window", [(0, 4), (2, 6)])
def test_a_history_is_of_one_denoiser(sampler, eta, window):
    """The window is a run of its own between runs of the lead: nothing is remembered across its edges."""
    start, stop = window
    noise, x = noises(3, *X.shape), X
    denoiser = lambda x, sigma: composed(x, sigma[0].item(), 3.0)
    for first, last, model in ((0, start, LEAD), (start, stop, denoiser), (stop, len(SIGMAS) - 1, LEAD)):
        for step in sampler(model, x, SIGMAS[first : last + 1], eta=eta, noise_sampler=noise, validate=False):
            x = step.x_next
    found = sample_projective_guidance(
        MODELS,
        X,
        SIGMAS,
        background=BACKGROUND,
        window=window,
        sampler=sampler,
        eta=eta,
        noise_sampler=noises(3, *X.shape),
        disable=True,
    )
    assert_equal(found, x, 1e-9)


# From N starts


STARTS = [20 * randn(seed, 4, 6) for seed in range(3)]


@pytest.mark.parametrize(("sampler", "eta"), [*INNER, (own, 0.7)])
@pytest.mark.parametrize("window", [1, 4, (2, 6)])
@pytest.mark.parametrize("fold", [lerp_fold, None])
def test_the_first_step_is_amdms_bit_for_bit(sampler, eta, window, fold):
    """And so is what comes before the window."""
    options: dict[str, Any] = {"window": window, "sampler": sampler, "eta": eta}
    options |= {} if fold is None else {"fold": fold}
    noise = [{"noise_sampler": noises(3, *X.shape)} for _ in range(2)]
    theirs = amdm(MODELS, STARTS, SIGMAS, **options, **noise[0])
    ours = projective_guidance(MODELS, STARTS, SIGMAS, background=BACKGROUND, **options, **noise[1])
    for _ in range(1 if isinstance(window, int) else 3):
        assert torch.equal(next(ours).x_next, next(theirs).x_next)


def test_after_the_first_step_there_is_one_latent():
    """Each model takes its guided step from its start, with the window's scale; then D alone."""
    steps = list(projective_guidance(MODELS, STARTS, SIGMAS, background=BACKGROUND, guidance=2.0, window=4))
    first = [GuidedPair(mixture(0), mixture(99), 2.0), GuidedPair(mixture(1), mixture(99), 2.0), mixture(2)]
    (expected,) = [next(amdm(first, STARTS, SIGMAS, window=1))]
    assert torch.equal(steps[0].x_next, expected.x_next) and steps[0].aggregation is not None
    for step in steps[1:4]:
        assert_equal(step.denoised, composed(step.x, step.sigma, 2.0), 1e-12)
        assert isinstance(step.record, Controls) and step.aggregation is None
    for step in steps[4:]:
        assert_equal(step.denoised, LEAD(step.x, step.x.new_full((4,), step.sigma)), 1e-12)
        assert step.record is None


def test_a_lead_of_scale_one_is_guided_in_the_first_step_too():
    models = [GuidedPair(mixture(0), mixture(99), 1.0), GuidedPair(mixture(1), mixture(99), 1.0)]
    step = next(
        projective_guidance(models, STARTS[:2], SIGMAS, background=BACKGROUND, guidance=2.0, window=1)
    )
    first = [GuidedPair(mixture(0), mixture(99), 2.0), mixture(1)]
    assert torch.equal(step.x_next, next(amdm(first, STARTS[:2], SIGMAS, window=1)).x_next)


@pytest.mark.parametrize("guidance", [None, 2.0])
def test_a_multistep_history_is_dropped_after_the_joining(guidance):
    x = next(
        projective_guidance(
            MODELS, STARTS, SIGMAS, background=BACKGROUND, guidance=guidance, window=4, sampler=dpmpp_2m
        )
    ).x_next
    denoiser = lambda x, sigma: composed(x, sigma[0].item(), guidance or 3.0)
    for first, last, model in ((1, 4, denoiser), (4, 10, LEAD)):
        for step in dpmpp_2m(model, x, SIGMAS[first : last + 1], validate=False):
            x = step.x_next
    found = sample_projective_guidance(
        MODELS,
        STARTS,
        SIGMAS,
        background=BACKGROUND,
        guidance=guidance,
        window=4,
        sampler=dpmpp_2m,
        disable=True,
    )
    assert_equal(found, x, 1e-12)


def test_each_model_works_in_the_dtype_of_its_start():
    seen = []

    def partner(x, sigma):
        seen.append(x.dtype)
        return mixture(1)(x, sigma)

    models, starts = [mixture(0), partner], [STARTS[0], STARTS[1].float()]
    found = sample_projective_guidance(
        models, starts, SIGMAS, background=BACKGROUND, window=3, disable=True, validate=False
    )
    assert found.dtype == torch.float64 and seen == [torch.float32] * 3
    assert_equal(
        found,
        sample_projective_guidance(
            [mixture(0), mixture(1)], STARTS[:2], SIGMAS, background=BACKGROUND, window=3, disable=True
        ),
        1e-5,
    )


# Exact models


def blocks(given):
    """A Gaussian of three independent blocks, rotated; a control shifts and narrows its own block."""
    mean, variance = torch.zeros(6).double(), torch.full((6,), 0.5).double()
    for block, (shift, factor) in given.items():
        mean[2 * block : 2 * block + 2] += shift
        variance[2 * block : 2 * block + 2] *= factor
    turn = torch.linalg.qr(randn(5, 6, 6))[0]
    scale = (variance - variance.min()).clamp(min=0).sqrt()
    factors = (turn * scale).mT[None]
    return GaussianMixture((turn @ mean)[None], variance.min()[None], factors=factors)


A, B = {0: (1.0, 0.3)}, {1: (-2.0, 0.6)}


@pytest.mark.parametrize("sigma", [1e-3, 0.1, 1.0, 10.0, 100.0])
def test_independent_blocks_make_the_joint_denoiser_at_every_level(sigma):
    """After a rotation; D is what the sampler's step is taken with."""
    caption, a, b, joint = blocks({}), blocks(A), blocks(B), blocks(A | B)
    sigmas, x = torch.tensor([sigma, sigma / 2], dtype=torch.float64), sigma * randn(1, 4, 6)
    step = next(projective_guidance([a, b], x, sigmas, background=caption, window=1, validate=False))
    assert_equal(step.denoised, joint(x, x.new_full((4,), sigma)), 1e-10)


def test_independent_blocks_are_sampled_as_the_joint_model():
    """The same noise leads to the same images, along the whole schedule."""
    options = {"eta": 1.0, "disable": True}
    joint = sample_ddim(blocks(A | B), X, SIGMAS, noise_sampler=noises(1, *X.shape), **options)
    found = sample_projective_guidance(
        [blocks(A), blocks(B)],
        X,
        SIGMAS,
        background=blocks({}),
        window=1.0,
        noise_sampler=noises(1, *X.shape),
        **options,
    )
    assert_equal(found, joint, 1e-10)


def test_a_control_keeps_its_guidance_which_amdm_halves():
    """Of Gaussians of unit variance each guided prediction is linear in the means.

    A(+B)'s two guided predictions average to half of each control's guidance; here both keep all of it.
    """
    caption, a, b = (
        gaussian([0.0, 0.0], [1.0, 1.0]),
        gaussian([1.0, 0.0], [1.0, 1.0]),
        gaussian([0.0, 1.0], [1.0, 1.0]),
    )
    models, x = [GuidedPair(a, caption, 4.0), GuidedPair(b, caption, 4.0)], torch.zeros(1, 2).double()
    sigmas = torch.tensor([1.0, 0.0], dtype=torch.float64)
    options = {"window": 1, "validate": False}
    once = next(projective_guidance(models, x, sigmas, background=caption, **options)).denoised
    halved = next(amdm(models, x, sigmas, fold=lerp_fold, correction=0.0, **options)).x_next
    assert_equal(once, torch.tensor([[2.0, 2.0]]).double())  # 4 sigma^2 / (1 + sigma^2) of each mean
    assert_equal(halved, once / 2)


# What is called


@pytest.mark.parametrize("shared", [True, False])
def test_passes_are_counted(shared):
    """N + 2 rows a step with a shared background, 2 N with one each; then the lead's two."""
    nets = [Counted(seed) for seed in range(3)]
    backgrounds = [Counted(7), Counted(8)]
    told = {"cond": {"shift": torch.ones(4, 1).double()}, "uncond": {"shift": torch.zeros(4, 1).double()}}
    steps = projective_guidance(
        [Guided(net, 3.0) for net in nets],
        X,
        SIGMAS,
        [told] * 3 + ([None] if shared else [{"shift": 0.5}] * 2),
        background=backgrounds[0] if shared else backgrounds,
        window=3,
    )
    for index in range(1, 6):
        next(steps)
        inside = min(index, 3)
        assert [net.rows for net in nets] == [8 * index, 4 * inside, 4 * inside]
        assert [net.rows for net in backgrounds] == [4 * inside, 0 if shared else 4 * inside]


def test_guidance_of_one_calls_no_unconditional_model():
    def never(x, sigma):
        raise AssertionError("the unconditional model ran")

    models = [GuidedPair(mixture(0), never, 1.0), GuidedPair(mixture(1), never, 3.0)]
    drawn = sample_projective_guidance(models, X, SIGMAS, background=BACKGROUND, disable=True)
    assert drawn.isfinite().all()


def test_partners_are_called_in_the_window_only_if_all_have_one_start():
    seen = []

    def partner(x, sigma):
        seen.append(sigma[0].item())
        return mixture(1)(x, sigma)

    options = {"background": BACKGROUND, "window": (3, 5), "disable": True}
    sample_projective_guidance([LEAD, partner], X, SIGMAS, **options)
    assert seen == SIGMAS[3:5].tolist()
    seen.clear()
    sample_projective_guidance([LEAD, partner], STARTS[:2], SIGMAS, **options)
    assert seen == SIGMAS[:5].tolist()


def test_extra_args_go_to_their_models():
    def told(expected):
        def model(x, sigma, **extra_args):
            assert extra_args == expected
            return mixture(0)(x, sigma)

        return model

    each = [{"a": 1}, {"b": 2}, {"c": 3}]
    models = [told(args) for args in each[:2]]
    for sampler in (ddim, own):
        options = {"window": 4, "disable": True, "sampler": sampler}
        sample_projective_guidance(models, X, SIGMAS, each, background=told({"c": 3}), **options)
        same = told({"a": 1})
        sample_projective_guidance([same, same], X, SIGMAS, {"a": 1}, background=same, **options)
    message = (
        "^extra_args has 2 entries but there are 2 models and 1 background: expected 3, the models' first$"
    )
    with pytest.raises(ValueError, match=message):
        projective_guidance(models, X, SIGMAS, each[:2], background=told({}))
    backgrounds = [told({}), told({})]
    with pytest.raises(ValueError, match="but there are 3 models and 2 backgrounds: expected 5, the models'"):
        projective_guidance([*models, models[0]], X, SIGMAS, each[:2], background=backgrounds)


def test_window_eta_is_the_windows_alone():
    steps = list(
        projective_guidance(
            MODELS, X, SIGMAS, background=BACKGROUND, window=4, window_eta=1.0, noise_sampler=noises(0, 4, 6)
        )
    )
    assert [step.std > 0 for step in steps] == [True] * 4 + [False] * 6
    steps = list(
        projective_guidance(MODELS, X, SIGMAS, background=BACKGROUND, window=4, eta=1.0, window_eta=0.0)
    )
    assert [step.std > 0 for step in steps] == [False] * 4 + [True] * 5 + [False]


def test_from_n_starts_each_model_has_noise_of_its_own():
    shape = X.shape[1:]
    streams = [seeded_noise(range(4), shape, stream=k) for k in range(3)]
    options = {"window": 4, "eta": 1.0, "noise_sampler": streams}
    theirs = next(amdm(MODELS, STARTS, SIGMAS, **options))
    streams[:] = [seeded_noise(range(4), shape, stream=k) for k in range(3)]
    ours = next(projective_guidance(MODELS, STARTS, SIGMAS, background=BACKGROUND, **options))
    assert torch.equal(ours.x_next, theirs.x_next)


def test_a_record_says_what_the_controls_are():
    step = next(projective_guidance(MODELS, X, SIGMAS, background=BACKGROUND, window=1))
    level, record = X.new_full((4,), step.sigma), step.record
    c0 = BACKGROUND(X, level)
    each = [mixture(seed)(X, level) - c0 for seed in range(3)]
    assert_equal(record.lead, each[0])
    assert_equal(record.norms, torch.stack([direction.norm(dim=1) for direction in each]))
    cosines = [(each[0] * other).sum(1) / each[0].norm(dim=1) / other.norm(dim=1) for other in each[1:]]
    assert_equal(record.angle, torch.stack(cosines).acos(), 1e-9)
    assert repr(record) == "Controls(2 partners, x=(4, 6))"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_latents_keep_their_dtype(dtype):
    sigmas = torch.tensor([20.0, 10.0, 5.0]).double()
    options = {"background": BACKGROUND, "guidance": 2.0, "window": 1.0, "disable": True}
    exact = sample_projective_guidance(MODELS, X, sigmas, **options)
    found = sample_projective_guidance(MODELS, X.to(dtype), sigmas, **options)
    assert found.dtype == dtype
    assert_equal(found.double(), exact, {torch.float16: 0.01, torch.bfloat16: 0.05}.get(dtype, 1e-4))


# Sending, writing, failing


@pytest.mark.parametrize(("sampler", "eta"), [(ddim, 0.0), (dpmpp_2m, 0.0), (own, 0.0)])
def test_what_is_sent_is_gone_on_from(sampler, eta):
    options = {"background": BACKGROUND, "window": 4, "sampler": sampler}
    steps = projective_guidance(MODELS, X, SIGMAS, **options)
    next(steps), next(steps)
    assert torch.equal(steps.send(2 * X).x, 2 * X)
    x = 3 * X
    step = steps.send(Restart(x))
    assert_equal(step.denoised, composed(x, step.sigma, 3.0), 1e-12)
    assert_equal(step.x_next, ddim_step(x, step.denoised, step.sigma, step.sigma_next)[0], 1e-9)


@pytest.mark.parametrize(
    ("sampler", "alone"), [(ddim, sample_ddim), (heun, sample_heun), (dpmpp_2m, sample_dpmpp_2m)]
)
def test_a_written_step_is_the_samplers(sampler, alone):
    """In the window the given prediction is D's: the sampler with the composed denoiser does the same."""

    def write(info):
        if info["i"] < 3:
            info["x"].add_(0.5)
            info["denoised"].mul_(0.9)

    denoiser = lambda x, sigma: composed(x, sigma[0].item(), 3.0)
    expected = alone(denoiser, X.clone(), SIGMAS, callback=write, disable=True)
    options = {"background": BACKGROUND, "window": 1.0, "sampler": sampler, "disable": True}
    found = sample_projective_guidance(MODELS, X.clone(), SIGMAS, callback=write, **options)
    assert_equal(found, expected, 1e-10)


def test_a_first_step_that_is_written_into_is_amdms():
    def write(info):
        if info["i"] == 0:
            info["x"].add_(0.5)

    seen: list[Any] = [[], []]
    for k, (sample, options) in enumerate(
        ((sample_amdm, {}), (sample_projective_guidance, {"background": BACKGROUND}))
    ):
        starts = [x.clone() for x in STARTS]

        def callback(info, k=k):
            write(info)
            seen[k].append(info)

        sample(MODELS, starts, SIGMAS, callback=callback, window=4, disable=True, **options)
    assert torch.equal(seen[0][1]["x"], seen[1][1]["x"])


def test_what_is_not_finite_is_named():
    def broken(model):
        def call(x, sigma):
            result = model(x, sigma).clone()
            result[1, 0] = math.nan
            return result

        return call

    named = {
        r"models\[0\] returned": ([broken(mixture(0)), mixture(1)], BACKGROUND),
        r"models\[1\] returned": ([LEAD, GuidedPair(broken(mixture(1)), mixture(99), 2.0)], BACKGROUND),
        r"background returned": ([LEAD, mixture(1)], broken(BACKGROUND)),
        r"background\[0\] returned": ([LEAD, mixture(1)], [broken(BACKGROUND)]),
    }
    for name, (models, background) in named.items():
        steps = projective_guidance(models, X, SIGMAS, background=background)
        with pytest.raises(
            FloatingPointError, match=rf"^{name} NaN or infinity for sample 1, first at step 0"
        ):
            list(steps)


def test_weights_that_a_function_returns_are_watched():
    weights = lambda controls: [torch.tensor([1.0, 1.0, math.nan, 1.0]).double(), 1.0]
    with pytest.raises(
        FloatingPointError, match=r"^weights led to NaN or infinity for sample 2, first at step 0"
    ):
        list(projective_guidance(MODELS, X, SIGMAS, background=BACKGROUND, weights=weights))


WRONG = [
    ({}, TypeError, "^background is None, expected a denoiser of what all models are told"),
    ({"background": 3}, TypeError, "^background is int, expected a callable model"),
    ({"background": []}, ValueError, "^background is empty"),
    (
        {"background": [mixture()]},
        ValueError,
        r"^background has 1 entries but there are 3 models: expected 2",
    ),
    ({"guidance": math.nan}, ValueError, "^guidance is nan, expected a finite number"),
    ({"guidance": "3"}, TypeError, "^guidance is str, expected a finite number"),
    ({"weights": [1.0]}, ValueError, "^weights has 1 entries but there are 3 models: expected 2"),
    ({"weights": [1.0, math.inf]}, ValueError, r"^weights\[1\] is inf, expected a finite number"),
    ({"weights": "1"}, TypeError, r"^weights\[0\] is str"),
    ({"window": 1.5}, ValueError, "^window is 1.5"),
    ({"fold": 3}, TypeError, r"^fold is int, expected a callable fold\(xs, weights\)"),
    ({"eta": -1.0}, ValueError, "^eta is -1.0"),
    ({"window_eta": -1.0}, ValueError, "^window_eta is -1.0, expected a finite number of 0 or more, or None"),
    ({"window_eta": 1.0, "sampler": own}, ValueError, "^window_eta is 1.0 and eta 0.0, expected one"),
    ({"window_eta": 1.0, "sampler": heun}, ValueError, "^eta is 1.0, expected 0: heun is deterministic"),
    ({"sampler": "ddim"}, TypeError, "^sampler is str"),
]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("options", "error", "message"), WRONG)
def test_wrong_arguments_at_the_call(options, error, message):
    given = options if "background" in options or not options else {"background": BACKGROUND, **options}
    with pytest.raises(error, match=message):
        projective_guidance(MODELS, X, SIGMAS, **given)


def test_a_lead_that_does_not_tell_its_unconditional_prediction():
    message = r"^guidance is 3.0 but models\[0\] is GaussianMixture, without a method `both`"
    with pytest.raises(TypeError, match=message):
        projective_guidance([mixture(0), LEAD], X, SIGMAS, background=BACKGROUND, guidance=3.0)
    sample_projective_guidance(
        [mixture(0), LEAD], X, SIGMAS, background=BACKGROUND, guidance=1.0, disable=True
    )


def test_a_model_with_nothing_but_both():
    """Its conditional prediction is the second of both; its own scale is not known."""

    class Two:
        def __init__(self, seed):
            self.pair = guided(seed)

        def __call__(self, x, sigma):
            return self.pair(x, sigma)

        def both(self, x, sigma):
            return self.pair.both(x, sigma)

    models = [Two(0), Two(1), Two(2)]
    step = next(projective_guidance(models, X, SIGMAS, background=BACKGROUND, guidance=2.0, window=1))
    assert_equal(step.denoised, composed(X, step.sigma, 2.0), 1e-12)
    with pytest.raises(
        TypeError, match=r"^guidance is None but models\[0\] is Two, whose scale is not known"
    ):
        projective_guidance(models, X, SIGMAS, background=BACKGROUND)


@pytest.mark.parametrize("guidance", [None, 2.0])
def test_from_one_start_the_partners_scales_have_no_effect(guidance):
    options = {"background": BACKGROUND, "guidance": guidance, "window": 4, "disable": True}
    one, other = (
        sample_projective_guidance([LEAD, GuidedPair(mixture(1), mixture(9), scale)], X, SIGMAS, **options)
        for scale in (1.0, 7.5)
    )
    assert torch.equal(one, other)


@pytest.mark.usefixtures("unchecked")
def test_both_returns_two_predictions():
    class Wrong:
        def __call__(self, x, sigma):
            return x

        def both(self, x, sigma):
            return x

        def guidance_at(self, sigma):
            return 3.0

    with pytest.raises(TypeError, match=r"^models\[0\].both returned Tensor, expected two predictions"):
        next(projective_guidance([Wrong(), mixture(1)], X, SIGMAS, background=BACKGROUND))


def test_a_scale_of_every_sample():
    class Each(GuidedPair):
        def guidance_at(self, sigma):
            return 1 + torch.arange(len(sigma), dtype=sigma.dtype)

    lead = Each(mixture(0), mixture(99), 3.0)
    step = next(projective_guidance([lead, *PARTNERS], X, SIGMAS, background=BACKGROUND, window=1))
    scale = 1 + torch.arange(4).double()[:, None]
    assert_equal(step.denoised, composed(X, step.sigma, scale), 1e-12)


def test_a_window_of_levels():
    steps = list(
        projective_guidance(MODELS, X, SIGMAS, background=BACKGROUND, window=sigma_window(1.0, 10.0))
    )
    assert all((step.record is not None) == (1.0 <= step.sigma <= 10.0) for step in steps)
