"""AMDM: Algorithm 1 in the paper's coordinates, the laws of aggregation, what is called when."""

import math
from functools import partial
from itertools import pairwise

import pytest
import torch
from oracles import algorithm_1
from samplers.models import Recorder, karras, mixture
from strategies import randn
from tolerances import assert_equal

from amdm import (
    Restart,
    Step,
    sample_amdm,
    sample_ddim,
    seeded_noise,
    shared_noise,
    sigma_window,
    start_noise,
)
from amdm.geometry import karcher_mean, lerp_fold, slerp_fold
from amdm.samplers import amdm, ddim, dpmpp_2m, dpmpp_2m_sde, heun, join

SAMPLERS = [ddim, heun, dpmpp_2m, dpmpp_2m_sde]
N_DIM = 6


def starts(num, batch=3, sigma=20.0, seed=1):
    return [(1 + sigma**2) ** 0.5 * x for x in randn(seed, num, batch, N_DIM)]


@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("window", [(0, 5), (4, 9), (0, 12), (0, 0), (7, 7)])
@pytest.mark.parametrize(("weights", "lengths"), [([0.5], [0.3, 0.3]), ([0.5, 0.65], [0.05, 0.3, 2.0])])
def test_is_algorithm_1_in_vp_coordinates(weights, lengths, window, eta):
    num = len(lengths)
    models, xs, sigmas = [mixture(seed) for seed in range(num)], starts(num), karras(12)
    sigmas[-1] = 0.01
    draws = randn(9, 12, num, 3, N_DIM)
    noise = [iter(draws[:, i]) for i in range(num)]
    result = sample_amdm(
        models,
        xs,
        sigmas,
        disable=True,
        weights=weights,
        correction=lengths,
        window=window,
        eta=eta,
        noise_sampler=[lambda s, t, it=it: next(it) for it in noise],
    )
    vp = lambda sigma: (1 + sigma**2) ** 0.5

    def eps_model(model, z, abar):
        sigma = ((1 - abar) / abar) ** 0.5
        return model.eps(z * vp(sigma), sigma)

    expected = algorithm_1(
        [partial(eps_model, model) for model in models],
        [x / vp(float(sigmas[0])) for x in xs],
        [1 / (1 + sigma**2) for sigma in sigmas.tolist()],
        lambda k, i: draws[k, i],
        weights=weights,
        lengths=lengths,
        window=window if window[0] < window[1] else (0, 0),
        eta=eta,
    )
    assert_equal(result / vp(float(sigmas[-1])), expected, 1e-10)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("weights", [[0.5], [0.9], [0.5, 0.65], [0.0, 1.0]])
@pytest.mark.parametrize("fold", [slerp_fold, lerp_fold, karcher_mean])
def test_identical_models_from_one_start_are_the_single_model(sampler, weights, fold):
    model, x, sigmas = mixture(), starts(1)[0], karras(10)
    *_, alone = sampler(model, x, sigmas, eta=0.0)
    together = sample_amdm(
        [model] * (len(weights) + 1), x, sigmas, disable=True, weights=weights, sampler=sampler, fold=fold
    )
    assert_equal(together, alone.x_next, 1e-10)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_one_model_is_its_sampler_alone_bit_for_bit(sampler, eta):
    if eta and sampler in (heun, dpmpp_2m):
        eta = 0.0
    model, x, sigmas = mixture(), starts(1)[0], karras(10)
    noise = lambda: seeded_noise([1, 2, 3], [N_DIM])
    *_, alone = sampler(model, x, sigmas, eta=eta, noise_sampler=noise())
    together = sample_amdm(
        [model], x, sigmas, disable=True, window=1.0, sampler=sampler, eta=eta, noise_sampler=noise()
    )
    assert torch.equal(together, alone.x_next)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("window", [0, 0.0, (4, 4)])
def test_an_empty_window_is_model_1_alone_and_never_calls_the_others(sampler, window):
    model, partner, x, sigmas = mixture(), Recorder(mixture(1)), starts(1)[0], karras(10)
    *_, alone = sampler(model, x, sigmas, eta=0.0)
    assert torch.equal(
        sample_amdm([model, partner], x, sigmas, disable=True, window=window, sampler=sampler), alone.x_next
    )
    assert partner.sigmas == []


