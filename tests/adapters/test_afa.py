"""AFA: U-Nets as one, by aggregators whose untrained weights, gradients and number are known."""

import contextlib
from dataclasses import replace

import pytest
import torch
from adapters import tiny_diffusers as tiny
from adapters.tiny_diffusers import randn
from diffusers import UNet2DConditionModel
from tolerances import assert_equal

from amdm import sample_ddim
from amdm.diffusers import NetworkDenoiser, as_switched, controlnet, from_pipeline, keywords, sdxl, text
from amdm.diffusers.afa import Aggregators, aggregated, expert
from amdm.schedules import ddim_sigmas, sigmas_from_betas, stable_diffusion_betas

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
TABLE = sigmas_from_betas(stable_diffusion_betas())
X, T, TOKENS = randn(0, 2, 4, 8, 8), torch.tensor([3.0, 700.0]), randn(1, 2, 5, tiny.CROSS)
SMALL = {"width": 8, "heads": 2}


def unet_of(seed=0, **config):
    return tiny.seeded(UNet2DConditionModel, **{**tiny.SD_UNET, **config}, seed=seed)


@pytest.fixture(scope="module")
def unets():
    return [unet_of(0), unet_of(1)]


def model_of(unet, *recipes, tokens=TOKENS, **options):
    return NetworkDenoiser(unet, "epsilon", TABLE, [text(tokens), *recipes], **options)


def untrained(unets, **options):
    return Aggregators.of_unets(unets, **{**SMALL, **options})


def shaken(unets, seed=3):
    """Aggregators with weights that depend on everything."""
    made = untrained(unets)
    with torch.no_grad():
        for i, each in enumerate(made.each):
            each.score.weight.copy_(randn(seed + i, *each.score.weight.shape))
    return made.requires_grad_(False)


def alone(run):
    """The last feature of a run that gets its own features back."""
    feature = next(run)
    with contextlib.suppress(StopIteration):
        while True:
            feature = run.send(feature)
    return feature


@pytest.mark.parametrize("size", [(8, 8), (9, 7)])
def test_a_unet_that_gets_its_own_features_back_is_diffusers(unets, size):
    x = randn(5, 2, 4, *size)
    net = tiny.controlnet_of(unets[0])
    down, mid = net(
        x, T, TOKENS, controlnet_cond=torch.rand(2, 3, 8 * size[0], 8 * size[1]), return_dict=False
    )
    residuals = {"down_block_additional_residuals": down, "mid_block_additional_residual": mid}
    for told in ({}, residuals):
        found = alone(expert(unets[0], x, T, TOKENS, **told).features())
        assert_equal(found, unets[0](x, T, TOKENS, **told, return_dict=False)[0])


def test_aggregators_are_where_the_published_ones_are():
    """25 for Stable Diffusion 1.5, whose blocks have these widths over 320 and layers."""
    unet = unet_of(
        block_out_channels=(8, 16, 32, 32),
        layers_per_block=2,
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    )
    made = Aggregators.of_unets([unet, unet], **SMALL)
    down = [8, 8, 8, 8, 16, 16, 16, 32, 32, 32, 32, 32]
    assert list(made.config.channels) == [*down, 32, *[32] * 3, *[32] * 3, *[16] * 3, 8, 8, 4]
    assert len(made.each) == 25


def test_the_number_of_parameters(unets):
    """Two 1x1 convolutions, the residual block, the transformer, counted by hand."""
    w, text_width, time = 8, tiny.CROSS, 32
    resnet = 2 * (9 * w * w + w) + 2 * 2 * w + (time * w + w)
    attention = 4 * w * w + w + (2 * w * w + 2 * text_width * w + w)
    feed = (w * 8 * w + 8 * w) + (4 * w * w + w)
    transformer = 2 * w + 2 * (w * w + w) + 3 * 2 * w + attention + feed
    channels = (8, 8, 8, 16, 16, 16, 16, 8, 4)
    made = untrained(unets)
    assert tuple(made.config.channels) == channels
    wanted = sum(2 * c * w + w + resnet + transformer + 2 * w for c in channels)
    assert sum(each.numel() for each in made.parameters()) == wanted


def test_untrained_aggregators_take_the_mean(unets):
    features = [randn(i, 2, 8, 6, 6) for i in (1, 2)]
    aggregator = untrained(unets).each[0]
    merged = aggregator(features, randn(3, 2, 32), TOKENS)
    assert_equal(merged, (features[0] + features[1]) / 2)


