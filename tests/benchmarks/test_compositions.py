"""Other compositions of the ecosystem's models: what they cost, and what they are where they are known."""

from dataclasses import replace

import pytest
import torch
from tolerances import assert_equal

from amdm.shapes import networks
from amdm.shapes.configs import AGGREGATED
from benchmarks import compositions, table6_published, table6_sweep
from benchmarks.caption_once import CaptionOnce
from benchmarks.compositions import Composition
from benchmarks.methods import Method
from benchmarks.runner import held_out

SCENES = held_out(0, 2)
ULA = (("kernel", "ula"), ("moves", 2), ("step_size", 0.03))
HMC = (("kernel", "hmc"), ("moves", 1), ("leaps", 2), ("points", 2), ("step_size", 0.01))
CASES = [
    Composition("linear", 3, (0.5, 0.5)),
    Composition("conjunction", 3, (1.5, 1.5), solver="dpmpp_2m"),
    Composition("conjunction", 2, unconditional="base", options=(("eta", 1.0),)),
    Composition("superdiff", 3),
    Composition("superdiff", 2, unconditional="attribute", options=(("combine", "or"),)),
    Composition("fkc", 3, (1.5, 1.5), particles=2),
    Composition("conjunction", 2, (3.0, 3.0), caption="base"),
    Composition("fkc", 2, guidance=1.0, caption="base"),
    Composition("superdiff", 2, caption="base"),
    Composition("mcmc", 3, above=5.0, options=ULA),
    Composition("mcmc", 2, options=HMC),
    Composition("mcmc", 2, options=(("kernel", "mala"), ("moves", 2), ("step_size", 0.01))),
]


@pytest.mark.slow
@pytest.mark.parametrize("composition", CASES, ids=lambda c: f"{c.kind} {dict(c.options).get('kernel', '')}")
def test_passes_are_counted(composition, monkeypatch):
    rows = 0
    forward = networks.Network.forward

    def counting(network, x, *args, **kwargs):
        nonlocal rows
        rows += len(x)
        return forward(network, x, *args, **kwargs)

    monkeypatch.setattr(networks.Network, "forward", counting)
    images = composition.draw(SCENES, 0)
    assert images.shape == (2, 3, 32, 32) and images.isfinite().all()
    assert rows == 2 * composition.passes
    assert composition.passes <= 2 * composition.calls.total() <= composition.passes + 3


def test_untrained_afa_of_one_model_twice_is_the_model(monkeypatch):
    """One start and no noise; both networks count."""
    one = networks.load("layout")
    aggregators = networks.build(AGGREGATED["afa"]).aggregators
    both = networks.Ensemble([one, one], aggregators.requires_grad_(False))
    monkeypatch.setattr(compositions, "ensemble", lambda name, device: both)
    composition = Composition("afa", 2, models=("layout", "layout"))
    wanted = Method(("layout",), steps=2, schedule="linspace").draw(SCENES, 0)
    torch.testing.assert_close(composition.draw(SCENES, 0), wanted, rtol=1e-4, atol=1e-4)
    assert Composition("afa", 35).calls == {"layout": 35, "attribute": 35}


@pytest.mark.slow
@pytest.mark.parametrize(("solver", "eta"), [("ddim", 0.0), ("ddim", 1.0), ("dpmpp_2m", 0.0)])
def test_one_condition_alone_is_the_guided_model(solver, eta):
    """Weight 3 for one and 0 for the other, relative to the one's unconditional prediction; one noise."""
    one = Method(("layout",), steps=3, sampler=solver, schedule="linspace", eta=eta).draw(SCENES, 0)
    options = tuple(table6_sweep.noise(eta).items())
    for kind, weights in (("conjunction", (3.0, 0.0)), ("linear", (1.0, 0.0))):
        composition = Composition(kind, 3, weights, solver=solver, options=options)
        assert_equal(composition.draw(SCENES, 0), one, 1e-4)


@pytest.mark.slow
def test_without_particles_moves_or_noise_they_are_the_conjunction():
    """FKC with one particle and MCMC without moves: what is left is DDIM's step along the same scores."""
    plain = Composition("conjunction", 3, (1.5, 1.5)).draw(SCENES, 0)
    options = {"fkc": (("eta", 0.0),), "mcmc": (("eta", 0.0), ("moves", 0), ("step_size", 0.1))}
    for kind, option in options.items():
        assert_equal(Composition(kind, 3, (1.5, 1.5), options=option).draw(SCENES, 0), plain, 1e-3)


# MCMC's moves and FKC's resampling draw from one generator for a batch: there it is a seed's, not the image.
@pytest.mark.slow
@pytest.mark.parametrize("composition", CASES, ids=lambda c: c.kind)
def test_a_seed_is_an_image_and_another_is_another(composition):
    torch.manual_seed(0)
    images = composition.draw(SCENES, 0)
    torch.manual_seed(1)
    assert torch.equal(composition.draw(SCENES, 0), images)
    assert not torch.equal(composition.draw(SCENES, 1), images)


def test_everyone_gets_eight_trials_at_one_price():
    for trials in table6_sweep.TRIALS.values():
        assert len(trials) == len(set(trials.values())) == 8
        for trial in trials.values():
            passes = 2 * trial.calls.total() if isinstance(trial, Method) else trial.passes
            assert table6_sweep.PASSES - 14 < passes <= table6_sweep.PASSES


def test_published_langevin_moves_are_in_the_upper_half():
    method = table6_published.experiment("full").rows["ULA (Du 2023)"]
    assert method.passes == 3 * (100 + 50 * 20)
    assert replace(method, above=0.0).passes == 3 * (100 + 100 * 20)


@pytest.mark.slow
@pytest.mark.parametrize("models", [("layout", "attribute"), ("attribute", "layout")])
def test_the_caption_once_at_all_steps_is_the_composition_with_the_caption_as_background(models):
    """One start, a window of all steps: both weights and the caption's are g, and the lead's guides."""
    once = CaptionOnce(models, 3, window=1.0, first="shared", schedule="linspace", guidance=2.0)
    composed = Composition(
        "conjunction", 3, (2.0, 2.0), guidance=2.0, unconditional=models[0], caption="base", models=models
    )
    assert_equal(once.draw(SCENES, 0), composed.draw(SCENES, 0), 1e-4)
    assert (2 * once.calls.total(), composed.passes) == (12, 12)


@pytest.mark.slow
def test_one_network_may_be_told_the_caption_and_nothing():
    """Two controls that add nothing to the caption: what is left is the guided caption."""
    models = ("base", "base")
    composed = Composition("conjunction", 3, (3.0, 3.0), unconditional="base", caption="base", models=models)
    assert_equal(composed.draw(SCENES, 0), Method(("base",), 3, schedule="linspace").draw(SCENES, 0), 1e-4)
