"""Networks as denoisers: preconditioning by hand, diffusers' own loops, what each model is told."""

import json
import math
import sys

import pytest
import torch

from amdm import check_same_ecosystem, ddim, start_noise
from amdm.denoisers import Guided
from amdm.shapes import denoisers, latents, networks, world
from amdm.shapes.configs import CONFIGS
from amdm.shapes.denoisers import denoiser, extra_args, sigmas, training_sigmas
from amdm.shapes.imports import import_beside_torchvision
from amdm.shapes.networks import Network


@pytest.fixture(scope="module")
def scenes():
    return world.sample_scenes([3, 5])


@pytest.fixture(scope="module", autouse=True)
def random_weights(tmp_path_factory):
    """Models of every configuration with random weights, stored and loaded like the shipped ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(networks, "WEIGHTS", tmp_path_factory.mktemp("weights"))
        generator = torch.Generator().manual_seed(0)
        for name, config in CONFIGS.items():
            network = networks.build(config)
            weights = network.trainable().state_dict()
            # A ControlNet begins with layers of zeros, which would hide what it does.
            noisy = {key: w + 0.03 * torch.randn(w.shape, generator=generator) for key, w in weights.items()}
            networks.save(name, network, noisy)
        yield


class Stub:
    """A network whose answer is known."""

    dtype = torch.float64

    def __init__(self, answer):
        self.answer = answer

    def __call__(self, x, t, tokens, **kwargs):
        return (self.answer(x, t),)


def exact(predicts, z, noise, sigma):
    """What a perfect network of this kind says."""
    alpha, s = 1 / (1 + sigma**2) ** 0.5, sigma / (1 + sigma**2) ** 0.5
    return {"epsilon": noise, "v_prediction": alpha * noise - s * z, "edm": s * z - alpha * noise}[predicts]


@pytest.mark.parametrize("predicts", ["epsilon", "v_prediction", "edm"])
@pytest.mark.parametrize("sigma", [0.03, 0.7, 14.0])
def test_a_perfect_network_is_a_perfect_denoiser(predicts, sigma):
    generator = torch.Generator().manual_seed(0)
    z, noise = torch.randn(2, 3, 12, 16, 16, generator=generator, dtype=torch.float64)
    seen = []

    def answer(x, t):
        seen.append((x, t))
        return exact(predicts, z, noise, sigma)

    model = denoiser(Network(Stub(answer)), predicts)
    x = z + sigma * noise
    out = model(x, torch.full((3,), sigma, dtype=torch.float64), encoder_hidden_states=torch.zeros(3, 1, 42))
    torch.testing.assert_close(out, z, atol=1e-12, rtol=0)
    # The network sees samples of the VP process, whose variance is that of the latents.
    torch.testing.assert_close(seen[0][0], x / (1 + sigma**2) ** 0.5)
    if predicts == "edm":
        assert seen[0][1].tolist() == pytest.approx([math.log(sigma) / 4] * 3)


def test_the_networks_see_the_training_step_of_a_level_in_float32():
    steps = denoiser(Network(Stub(None)), "epsilon").timestep(training_sigmas().float())
    assert torch.equal(steps, torch.arange(1000.0))


def test_the_grid_is_the_schedulers():
    scheduler = networks.scheduler("epsilon")
    for steps in (10, 13, 50):
        scheduler.set_timesteps(steps)
        levels = sigmas(steps)
        assert levels[-1] == 0 and (levels.diff() < 0).all()
        torch.testing.assert_close(levels[:-1], training_sigmas()[scheduler.timesteps].float())
    with pytest.raises(ValueError, match="steps must lie in 1 to 999, got 1000"):
        sigmas(1000)


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_sampling_agrees_with_diffusers_own_loop(name, guidance, scenes):
    steps, config = 10, CONFIGS[name]
    network, told = networks.load(name), extra_args(name, scenes)
    model = denoisers.load(name, guidance)
    scheduler = networks.scheduler(config.predicts)
    scheduler.set_timesteps(steps)
    levels = scheduler.sigmas if config.predicts == "edm" else sigmas(steps)
    [x] = start_noise([7, 8], latents.SHAPE, levels[0].item(), num_models=1)
    scale = (1 + levels[0] ** 2) ** 0.5
    theirs = x if config.predicts == "edm" else x / scale
    with torch.no_grad():
        for t in scheduler.timesteps:
            inputs = scheduler.scale_model_input(theirs, t)
            cond, uncond = (
                network(inputs, torch.full((2,), float(t)), **told[side])[0] for side in ("cond", "uncond")
            )
            theirs = scheduler.step(uncond + guidance * (cond - uncond), t, theirs).prev_sample
        for step in ddim(model, x, levels, told):
            x = step.x_next
    # Both in float32, over ten steps; the levels' steps are float32 too.
    assert (x - theirs).abs().max() < 2e-5 * theirs.abs().max()


def test_every_model_is_told_what_it_controls_only(scenes):
    told = {name: extra_args(name, scenes)["cond"] for name in CONFIGS}
    repainted = scenes._replace(colours=(scenes.colours + 1) % 6)
    assert torch.equal(extra_args("layout", repainted)["cond"]["maps"], told["layout"]["maps"])
    changed = scenes._replace(shapes=(scenes.shapes + 1) % 4, links=torch.zeros_like(scenes.links))
    assert torch.equal(extra_args("attribute", changed)["cond"]["maps"], told["attribute"]["maps"])
    assert "maps" not in told["base"] and "maps" not in told["style"]


def test_unconditional_is_nothing_said(scenes):
    for name in CONFIGS:
        sides = extra_args(name, scenes)
        assert sides["cond"].keys() == sides["uncond"].keys()
        assert not any(value.any() for value in sides["uncond"].values())
        assert all(value.any() for value in sides["cond"].values())


def test_models_share_an_ecosystem():
    models = [denoisers.load(name) for name in CONFIGS]
    check_same_ecosystem(models, sigmas(50))
    assert all(isinstance(model, Guided) for model in models)


def test_maps_change_what_a_model_draws(scenes):
    x = torch.randn(2, *latents.SHAPE, generator=torch.Generator().manual_seed(0))
    moved = scenes._replace(boxes=scenes.boxes.flip(0))
    for name in ("layout", "attribute", "attribute_edm"):
        model = denoisers.load(name)
        one, other = (model(x, torch.ones(2), **extra_args(name, s)) for s in (scenes, moved))
        assert (one - other).abs().max() > 1e-3, name


def test_a_fine_tuned_model_begins_as_its_start(scenes):
    x = torch.randn(2, *latents.SHAPE, generator=torch.Generator().manual_seed(0))
    base = networks.load("base")
    tokens = extra_args("base", scenes)["cond"]["encoder_hidden_states"]
    expected = base(x, torch.full((2,), 500.0), tokens)
    for name in ("layout", "attribute", "style", "attribute_edm"):
        told = extra_args(name, scenes)["cond"] | {"encoder_hidden_states": tokens}
        torch.testing.assert_close(
            networks.build(CONFIGS[name])(x, torch.full((2,), 500.0), **told), expected
        )


def test_fresh_weights_are_a_function_of_the_seed_and_the_global_generator_is_left_alone():
    torch.manual_seed(3)
    state = torch.get_rng_state()
    one = networks.build(CONFIGS["base"]).unet.state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(4)
    other = networks.build(CONFIGS["base"]).unet.state_dict()
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_packages_are_imported_where_there_is_no_torchvision(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)  # as if it were not installed
    assert import_beside_torchvision("json") is json


def test_loading_needs_no_network_and_names_the_models(monkeypatch):
    hub = import_beside_torchvision("huggingface_hub")
    monkeypatch.setattr(hub, "hf_hub_download", lambda *a, **k: pytest.fail("asked a hub"))
    denoisers.load("base")
    with pytest.raises(ValueError, match=r"name must be one of base, layout, .* got 'bas'"):
        denoisers.load("bas")