def test_weights_sum_to_one_at_every_pixel_and_depend_on_time_and_text(unets):
    aggregator = shaken(unets).each[0]
    features, time = [randn(i, 2, 8, 6, 6) for i in (1, 2)], randn(3, 2, 32)
    weights = aggregator.weights(features, time, TOKENS)
    torch.testing.assert_close(weights.sum(1), torch.ones(2, 6, 6))
    assert weights.std((2, 3)).min() > 1e-3
    for time_, text_ in ((time + 1, TOKENS), (time, TOKENS + randn(9, *TOKENS.shape))):
        assert not torch.allclose(aggregator.weights(features, time_, text_), weights)


@pytest.mark.parametrize("make", [untrained, shaken])
def test_identical_experts_are_the_expert(make, unets):
    """Halves, bit for bit; with other weights to rounding. A ControlNet is each one's own."""
    image, sigma = torch.rand(2, 3, 64, 64), torch.tensor([0.3, 9.0])
    for recipes in ([], [controlnet(tiny.controlnet_of(unets[0]), image)]):
        model = model_of(unets[0], *recipes)
        found = aggregated([model, model], make([unets[0]] * 2))(X, sigma)
        tolerance = {} if make is shaken else {"rtol": 0.0, "atol": 0.0}
        torch.testing.assert_close(found, model(X, sigma), **tolerance)


def test_a_one_hot_weight_is_that_expert(unets):
    made = untrained(unets)
    for each in made.each:
        each.forward = lambda features, time, text: features[1]
    sigma = torch.tensor([0.3, 9.0])
    models = [model_of(unet) for unet in unets]
    assert_equal(aggregated(models, made)(X, sigma), models[1](X, sigma))


def test_input_channels_may_differ():
    wide, narrow = unet_of(0, in_channels=6), unet_of(1)
    more = randn(4, 2, 2, 8, 8)

    def beside(call):
        return call._replace(x=torch.cat([call.x, more], 1))

    joint = aggregated([model_of(wide, beside), model_of(narrow)], shaken([wide, narrow]))
    assert joint(X, torch.ones(2)).shape == X.shape