def test_a_weight_of_zero_without_correction_is_model_1_alone():
    models, xs, sigmas = [mixture(), mixture(1)], starts(2), karras(10)
    result = sample_amdm(models, xs, sigmas, disable=True, weights=0.0, correction=0.0)
    assert_equal(result, sample_ddim(models[0], xs[0], sigmas, disable=True), 1e-10)


@pytest.mark.parametrize("window", [(0, 4), (3, 7), (0, 10), (9, 10)])
@pytest.mark.parametrize("num", [1, 2, 3])
@pytest.mark.parametrize(("sampler", "per_step"), [(ddim, 1), (heun, 2)])
def test_evaluations(num, window, sampler, per_step):
    """N stop + T - stop steps; Heun calls twice, but once where its step ends at 0."""
    models, steps, stop = [Recorder(mixture(i)) for i in range(num)], 10, window[1]
    sample_amdm(models, starts(num), karras(steps), disable=True, window=window, sampler=sampler)
    calls = [len(model.sigmas) for model in models]
    last = 1 if sampler is heun else 0
    assert calls[0] == per_step * steps - last
    assert calls[1:] == [per_step * stop - (last if stop == steps else 0)] * (num - 1)
    for model in models:
        model.assert_nothing_was_modified()


def test_no_sample_depends_on_its_batch_mates():
    models, sigmas, seeds = [mixture(i) for i in range(3)], karras(10), [11, 12, 13, 14]

    def run(seeds):
        return sample_amdm(
            models,
            start_noise(seeds, [N_DIM], 20.0, 3, dtype=torch.float64),
            sigmas,
            disable=True,
            weights=(0.5, 0.65),
            eta=1.0,
            noise_sampler=[seeded_noise(seeds, [N_DIM], stream=i) for i in range(3)],
        )

    assert_equal(run(seeds), torch.cat([run([seed]) for seed in seeds]), 1e-10)
    assert_equal(run(seeds), run(seeds[::-1]).flip(0), 1e-10)


def test_the_lead_is_the_first_and_the_order_matters():
    models, xs, sigmas = [mixture(), mixture(1)], starts(2), karras(10)
    ab = sample_amdm(models, xs, sigmas, disable=True)
    ba = sample_amdm(models[::-1], xs[::-1], sigmas, disable=True)
    assert not torch.allclose(ab, ba, rtol=1e-2)


def test_weights_and_correction_can_follow_the_step():
    models, xs, sigmas = [mixture(), mixture(1)], starts(2), karras(10)
    seen = []

    def weights(step):
        seen.append((step.index, step.sigma))
        return 0.5 if step.index < 2 else [0.8]

    result = sample_amdm(
        models, xs, sigmas, disable=True, weights=weights, correction=lambda step: 0.1 * step.index, window=4
    )
    assert seen == [(k, float(sigmas[k])) for k in range(4)]
    constants = {}
    for step in amdm(models, xs, sigmas, weights=weights, correction=lambda step: 0.1 * step.index, window=4):
        if step.aggregation is not None:
            constants[step.index] = step.aggregation.lengths
    assert constants == {k: (0.1 * k, 0.1 * k) for k in range(4)}
    assert not torch.allclose(result, sample_amdm(models, xs, sigmas, disable=True, window=4), rtol=1e-3)


def test_a_correction_can_be_a_part_of_the_way_to_each_mean():
    models, xs, sigmas = [mixture(), mixture(1)], starts(2), karras(10)
    part = torch.tensor([0.25, 1.0])

    def correction(step):
        assert step.aggregation.corrected == () and step.aggregation.lengths == ()
        return list(part[:, None] * step.aggregation.deviation)

    for step in amdm(models, xs, sigmas, weights=0.3, correction=correction, window=3):
        record = step.aggregation
        if record is not None:
            assert_equal(record.correction_share, part.double()[:, None].expand(2, 3), 1e-7)
            for share, mean, corrected in zip(part.tolist(), record.means, record.corrected, strict=True):
                assert_equal(corrected, torch.lerp(record.merged, mean, share), 1e-6)


def test_per_sample_weights_are_each_samples_own():
    models, xs, sigmas = [mixture(), mixture(1)], starts(2, batch=2), karras(10)
    together = sample_amdm(models, xs, sigmas, disable=True, weights=[torch.tensor([0.2, 0.7]).double()])
    for i, weight in enumerate([0.2, 0.7]):
        alone = sample_amdm(models, [x[[i]] for x in xs], sigmas, disable=True, weights=weight)
        assert_equal(together[[i]], alone, 1e-6)


