"""Recipes put together by hand, the levels they work at, and networks that draw noise of their own."""

import math

import pytest
import torch
from adapters import tiny_diffusers as tiny
from tolerances import assert_equal

from amdm import sample_heun
from amdm.compatibility import LatentSpace
from amdm.diffusers import (
    Call,
    NetworkDenoiser,
    Span,
    always,
    as_switched,
    controlnet,
    from_pipeline,
    gligen,
    ip_adapter,
    keywords,
    migc,
    sdxl,
    sigmas_from_scheduler,
    span_of,
    stepwise,
    t2i_adapter,
    text,
    training_sigmas,
    without_randomness,
)

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
SIGMAS = sigmas_from_scheduler(tiny.ddim(), 10)


def by_hand(pipe, recipes, **options):
    table = training_sigmas(pipe.scheduler)
    held = [as_switched(pipe.unet)]
    return NetworkDenoiser(pipe.unet, "epsilon", table, recipes, held, guidance=7.5, **options)


def prompt(pipe):
    cond, uncond = pipe.encode_prompt("a cat on a mat", "cpu", 1, True, "fog")
    return torch.cat([uncond, cond])


def xl_prompt():
    embeds = tiny.xl_embeds()
    hidden = torch.cat([embeds["negative_prompt_embeds"], embeds["prompt_embeds"]])
    pooled = torch.cat([embeds["negative_pooled_prompt_embeds"], embeds["pooled_prompt_embeds"]])
    return hidden, pooled, torch.tensor([[32.0, 32, 0, 0, 64, 64], [32.0, 32, 0, 0, 32, 32]])


def hand_sd(pipe):
    return [text(prompt(pipe))]


def hand_sdxl(pipe):
    hidden, pooled, _ = xl_prompt()
    size = pipe.unet.config.sample_size * pipe.vae_scale_factor
    ids = torch.tensor([[32.0, 32, 0, 0, 64, 64], [size, size, 0, 0, size, size]])
    return [text(hidden), sdxl(pooled, ids)]


def hand_ip(pipe):
    return [text(prompt(pipe)), ip_adapter([tiny.randn(5, 2, 1, 12)])]


def hand_sdxl_ip(pipe):
    return [*hand_sdxl(pipe), ip_adapter([tiny.randn(5, 2, 1, 12)])]


def hand_controlnet(pipe):
    image = torch.cat([tiny.image_of(64)] * 2)
    return [text(prompt(pipe)), controlnet(pipe.controlnet, image, 0.7, span=span_of(SIGMAS, 2, 6))]


def hand_t2i(pipe):
    features = [torch.cat([0.6 * r] * 2) for r in pipe.adapter(tiny.image_of(64))]
    return [text(prompt(pipe)), t2i_adapter(features)]


def hand_gligen(pipe):
    tokens = pipe.tokenizer(["a cat", "a mat"], padding=True, return_tensors="pt")
    embeddings = torch.zeros(2, 30, tiny.CROSS)
    embeddings[:, :2] = pipe.text_encoder(**tokens).pooler_output
    boxes, masks = torch.zeros(2, 30, 4), torch.zeros(2, 30)
    boxes[:, :2] = torch.tensor([[0.1, 0.2, 0.6, 0.7], [0.0, 0.5, 1.0, 1.0]])
    masks[1, :2] = 1
    grounding = {"boxes": boxes, "positive_embeddings": embeddings, "masks": masks}
    return [text(prompt(pipe)), gligen(pipe.enable_fuser, grounding, span_of(SIGMAS, 0, 3))]


BY_HAND = {
    "text": (hand_sd, {}),
    "sdxl": (hand_sdxl, {}),
    "ip_adapter": (hand_ip, {}),
    "sdxl_ip_adapter": (hand_sdxl_ip, {}),
    "controlnet": (
        hand_controlnet,
        {
            "controlnet_conditioning_scale": 0.7,
            "control_guidance_start": 0.2,
            "control_guidance_end": 0.6,
        },
    ),
    "t2i_adapter": (hand_t2i, {"adapter_conditioning_scale": 0.6}),
    "gligen": (hand_gligen, {}),
}


@pytest.mark.parametrize("recipe", BY_HAND)
def test_a_denoiser_put_together_by_hand_is_the_prepared_one(recipe):
    recipes, options = BY_HAND[recipe]
    pipe, kwargs = tiny.RECIPES[recipe](tiny.ddim(), num_inference_steps=10, **options)
    prepared = from_pipeline(pipe, **kwargs)
    with torch.no_grad():
        model = by_hand(pipe, recipes(pipe))
        for sigma in SIGMAS[[0, 3, 8]].float():
            expected = prepared.model(prepared.x, sigma.expand(1))
            assert_equal(model(prepared.x, sigma.expand(1)), expected, 1e-6)


