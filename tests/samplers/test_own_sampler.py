"""A sampler of one's own, from the page that says how: alone, and inside AMDM."""

import re
import subprocess
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from samplers.models import karras, mixture
from strategies import randn

from amdm import ddim, dpmpp_2m_sde, sample_amdm, sample_dpmpp_2m_sde
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