def by_hand(xs, weights):
    """The linear fold as a page would write it: weights multiply latents."""
    merged = xs[0]
    for x, weight in zip(xs[1:], weights, strict=True):
        merged = merged + weight * (x - merged)
    return merged


@pytest.mark.parametrize("kind", ["number", "0-d", "sample", "column", "region"])
def test_weights_of_a_fold_multiply_latents(kind):
    """As wide as the batch is: one per sample must not be one per column."""
    share = torch.linspace(0.1, 0.9, 8)
    weight = {
        "number": 0.3,
        "0-d": torch.tensor(0.3),
        "sample": share,
        "column": share.reshape(8, 1, 1, 1),
        "region": share.reshape(1, 1, 1, 8),
    }[kind]
    xs, means = (list(randn(seed, 3, 8, 4, 8, 8)) for seed in (0, 1))
    share = share.reshape(8, 1, 1, 1) if kind == "sample" else weight
    expected = by_hand(xs, [share, 0.5])
    assert_equal(join(xs, means, weights=[weight, 0.5], fold=by_hand).merged, expected)
    assert_equal(join(xs, means, weights=[weight, 0.5], fold=lerp_fold).merged, expected)


@pytest.mark.usefixtures("unchecked")
def test_one_weight_per_sample_of_another_batch_is_refused():
    xs = list(randn(0, 2, 2, 4, 8, 8))
    with pytest.raises(
        ValueError, match=r"^weights\[0\] has shape \(3,\), expected a number or one per sample"
    ):
        join(xs, xs, weights=[torch.full((3,), 0.5)], fold=by_hand)


def test_a_fold_that_writes_into_its_latents_is_told():
    def writes(xs, weights):
        return xs[0].mul_(0.5).add_(xs[1], alpha=0.5)

    xs = list(randn(0, 2, 2, 6))
    with pytest.raises(ValueError, match=r"^fold wrote into its latents, expected a new tensor"):
        join(xs, xs, fold=writes)
    with pytest.raises(ValueError, match=r"^fold wrote into its latents, expected a new tensor"):
        next(amdm([mixture(), mixture(1)], starts(2), karras(5), fold=writes))
    with torch.inference_mode():  # which counts no writes, but latents made outside have a count
        assert torch.isfinite(join(list(randn(0, 2, 2, 6)), xs, fold=writes).merged).all()


def test_automatic_correction_is_the_papers_at_its_size_and_scales_with_the_radius():
    for shape, expected in (((4, 64, 64), 0.3), ((4, 32, 32), 0.15), ((16,), 0.3 / 32)):
        model = lambda x, sigma: 0.5 * x
        step = next(amdm([model, model], torch.ones(1, *shape), torch.tensor([1.0, 0.5]), window=1))
        assert step.aggregation.lengths == (pytest.approx(expected),) * 2


def test_extra_args_are_one_for_all_or_one_per_model():
    models = [Recorder(mixture()), Recorder(mixture(1))]
    x, sigmas = starts(1)[0], karras(4)
    sample_amdm(models, x, sigmas, {"cond": 1}, disable=True, window=1)
    sample_amdm(models, x, sigmas, [{"cond": 2}, None], disable=True, window=1)
    assert models[0].extra_args == [{"cond": 1}] * 4 + [{"cond": 2}] * 4
    assert models[1].extra_args == [{"cond": 1}, {}]


def test_the_callback_sees_the_aggregated_steps_with_k_diffusions_keys():
    seen = []
    sample_amdm([mixture(), mixture(1)], starts(2), karras(10), callback=seen.append, disable=True)
    assert [info["i"] for info in seen] == list(range(10))
    assert [info["step"].aggregation is not None for info in seen] == [True] * 4 + [False] * 6
    for info, after in pairwise(seen):
        assert info["step"].x_next is after["x"]