def test_spans_follow_the_steps_and_end_between_them():
    assert span_of(SIGMAS, 0, 10) == Span(0.0, math.inf) == always
    span = span_of(SIGMAS, 3, 6)
    held = [span.holds(sigma[None].float()) for sigma in SIGMAS[:-1]]
    assert held == [False] * 3 + [True] * 3 + [False] * 4
    for nearly in (1 - 1e-6, 1 + 1e-6):
        assert [span.holds((nearly * sigma)[None]) for sigma in SIGMAS[:-1]] == held
    assert span.low == pytest.approx((SIGMAS[5] * SIGMAS[6]).sqrt().item())
    for empty in (span_of(SIGMAS, 0, 0), span_of(SIGMAS, 4, 2)):
        assert not any(empty.holds(sigma[None]) for sigma in SIGMAS)


def test_steps_have_the_levels_of_their_spans_and_equal_ones_are_not_asked():
    recipes = [keywords(i=i) for i in range(10)]
    level = lambda sigma: Call(torch.ones(1, 1), torch.ones(1), sigma.reshape(1), {})
    for nearly in (1 - 1e-6, 1, 1 + 1e-6):
        found = [stepwise(SIGMAS, recipes)(level(nearly * sigma)).kwargs["i"] for sigma in SIGMAS[:-1]]
        assert found == list(range(10))
    assert stepwise(SIGMAS, recipes)(level(SIGMAS[0] * 9)).kwargs["i"] == 0
    assert stepwise(SIGMAS, recipes)(level(SIGMAS[-1] / 9)).kwargs["i"] == 9
    assert stepwise(SIGMAS, [recipes[3]] * 10) is recipes[3]
    with pytest.raises(ValueError, match="recipes has 9 entries, expected one for each of 10 steps"):
        stepwise(SIGMAS, recipes[:9])


@pytest.mark.slow
def test_a_denoiser_with_a_span_runs_on_other_schedules():
    """Between the levels that its steps were taken from: Heun on another number of steps."""
    pipe, kwargs = tiny.sd_gligen(tiny.ddim(), num_inference_steps=10)
    prepared = from_pipeline(pipe, **kwargs)
    seen = []
    hook = pipe.unet.register_forward_pre_hook(
        lambda module, args: seen.append(next(m.enabled for m in module.modules() if hasattr(m, "enabled")))
    )
    sigmas = sigmas_from_scheduler(tiny.ddim(set_alpha_to_one=True), 20)
    sample_heun(prepared.model, prepared.x, sigmas, disable=True)
    hook.remove()
    assert len(seen) == 39 and sum(seen) == pytest.approx(0.3 * 39, abs=2)


def test_what_is_told_is_fresh_at_every_call_and_dictionaries_are_merged():
    entries = [torch.ones(1)]
    recipe = keywords(down=entries, added_cond_kwargs={"text_embeds": 1})
    call = Call(torch.ones(1, 1), torch.ones(1), torch.ones(1), {"added_cond_kwargs": {"image_embeds": 2}})
    for _ in range(2):
        result = recipe(call).kwargs
        assert result["added_cond_kwargs"] == {"image_embeds": 2, "text_embeds": 1}
        result["down"].pop()
        result["added_cond_kwargs"].clear()
    assert len(entries) == 1 and call.kwargs == {"added_cond_kwargs": {"image_embeds": 2}}


def test_guidance_is_one_call_with_unconditional_rows_first():
    calls = []

    def network(x, timestep, cond):
        calls.append((len(x), timestep.tolist()))
        return (cond[:, None] * x,)

    table = training_sigmas(tiny.ddim())
    denoiser = NetworkDenoiser(
        network, "sample", table, [keywords(cond=torch.tensor([1.0, 1, 2, 2]))], guidance=3.0
    )
    x = tiny.randn(0, 2, 5)
    denoised = denoiser(x, table[[980, 980]].float())
    scale = (1 + table[980] ** 2).rsqrt().item()
    assert_equal(denoised, (1 + 3.0 * (2 - 1)) * scale * x, 1e-6)
    assert calls == [(4, [980.0] * 4)]


def noisy(x, timestep, **kwargs):
    """Like MIGC's processors: an order drawn from the global generator, and sums that depend on it."""
    order = torch.randperm(x.shape[1])
    return (x + 1e-5 * order.reshape(1, -1, *[1] * (x.ndim - 2)),)


def test_a_flow_is_told_its_time_and_that_of_pure_noise_is_one():
    denoiser = NetworkDenoiser(lambda x, timestep: (x,), "flow", time_scale=1000.0)
    levels = torch.tensor([0.25, 1.0, 3.0, 1e6])
    assert_equal(denoiser.timestep(levels), torch.tensor([200.0, 500.0, 750.0, 1000.0]), 1e-7)
    assert denoiser.timestep(levels)[-1] == 1000.0, "1e6 stands for infinity"


