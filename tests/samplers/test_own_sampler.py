"""A sampler of one's own, from the page that says how: alone, and inside AMDM."""

import re
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from samplers.models import karras, mixture
from strategies import randn

from amdm import ddim, dpmpp_2m_sde, sample_amdm, sample_dpmpp_2m_sde, sample_projective_guidance
from amdm.samplers import DDIM, SAMPLERS, Rule, of_one_model

PAGE = Path(__file__).parent.parent.parent / "docs" / "architecture.md"
SIGMAS = karras(8)
X = 20 * randn(0, 3, 6)


@dataclass(frozen=True, kw_only=True)
class Adams(Rule):
    """Adams and Bashforth's two-step method on the probability flow."""

    def begin(self, xs, levels, num_models):
        return super().begin(xs, levels, num_models)._replace(memory=[])

    def step(self, at, x, memory):
        denoised = at.denoise[0](x, at.sigma)
        slopes = [*memory[-1:], (x - denoised) / at.sigma]
        slope = slopes[0] if len(slopes) == 1 or at.last else 1.5 * slopes[1] - 0.5 * slopes[0]
        mean = denoised if at.last else x + (at.sigma_next - at.sigma) * slope
        return at.step(x, denoised, mean, 0.0), slopes

    def restarted(self, memory):
        return []


adams, sample_adams = of_one_model("adams", Adams)


def by_hand(model, x):
    before = None
    for sigma, sigma_next in pairwise(SIGMAS.tolist()):
        denoised = model(x, x.new_full((len(x),), sigma))
        slope = (x - denoised) / sigma
        ahead = slope if before is None else 1.5 * slope - 0.5 * before
        x, before = (x + (sigma_next - sigma) * ahead if sigma_next > 0 else denoised), slope
    return x