def test_the_record_is_what_table_5_logs_in_vp_units():
    models, xs, sigmas = [mixture(i) for i in range(3)], starts(3), karras(10)
    lengths, states = [0.05, 0.3, 2.0], list(xs)
    for step in amdm(models, xs, sigmas, weights=[0.5, 0.65], correction=lengths, window=5):
        if step.index == 5:
            break
        record, level = step.aggregation, float(sigmas[step.index + 1])
        vp = (1 + level**2) ** 0.5
        z = [next(ddim(m, x, sigmas[step.index :])).x_next / vp for m, x in zip(models, states, strict=True)]
        means = z
        merged = slerp_fold(z, [0.5, 0.65])
        assert_equal(record.distance, torch.stack([(z[0] - z[j]).norm(dim=1) for j in (1, 2)]), 1e-9)
        gaps = torch.stack([(z[0].norm(dim=1) - z[j].norm(dim=1)).abs() for j in (1, 2)])
        assert_equal(record.norm_gap, gaps, 1e-9)
        cosines = torch.stack([torch.cosine_similarity(z[0], z[j]) for j in (1, 2)])
        assert_equal(record.angle, cosines.arccos(), 1e-9)
        deviation = torch.stack([(merged - mean).norm(dim=1) for mean in means])
        assert_equal(record.deviation, deviation, 1e-9)
        assert_equal(record.correction_share, torch.tensor(lengths).double()[:, None] / deviation, 1e-7)
        assert_equal(step.x_next, record.corrected[0], 0.0)
        states = list(record.corrected)


@pytest.mark.parametrize(
    ("start", "one_start", "dropped"), [(0, True, False), (0, False, True), (3, True, True)]
)
def test_history_is_dropped_once_where_trajectories_first_meet(start, one_start, dropped):
    """A sampler that records what it is sent, in place of the inner samplers."""
    sent = []

    def spy(model, x, sigmas, extra_args=None, *, eta, noise_sampler):
        steps = ddim(model, x, sigmas, extra_args)
        value = None
        try:
            while True:
                value = yield steps.send(value)
                sent.append(isinstance(value, Restart))
        except StopIteration:
            return

    xs = starts(1)[0] if one_start else starts(2)
    for _ in amdm([mixture(), mixture(1)], xs, karras(10), window=(start, 6), sampler=spy):
        pass
    assert [i for i, restart in enumerate(sent) if restart] == ([2 * start, 2 * start + 1] if dropped else [])


def test_amdm_drives_samplers_that_it_knows_nothing_of():
    """A sampler of one's own: plain Euler, written here."""

    def euler(model, x, sigmas, extra_args=None, *, eta, noise_sampler):
        for index, (sigma, sigma_next) in enumerate(pairwise(sigmas.tolist())):
            denoised = model(x, x.new_full((len(x),), sigma))
            x_next = x + (x - denoised) / sigma * (sigma_next - sigma)
            sent = yield Step(index, sigma, sigma_next, x, denoised, x_next, 0.0, x_next)
            x = sent.x if isinstance(sent, Restart) else sent

    models, xs, sigmas = [mixture(), mixture(1)], starts(2), karras(10)
    expected = sample_amdm(models, xs, sigmas, disable=True)
    assert_equal(sample_amdm(models, xs, sigmas, disable=True, sampler=euler), expected, 1e-10)


def test_an_amdm_is_a_generator_like_any_other():
    """What is sent replaces the lead's next latent only."""
    models, xs, sigmas = [Recorder(mixture()), Recorder(mixture(1))], starts(2), karras(10)
    steps = amdm(models, xs, sigmas)
    first = next(steps)
    replacement = randn(3, 3, N_DIM)
    second = steps.send(replacement)
    assert second.x is replacement
    assert_equal(
        second.aggregation.xs[1], next(ddim(mixture(1), first.aggregation.corrected[1], sigmas[1:])).x_next
    )


def test_closing_the_outer_generator_closes_the_inner_ones():
    closed = []

    def spy(*args, **options):
        try:
            yield from ddim(*args, **options)
        finally:
            closed.append(True)

    steps = amdm([mixture(), mixture(1)], starts(2), karras(10), sampler=spy)
    next(steps)
    assert closed == []
    steps.close()
    assert closed == [True, True]


def test_partners_are_closed_when_the_window_does():
    closed, reached = [], []

    def spy(model, x, sigmas, extra_args=None, *, eta, noise_sampler):
        try:
            yield from ddim(model, x, sigmas, extra_args)
        finally:
            closed.append(len(reached))

    for step in amdm([mixture()] * 3, starts(3), karras(10), window=4, weights=[0.5, 0.65], sampler=spy):
        reached += [step]
    assert closed == [4, 4, 10]