def test_a_network_that_draws_is_made_a_function_and_leaves_the_generators():
    table = training_sigmas(tiny.ddim())
    x, sigma = tiny.randn(0, 1, 50), torch.ones(1)
    bare, tamed = (
        NetworkDenoiser(noisy, "epsilon", table, contexts=contexts)
        for contexts in ([], [without_randomness()])
    )
    assert not torch.equal(bare(x, sigma), bare(x, sigma))
    state = torch.get_rng_state()
    assert torch.equal(tamed(x, sigma), tamed(x, sigma))
    assert torch.equal(torch.get_rng_state(), state)


def test_in_guess_mode_a_controlnet_sees_and_changes_the_conditional_rows_alone():
    seen = []

    def network(x, timestep, **told):
        seen.append((x, timestep, told["encoder_hidden_states"]))
        return [x + 1], x + 2

    x, words = torch.arange(6.0)[:, None], torch.arange(6.0)[:, None, None]
    call = text(words)(Call(x, torch.arange(6.0), torch.ones(3), {}))
    made = controlnet(network, torch.ones(1), guess_mode=True)(call)
    for rows in seen[0]:
        assert rows.flatten().tolist() == [3, 4, 5]
    [down], mid = (
        made.kwargs[name] for name in ("down_block_additional_residuals", "mid_block_additional_residual")
    )
    assert down.flatten().tolist() == [0, 0, 0, 4, 5, 6] and mid.flatten().tolist() == [0, 0, 0, 5, 6, 7]


def test_the_least_and_the_greatest_level_are_those_of_the_training():
    table = training_sigmas(tiny.ddim())
    network = NetworkDenoiser(noisy, "epsilon", table)
    assert (network.sigma_min, network.sigma_max) == (table[0].item(), table[-1].item())
    assert (NetworkDenoiser(noisy, "flow").sigma_min, NetworkDenoiser(noisy, "flow").sigma_max) == (0.0, 1e6)


def test_migc_is_told_its_step_from_the_level():
    said = []

    def network(x, timestep, encoder_hidden_states, cross_attention_kwargs):
        said.append(
            (
                cross_attention_kwargs["ith"],
                float(cross_attention_kwargs["timestep"]),
                cross_attention_kwargs["bboxes"],
            )
        )
        assert len(x) == 2 and len(encoder_hidden_states) == 5
        return (x,)

    recipes = [text(torch.zeros(5, 3, 4)), migc(SIGMAS, bboxes="boxes")]
    scheduler = tiny.ddim()
    denoiser = NetworkDenoiser(network, "epsilon", training_sigmas(scheduler), recipes, guidance=7.5)
    scheduler.set_timesteps(10)
    for sigma in SIGMAS[:-1]:
        denoiser(torch.ones(1, 4, 2, 2), sigma[None].float())
    assert said == [(i, float(t), "boxes") for i, t in enumerate(scheduler.timesteps)]
    with pytest.raises(ValueError, match="x has batch 2, expected 1: MIGC"):
        denoiser(torch.ones(2, 4, 2, 2), torch.ones(2))


@pytest.mark.usefixtures("unchecked")
def test_what_is_refused():
    table = training_sigmas(tiny.ddim())
    with pytest.raises(ValueError, match="prediction is 'noise', expected epsilon"):
        NetworkDenoiser(noisy, "noise", table)
    with pytest.raises(ValueError, match="training_sigmas is None with prediction 'epsilon'"):
        NetworkDenoiser(noisy, "epsilon")
    with pytest.raises(ValueError, match="training_sigmas is given with prediction 'flow'"):
        NetworkDenoiser(noisy, "flow", table)
    with pytest.raises(ValueError, match="guidance is nan, expected a finite number"):
        NetworkDenoiser(noisy, "epsilon", table, guidance=math.nan)
    with pytest.raises(ValueError, match="x has batch 2, expected that of the conditions: 1"):
        NetworkDenoiser(noisy, "epsilon", table, batch=1)(torch.ones(2, 3), torch.ones(2))
    with pytest.raises(
        ValueError, match=r"training_sigmas goes from 8.391 to 0.02917, expected the positive, incr"
    ):
        NetworkDenoiser(noisy, "epsilon", SIGMAS)
    for few, message in ((table[:0], "is empty"), (table[:1], "goes from 0.02917 to 0.02917")):
        with pytest.raises(ValueError, match=f"training_sigmas {message}, expected the positive, increasing"):
            NetworkDenoiser(noisy, "epsilon", few)
    with pytest.raises(TypeError, match="recipes is one callable, expected a list"):
        NetworkDenoiser(noisy, "epsilon", table, keywords(cond=1))
    first = [controlnet(noisy, torch.ones(1)), text(torch.ones(1, 2, 3))]
    with pytest.raises(ValueError, match="recipes has controlnet before text"):
        NetworkDenoiser(noisy, "epsilon", table, first)(torch.ones(1, 3), torch.ones(1))
    assert NetworkDenoiser(noisy, "epsilon", table).latent_space == LatentSpace()