def test_the_pages_example_is_dpmpp_2m():
    (block,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    namespace = {"__name__": "mine"}
    exec(block, namespace)
    options = {"disable": True, "eta": 0.5}
    torch.manual_seed(0)
    expected = sample_dpmpp_2m_sde(mixture(), X, SIGMAS, **options)
    torch.manual_seed(0)
    assert torch.equal(namespace["sample_mine"](mixture(), X, SIGMAS, **options), expected)
    models = [mixture(), mixture(1)]
    torch.manual_seed(0)
    expected = sample_amdm(models, X, SIGMAS, sampler=dpmpp_2m_sde, **options)
    torch.manual_seed(0)
    assert torch.equal(sample_amdm(models, X, SIGMAS, sampler=namespace["mine"], **options), expected)
    assert "mine" not in SAMPLERS and "eta: the share of fresh noise" in namespace["mine"].__doc__


def test_a_rule_without_options_and_with_a_memory_of_its_own():
    model = mixture()
    assert torch.equal(sample_adams(model, X, SIGMAS, disable=True), by_hand(model, X))
    assert torch.equal(
        sample_amdm([model, model], X, SIGMAS, sampler=adams, disable=True, correction=0.0), by_hand(model, X)
    )
    assert "noise_sampler:" in adams.__doc__ and adams.__doc__.startswith("Adams and Bashforth")
    with pytest.raises(ValueError, match=r"^eta is 1.0, expected 0: the sampler adams has no option eta"):
        sample_amdm([model, model], X, SIGMAS, sampler=adams, eta=1.0)


def test_a_generator_that_hands_on_to_a_sampler_keeps_the_models_extra_args():
    def mine(model, x, sigmas, extra_args=None, **options):
        return (yield from ddim(model, x, sigmas, extra_args, **options))

    def told(x, sigma, shift):
        return mixture()(x, sigma) + shift

    options = {"extra_args": [{"shift": 0.5}, {"shift": -1.0}], "disable": True}
    expected = sample_amdm([told, told], X, SIGMAS, **options)
    assert torch.equal(sample_amdm([told, told], X, SIGMAS, sampler=mine, **options), expected)


@pytest.mark.parametrize(
    "doc", [None, "One line.", "A.\n\nArgs:\n    eta: e.", "A.\n\nArgs:\n\nReturns:\n    B."]
)
def test_documentation_of_any_form(doc):
    rule = type("Any", (DDIM,), {"__doc__": doc, "__module__": __name__})
    generator, _ = of_one_model("any", rule)
    assert generator.__doc__.count("sigmas: ") == 1 and generator.__doc__.count("    eta: ") <= 1


@dataclass(frozen=True, kw_only=True)
class Broken(DDIM):
    what: str = "nan"

    def step(self, at, x, memory):
        step, memory = super().step(at, x, memory)
        changes = {"nan": step.mean * float("nan"), "shape": step.mean[:, :2], "dtype": step.mean.float()}
        mean = changes[self.what] if at.last else step.mean
        return at.step(x, step.denoised, mean, 0.0), memory


_, sample_broken = of_one_model("broken", Broken)


@pytest.mark.parametrize(
    ("what", "error", "message"),
    [
        ("nan", FloatingPointError, r"Broken.step led to NaN or infinity for sample 0, first at step 7"),
        (
            "shape",
            ValueError,
            r"Broken.step led to a latent \(\(3, 2\), torch.float64\), expected \(\(3, 6\)",
        ),
        (
            "dtype",
            ValueError,
            r"Broken.step led to a latent \(\(3, 6\), torch.float32\), expected .* torch.float64",
        ),
    ],
)
def test_what_a_rule_leads_to_is_checked(what, error, message):
    with pytest.raises(error, match=f"^{message}"):
        sample_broken(mixture(), X, SIGMAS, disable=True, what=what)


def test_the_rule_in_place_of_its_generator():
    with pytest.raises(TypeError, match=r"^sampler is the rule Adams, expected its generator"):
        sample_amdm([mixture(), mixture(1)], X, SIGMAS, sampler=Adams)


@dataclass(frozen=True, kw_only=True)
class Shortened(DDIM):
    """DDIM whose means are `part` as long."""

    part: float = 1.0

    def step(self, at, x, memory):
        step, memory = super().step(at, x, memory)
        return at.step(x, step.denoised, self.part * step.mean, step.std), memory


shortened, sample_shortened = of_one_model("shortened", Shortened)


@dataclass(frozen=True, kw_only=True)
class Half(Shortened):
    part: float = 0.5


half, _ = of_one_model("half", Half)
MODELS = [mixture(), mixture(1)]


def of_seed(call, *args, **options):
    torch.manual_seed(0)
    return call(*args, disable=True, **options)


@pytest.mark.parametrize("eta", [0.0, 0.5])
def test_a_partial_sets_a_samplers_options(eta):
    """Nested partials are one; another default is the same sampler."""
    set_once, set_twice = partial(shortened, part=0.5), partial(partial(shortened, part=0.1), part=0.5)
    expected = of_seed(sample_amdm, MODELS, X, SIGMAS, sampler=half, eta=eta)
    for sampler in (set_once, set_twice):
        assert torch.equal(of_seed(sample_amdm, MODELS, X, SIGMAS, sampler=sampler, eta=eta), expected)
    options = {"background": mixture(2), "window_eta": 0.3, "eta": eta}
    expected = of_seed(sample_projective_guidance, MODELS, X, SIGMAS, sampler=half, **options)
    found = of_seed(sample_projective_guidance, MODELS, X, SIGMAS, sampler=set_once, **options)
    assert torch.equal(found, expected)


def handing_on(model, x, sigmas, extra_args=None, part=1.0, **options):
    return (yield from shortened(model, x, sigmas, extra_args, part=part, **options))


@pytest.mark.parametrize(
    ("sampler", "error", "message"),
    [
        (partial(shortened, eta=1.0), ValueError, "^sampler sets eta, expected it as an argument of amdm"),
        (partial(handing_on, eta=1.0), ValueError, "^sampler sets eta, expected it as an argument"),
        (partial(shortened, debug_nans=True), ValueError, "^sampler sets debug_nans, expected it as an arg"),
        (partial(shortened, parts=0.5), TypeError, "unexpected keyword argument 'parts'"),
        (partial(shortened, mixture()), TypeError, "^sampler is a functools.partial with positional arg"),
        (
            Shortened(part=0.5),
            TypeError,
            "^sampler is an instance of Shortened, expected its generator function; "
            r"functools.partial\(generator, ...\) sets its options",
        ),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_options_that_amdm_does_not_take_so(sampler, error, message):
    with pytest.raises(error, match=message):
        sample_amdm(MODELS, X, SIGMAS, sampler=sampler)


def test_a_partial_of_a_generator_without_a_rule():
    expected = sample_amdm(MODELS, X, SIGMAS, sampler=half, disable=True)
    found = sample_amdm(MODELS, X, SIGMAS, sampler=partial(handing_on, part=0.5), disable=True)
    assert torch.equal(found, expected)


class NoMemory(DDIM):
    def step(self, at, x, memory):
        return super().step(at, x, memory)[0]


no_memory, sample_no_memory = of_one_model("no_memory", NoMemory)


def test_a_rule_that_forgets_its_memory_is_told():
    message = r"^NoMemory.step returned Step, expected \(Step, memory\)"
    with pytest.raises(TypeError, match=message):
        sample_no_memory(mixture(), X, SIGMAS, disable=True)
    with pytest.raises(TypeError, match=message):
        sample_amdm(MODELS, X, SIGMAS, sampler=no_memory, disable=True)
    with pytest.raises(TypeError, match=message):
        sample_projective_guidance(MODELS, X, SIGMAS, sampler=no_memory, background=mixture(2), disable=True)


def test_a_rule_with_fields_that_is_no_dataclass_is_told():
    class Nd(DDIM):
        s: float = 0.5

    with pytest.raises(TypeError, match=r"^Nd is not a dataclass: expected @dataclass\(frozen=True, kw_only"):
        of_one_model("nd", Nd)

    class Constant(DDIM):
        order: ClassVar[int] = 1

    generator, _ = of_one_model("constant", Constant)
    assert torch.equal(next(generator(mixture(), X, SIGMAS)).x_next, next(ddim(mixture(), X, SIGMAS)).x_next)


def test_a_generator_of_tensors_is_told():
    def tensors(model, x, sigmas, extra_args=None, **options):
        for _ in range(len(sigmas) - 1):
            x = 0.5 * x
            yield x

    with pytest.raises(TypeError, match=r"^sampler yielded a torch.float64 tensor, expected a Step"):
        sample_amdm(MODELS, X, SIGMAS, sampler=tensors, disable=True)


def test_what_is_sent_is_a_latent():
    steps = adams(mixture(), X, SIGMAS)
    next(steps)
    with pytest.raises(TypeError, match=r"^sent float, expected a latent or a Restart"):
        steps.send(3.0)


def test_docstrings_may_be_stripped():
    run = "amdm.sample_ddim(lambda x, sigma: x / 2, torch.ones(1, 2), torch.tensor([1.0, 0.0]))"
    code = f"import torch, amdm; print({run})"
    done = subprocess.run([sys.executable, "-OO", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