@pytest.mark.parametrize("scale", [1.0, 7.5])
def test_guidance_is_that_of_the_first_model(unets, scale):
    rows = torch.cat([torch.zeros_like(TOKENS), TOKENS])
    made, sigma = shaken(unets), torch.tensor([0.3, 9.0])
    with_tokens = {
        name: aggregated([model_of(unet, tokens=tokens) for unet in unets], made)(X, sigma)
        for name, tokens in (("uncond", torch.zeros_like(TOKENS)), ("cond", TOKENS))
    }
    told = rows if scale > 1 else TOKENS
    guided = aggregated([model_of(unet, tokens=told, guidance=scale) for unet in unets], made)
    uncond, cond = with_tokens["uncond"], with_tokens["cond"]
    torch.testing.assert_close(guided(X, sigma), uncond + scale * (cond - uncond), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(guided.conditional(X, sigma), cond, rtol=1e-4, atol=1e-4)


def test_gradients_reach_the_aggregators_alone(unets):
    made = untrained(unets)
    aggregated([model_of(unet) for unet in unets], made)(X, torch.ones(2)).square().sum().backward()
    assert all(each.score.weight.grad.abs().sum() > 0 for each in made.each)
    assert all(parameter.grad is None for unet in unets for parameter in unet.parameters())


def test_unets_are_as_they_were_after_calls_and_errors(unets):
    def all_of(unet):
        return {name: (vars(part).keys(), part._forward_hooks) for name, part in unet.named_modules()}

    before, weights = [all_of(unet) for unet in unets], [unet.state_dict() for unet in unets]
    alone = [unet(X, T, TOKENS).sample for unet in unets]
    models = [model_of(unet, contexts=[as_switched(unet)]) for unet in unets]
    made = shaken(unets)
    aggregated(models, made)(X, torch.ones(2))
    made.each[5].forward = lambda *features: 1 / 0
    with pytest.raises(ZeroDivisionError):
        aggregated(models, made)(X, torch.ones(2))
    assert [all_of(unet) for unet in unets] == before
    for unet, found, kept in zip(unets, alone, weights, strict=True):
        assert_equal(unet(X, T, TOKENS).sample, found)
        assert all(torch.equal(value, kept[name]) for name, value in unet.state_dict().items())


def test_saved_and_loaded_weights_give_the_same_output(unets, tmp_path):
    made = shaken(unets)
    made.save_pretrained(tmp_path)
    models = [model_of(unet) for unet in unets]
    loaded = Aggregators.from_pretrained(tmp_path)
    assert_equal(aggregated(models, loaded)(X, torch.ones(2)), aggregated(models, made)(X, torch.ones(2)))


def test_a_sampler_takes_it(unets):
    model = aggregated([model_of(unet) for unet in unets], shaken(unets))
    sigmas = ddim_sigmas(TABLE, 3).float()
    assert sample_ddim(model, sigmas[0] * X, sigmas, disable=True).isfinite().all()


@pytest.mark.parametrize(
    "make",
    [tiny.sd, tiny.sd_ip_adapter, tiny.sd_lora, tiny.sd_controlnet, tiny.sd_gligen],
    ids=lambda f: f.__name__,
)
def test_pipelines_become_one_model(make):
    """The same pipeline twice is the pipeline, with each kind of add-on."""
    pipes = [make(tiny.ddim()) for _ in range(2)]
    first, second = (from_pipeline(pipe, num_inference_steps=3, **told) for pipe, told in pipes)
    found = aggregated([first.model, second.model], shaken([pipe.unet for pipe, _ in pipes]))
    sigma = first.sigmas[1].expand(len(first.x))
    torch.testing.assert_close(found(first.x, sigma), first.model(first.x, sigma), rtol=1e-4, atol=1e-3)


def test_sdxls_embeddings_are_those_of_each_expert():
    unet = tiny.seeded(UNet2DConditionModel, **tiny.SDXL_UNET)
    added = sdxl(randn(6, 2, tiny.POOLED), torch.ones(2, 6))
    model = model_of(unet, added)
    found = aggregated([model, model], untrained([unet, unet]))(X, torch.ones(2))
    assert_equal(found, model(X, torch.ones(2)))


def test_what_does_not_fit_is_named(unets):
    made, model = untrained(unets), model_of(unets[0])
    other = model_of(unets[1])
    with pytest.raises(ValueError, match="1 U-Nets, expected two or more"):
        aggregated([model], made)
    with pytest.raises(ValueError, match=r"3 U-Nets .* expected those of `aggregators`: 2 with"):
        aggregated([model, other, other], made)
    with pytest.raises(ValueError, match=r"U-Net 1 has features of .* expected U-Net 0's"):
        untrained([unets[0], unet_of(block_out_channels=(8, 8))])
    with pytest.raises(ValueError, match=r"models\[1\] is \('v_prediction'.* expected models\[0\]'s kind"):
        aggregated([model, replace(other, prediction="v_prediction")], made)
    with pytest.raises(
        ValueError, match=r"models\[1\] is .* 3\), expected models\[0\]'s kind and batch, .* 2\)"
    ):
        aggregated([replace(model, batch=2), replace(other, batch=3)], made)
    with pytest.raises(ValueError, match=r"models\[1\] or models\[0\] is guided in two calls"):
        aggregated([model, replace(other, uncond=[text(TOKENS)])], made)
    with pytest.raises(ValueError, match=r"models\[1\] has other training levels"):
        aggregated([model, replace(other, training_sigmas=2 * TABLE)], made)
    with pytest.raises(ValueError, match=r"models\[1\] is .*'guided'.* expected models\[0\]'s kind"):
        aggregated([model, replace(other, guidance=2.0)], made)
    with pytest.raises(ValueError, match=r"models\[1\] has models\[0\]'s U-Net, which is switched"):
        aggregated([model, replace(model, contexts=[as_switched(unets[0])])], made)
    with pytest.raises(ValueError, match=r"texts have the shapes \[\(2, 5, 16\), \(2, 4, 16\)\]"):
        aggregated([model, model_of(unets[1], tokens=TOKENS[:, :4])], made)(X, torch.ones(2))
    with pytest.raises(TypeError, match=r"models\[1\] passes attention_mask to its U-Net"):
        aggregated([model, model_of(unets[1], keywords(attention_mask=TOKENS))], made)(X, torch.ones(2))
    with pytest.raises(TypeError, match="a network is a Linear, expected UNet2DConditionModel"):
        untrained([torch.nn.Linear(1, 1)] * 2)
    unets[1].enable_freeu(0.9, 0.2, 1.5, 1.6)
    try:
        with pytest.raises(ValueError, match="FreeU on, expected it off"):
            aggregated([model, other], made)(X, torch.ones(2))
    finally:
        unets[1].disable_freeu()
