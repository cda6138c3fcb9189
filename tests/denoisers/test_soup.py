"""Networks merged in their parameters, against the mean of their predictions."""

import pytest
import torch
from strategies import randn
from tolerances import assert_equal
from torch import nn

from amdm.denoisers import average_state_dicts, linear
from amdm.shapes import conditions, denoisers, latents, networks, training, world
from amdm.shapes.configs import CONFIGS
from amdm.shapes.networks import Network


class Affine(nn.Module):
    """A denoiser that is affine in its parameters: D = A x + (1 + sigma) b."""

    def __init__(self, seed):
        super().__init__()
        self.a, self.b = nn.Parameter(randn(seed, 6, 6)), nn.Parameter(randn(seed + 1, 6))
        self.register_buffer("steps", torch.tensor(7))

    def forward(self, x, sigma):
        return x @ self.a.T + (1 + sigma[:, None]) * self.b


@pytest.mark.parametrize("weights", [None, [0.2, 0.5, 0.3]])
def test_affine_denoisers_are_averaged_as_their_predictions(weights):
    models = [Affine(seed) for seed in (0, 2, 4)]
    soup = Affine(9)
    soup.load_state_dict(average_state_dicts([model.state_dict() for model in models], weights))
    x, sigma = randn(5, 8, 6), torch.linspace(0.1, 5, 8).double()
    with torch.no_grad():
        assert_equal(soup(x, sigma), linear(models, weights)(x, sigma), 1e-12)


def test_one_network_is_itself_and_its_tensors_are_copies():
    state = Affine(0).state_dict()
    soup = average_state_dicts([state])
    assert all(torch.equal(soup[name], state[name]) for name in state)
    soup["b"] += 1
    soup["steps"] += 1
    assert not torch.equal(soup["b"], state["b"]) and state["steps"] == 7


def test_half_precision_is_averaged_in_float32():
    """One rounding, at the end, up to ties; sums in half precision differ in hundreds of numbers."""
    values = [randn(seed, 1000).half() for seed in range(3)]
    found = average_state_dicts([{"w": value} for value in values])["w"]
    exact = torch.stack(values).double().mean(0)
    assert found.dtype == torch.float16 and (found != exact.half()).sum() <= 20
    assert (sum(value / 3 for value in values) != exact.half()).sum() > 200


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda s: s | {"c": s["b"]},
            r"state_dicts\[1\] is of another architecture .* one alone has \['c'\]",
        ),
        (lambda s: s | {"b": s["b"][:5]}, r"state_dicts\[1\]\['b'\] is torch.float64 of shape \(5,\), exp"),
        (lambda s: s | {"b": s["b"].float()}, r"state_dicts\[1\]\['b'\] is torch.float32"),
        (lambda s: s | {"steps": s["steps"] + 1}, r"state_dicts\[1\]\['steps'\] differs"),
    ],
)
def test_another_architecture_is_named(change, message):
    state = Affine(0).state_dict()
    with pytest.raises(ValueError, match=message):
        average_state_dicts([state, change(state)])


@pytest.mark.parametrize(
    ("weights", "message"),
    [([1.0], "weights has 1 entries but there are 2"), ([0.5, 0.6], "expected numbers of sum 1")],
)
def test_weights_that_make_no_sense_are_named(weights, message):
    with pytest.raises(ValueError, match=message):
        average_state_dicts([Affine(0).state_dict()] * 2, weights)


def test_no_networks():
    with pytest.raises(ValueError, match="state_dicts is empty"):
        average_state_dicts([])


def test_models_of_the_ecosystem_that_differ_in_architecture_are_refused():
    states = [networks.load(name).unet.state_dict() for name in ("base", "layout")]
    with pytest.raises(ValueError, match=r"conv_in\.weight"):
        average_state_dicts(states)


def fine_tuned(style, steps=12, batch=8):
    """The base model's parameters after a few steps on scenes of one style alone."""
    network = networks.load("base")
    network.unet.requires_grad_(True)
    optimizer = torch.optim.AdamW(network.unet.parameters(), lr=1e-4)
    scenes = world.sample_scenes(range(world.TRAIN.start, world.TRAIN.start + 400))
    chosen = torch.nonzero(scenes.styles == style)[:, 0]
    g = torch.Generator().manual_seed(0)
    for rows in chosen.split(batch)[:steps]:
        part = world.Scenes(*(field[rows] for field in scenes))
        torch.autograd.backward(training.loss_of(CONFIGS["base"], network, part, g))
        optimizer.step()
        optimizer.zero_grad()
    return network.unet.state_dict()


@pytest.mark.slow
def test_two_fine_tunes_of_the_ecosystem():
    """The soup predicts the mean of the two, up to an error of second order in what the tuning changed."""
    base = networks.load("base")
    start = {name: value.clone() for name, value in base.unet.state_dict().items()}
    tuned = [fine_tuned(style) for style in (0, 1)]
    scenes = world.sample_scenes(range(world.TEST.start, world.TEST.start + 8))
    args = conditions.encode(CONFIGS["base"], scenes)
    sigma = torch.full((8,), 2.0, dtype=torch.float64)
    x = latents.encode(world.render(scenes)).double() + 2 * randn(0, 8, *latents.SHAPE)
    model = denoisers.denoiser(Network(base.unet.double()), "epsilon")

    def predicted(state):
        base.unet.load_state_dict(state)
        return model(x, sigma, **args)

    gaps, apart = {}, {}
    for part in (1.0, 0.5):
        states = [{name: torch.lerp(start[name], state[name], part) for name in start} for state in tuned]
        one, other = map(predicted, states)
        gaps[part] = (predicted(average_state_dicts(states)) - (one + other) / 2).norm().item()
        apart[part] = (one - other).norm().item()
    assert gaps[1.0] < apart[1.0] / 20
    assert gaps[1.0] / gaps[0.5] == pytest.approx(4, abs=0.5)