def test_one_noise_sampler_is_drawn_from_in_turn_and_a_list_is_one_each():
    models, xs, sigmas = [mixture(), mixture(1)], starts(2), karras(6)
    turns, draws = [], randn(5, 40, 3, N_DIM)

    def recording(name):
        return lambda sigma, sigma_next: (turns.append(name), draws[len(turns)])[1]

    sample_amdm(models, xs, sigmas, disable=True, window=2, eta=1.0, noise_sampler=recording("one"))
    assert turns == ["one"] * (2 * 2 + 3)
    turns.clear()
    sample_amdm(
        models, xs, sigmas, disable=True, window=2, eta=1.0, noise_sampler=[recording("a"), recording("b")]
    )
    assert turns == ["a", "b", "a", "b", "a", "a", "a"]


def test_a_shared_draw_is_one_draw_a_step_for_all():
    calls = []

    def noise(sigma, sigma_next):
        calls.append((float(sigma), float(sigma_next)))
        return randn(len(calls), 3, N_DIM)

    model, x, sigmas = mixture(), starts(1)[0], karras(6)
    together = sample_amdm(
        [model] * 3,
        x,
        sigmas,
        disable=True,
        weights=[0.5, 0.65],
        correction=0.0,
        window=3,
        eta=1.0,
        noise_sampler=shared_noise(noise, 3),
    )
    assert calls == list(pairwise(sigmas.tolist()))[:5]
    calls.clear()
    assert_equal(together, sample_ddim(model, x, sigmas, disable=True, eta=1.0, noise_sampler=noise), 1e-10)


def test_models_of_different_dtypes_each_get_their_own():
    dtypes = []

    def half(x, sigma):
        dtypes.append((x.dtype, sigma.dtype))
        return mixture(1)(x.double(), sigma.double()).half()

    models, xs, sigmas = [mixture(), mixture(1)], starts(2), karras(10)
    mixed = sample_amdm([models[0], half], [xs[0], xs[1].half()], sigmas, disable=True)
    assert dtypes == [(torch.float16, torch.float16)] * 4
    assert mixed.dtype == torch.float64
    assert (mixed - sample_amdm(models, xs, sigmas, disable=True)).abs().max() <= 0.02


def broken(model, sample, step, value):
    """`model`, but for one entry of one sample from one step on."""
    calls = []

    def denoise(x, sigma):
        calls.append(None)
        denoised = model(x, sigma).clone()
        if len(calls) > step:
            denoised[sample, 2] = value
        return denoised

    return denoise


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("model", [0, 1, 2])
def test_a_prediction_that_is_not_finite_is_named_when_the_window_closes(model, value):
    models = [mixture(i) for i in range(3)]
    models[model] = broken(models[model], sample=1, step=2, value=value)
    steps = amdm(models, starts(3), karras(10), window=5, weights=[0.5, 0.65])
    for _ in range(4):
        next(steps)
    with pytest.raises(
        FloatingPointError, match=rf"models\[{model}\] returned NaN or infinity for sample 1, first at step 2"
    ):
        next(steps)


def test_with_debug_nans_it_is_named_at_its_step_and_after_the_window_too():
    models = [broken(mixture(), sample=2, step=7, value=math.nan), mixture(1)]
    steps = amdm(models, starts(2), karras(10), window=5, debug_nans=True)
    for _ in range(7):
        next(steps)
    with pytest.raises(FloatingPointError, match=r"models\[0\] .* sample 2, first at step 7 \(sigma = "):
        next(steps)


def test_windows_in_every_form():
    models, sigmas = [mixture(), mixture(1)], karras(10)

    def aggregated(window):
        return [s.index for s in amdm(models, starts(2), sigmas, window=window) if s.aggregation is not None]

    assert aggregated(0.4) == aggregated(4) == aggregated((0, 4)) == [0, 1, 2, 3]
    assert aggregated((3, 5)) == aggregated(sigma_window(float(sigmas[4]), float(sigmas[3]))) == [3, 4]
    assert aggregated(1.0) == aggregated(10) == list(range(10))
    assert aggregated(0.25) == [0, 1, 2]
    with pytest.warns(UserWarning, match="^window selects none of the 10 steps"):
        assert aggregated(sigma_window(100.0, 200.0)) == []


def test_partners_that_start_late_can_begin_from_the_leads_latent():
    """The other reading of a late window: the two samplers composed by hand."""
    models, x, sigmas = [mixture(), mixture(1)], starts(1)[0], karras(10)
    *_, before = ddim(models[0], x, sigmas[:5])
    late = sample_amdm(models, before.x_next, sigmas[4:], disable=True, window=3)
    assert not torch.allclose(late, sample_amdm(models, x, sigmas, disable=True, window=(4, 7)), rtol=1e-2)
