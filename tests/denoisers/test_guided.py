from functools import partial

import pytest
import torch
from tolerances import assert_equal
from torch import Tensor

from amdm.denoisers import Guided, GuidedPair
from amdm.types import GuidedDenoiser


class Conditional:
    """A denoiser of one condition, which remembers its calls."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Tensor]] = []

    def __call__(self, x: Tensor, sigma: Tensor, *, label: Tensor, gain: float = 1.0) -> Tensor:
        self.calls.append({"x": x, "sigma": sigma, "label": label})
        return gain * torch.tanh(label) * x / (1 + sigma[:, None] ** 2)


@pytest.fixture
def inputs(rng) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x, sigma, the conditional and the unconditional label."""
    x, given, without = torch.randn(3, 4, 6, generator=rng, dtype=torch.float64)
    return x, torch.tensor([0.5, 1.0, 2.0, 4.0], dtype=torch.float64), given, without


@pytest.mark.parametrize("scale", [-1.0, 0.0, 0.5, 1.0, 7.5])
def test_it_extrapolates_from_the_unconditional_to_the_conditional_prediction(scale, inputs):
    x, sigma, given, without = inputs
    guided = Guided(Conditional(), scale)(
        x, sigma, cond={"label": given}, uncond={"label": without}, gain=3.0
    )
    cond, uncond = (Conditional()(x, sigma, label=label, gain=3.0) for label in (given, without))
    assert_equal(guided, uncond + scale * (cond - uncond), tol=1e-14)


def test_it_calls_the_model_once_on_the_doubled_batch_unconditional_first(inputs):
    x, sigma, given, without = inputs
    model = Conditional()
    Guided(model, 2.0)(x, sigma, cond={"label": given}, uncond={"label": without})
    (call,) = model.calls
    assert torch.equal(call["x"], torch.cat([x, x]))
    assert torch.equal(call["sigma"], torch.cat([sigma, sigma]))
    assert torch.equal(call["label"], torch.cat([without, given]))


def test_scale_1_calls_the_model_once_on_the_plain_batch(inputs):
    x, sigma, given, without = inputs
    model = Conditional()
    Guided(model, 1.0)(x, sigma, cond={"label": given}, uncond={"label": without})
    (call,) = model.calls
    assert torch.equal(call["x"], x) and torch.equal(call["label"], given)


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_it_tells_both_predictions(scale, inputs):
    """From one call on the doubled batch; the conditional one alone from a call on the plain batch."""
    x, sigma, given, without = inputs
    model, told = Conditional(), {"cond": {"label": given}, "uncond": {"label": without}, "gain": 3.0}
    guided = Guided(model, scale)
    uncond, cond = guided.both(x, sigma, **told)
    assert_equal(guided.conditional(x, sigma, **told), cond, tol=1e-14)
    assert [len(call["x"]) for call in model.calls] == [8, 4]
    expected = [Conditional()(x, sigma, label=label, gain=3.0) for label in (without, given)]
    assert_equal(torch.stack([uncond, cond]), torch.stack(expected), tol=1e-14)
    assert guided.guidance_at(sigma) == scale and isinstance(guided, GuidedDenoiser)
    with pytest.raises(ValueError, match=r"^cond\['label'\] has shape \(3, 6\), expected a row for each"):
        guided.conditional(x, sigma, cond={"label": given[:3]})


@pytest.mark.parametrize("scale", [0.0, 1.0, 7.5])
def test_a_pair_of_denoisers(scale, inputs):
    x, sigma, given, without = inputs
    given, without = (partial(Conditional(), label=label) for label in (given, without))
    pair = GuidedPair(given, without, scale)
    expected = [model(x, sigma, gain=2.0) for model in (without, given)]
    assert all(map(torch.equal, pair.both(x, sigma, gain=2.0), expected))
    assert torch.equal(pair.conditional(x, sigma, gain=2.0), expected[1])
    assert_equal(pair(x, sigma, gain=2.0), expected[0] + scale * (expected[1] - expected[0]), tol=1e-14)
    assert pair.guidance_at(sigma) == scale and isinstance(pair, GuidedDenoiser)
    ranged = GuidedPair(Ranged(), without, scale)
    assert (ranged.sigma_min, ranged.sigma_max) == (0.1, 2.0)
    with pytest.raises(AttributeError, match="GuidedPair has no attribute 'network'"):
        ranged.network  # noqa: B018


class Ranged(Conditional):
    sigma_min, sigma_max = 0.1, 2.0


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_conditions_of_other_keywords_are_named(scale, inputs):
    x, sigma, given, without = inputs
    with pytest.raises(ValueError, match=r"cond has the keys \['label'\] but uncond has \['text'\]"):
        Guided(Conditional(), scale)(x, sigma, cond={"label": given}, uncond={"text": without})


@pytest.mark.parametrize(
    ("cond", "uncond", "message"),
    [
        (torch.ones(2, 3), torch.ones(2, 3), "^cond is a torch.float32 tensor, expected a dictionary"),
        ({"c": torch.ones(2, 3)}, None, "^uncond is None, expected a dictionary"),
        (
            {"c": "a cat"},
            {"c": ""},
            r"^cond\['c'\] is str, expected a dictionary .* and tensors: cond={'name': ",
        ),
    ],
)
@pytest.mark.parametrize("scale", [1.0, 7.5])
def test_conditions_that_are_no_dictionary_of_tensors_are_named(scale, cond, uncond, message, unchecked):
    guided = Guided(lambda x, sigma, c: x, scale)
    with pytest.raises(TypeError, match=message):
        guided(torch.ones(2, 3), torch.ones(2), cond=cond, uncond=uncond)


@pytest.mark.parametrize("scale", [1.0, 3.0])
@pytest.mark.parametrize(("rows", "others"), [(3, 1), (1, 1), (4, 2), (2, 1)])
def test_rows_that_are_not_the_batchs_are_refused(scale, rows, others):
    """3 + 1 rows join to as many as 2 + 2."""
    x, sigma = torch.zeros(2, 1), torch.ones(2)
    cond, uncond = {"label": torch.ones(rows)}, {"label": torch.zeros(others)}
    name, wrong = ("cond", rows) if rows != 2 else ("uncond", others)
    message = rf"^{name}\['label'\] has shape \({wrong},\), expected a row for each of x's 2 samples"
    with pytest.raises(ValueError, match=message):
        Guided(Conditional(), scale)(x, sigma, cond=cond, uncond=uncond)


def test_conditions_that_cannot_be_joined_are_named():
    x, sigma = torch.zeros(2, 1), torch.ones(2)
    guided, text = Guided(Conditional(), 3.0), torch.ones(2, 77, 8)
    message = r"^uncond\['text'\] has shape \(2, 5, 8\), expected that of cond: \(2, 77, 8\) "
    with pytest.raises(ValueError, match=message):
        guided(x, sigma, cond={"text": text}, uncond={"text": torch.ones(2, 5, 8)})
    with pytest.raises(ValueError, match=r"^uncond\['text'\] has the dtype torch.float16, expected"):
        guided(x, sigma, cond={"text": text}, uncond={"text": text.half()})
