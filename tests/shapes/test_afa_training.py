"""AFA of the world's models: what is trained, what is stored, and that a short run teaches something."""

from dataclasses import replace

import pytest
import torch
from tolerances import assert_equal

from amdm.shapes import denoisers, networks, training, world
from amdm.shapes.configs import AGGREGATED
from amdm.shapes.denoisers import extra_args

CPU = torch.device("cpu")
EXPERTS = AGGREGATED["afa"].experts
SHORT = replace(AGGREGATED["afa"], images=4 * 400, batch=4, warmup=1)


@pytest.fixture(scope="module")
def ensemble():
    return networks.build(SHORT)


def test_thirteen_aggregators_of_width_32_beside_frozen_experts(ensemble):
    aggregators = ensemble.trainable()
    assert len(aggregators.each) == 13 and aggregators.config.width == 32
    assert list(training.trained(ensemble)) == [name for name, _ in aggregators.named_parameters()]
    assert sum(each.numel() for each in training.trained(ensemble).values()) == 656_864
    assert not any(each.requires_grad for network in ensemble.experts for each in network.parameters())


def test_each_expert_predicts_as_its_model(ensemble):
    scenes, sigma = world.sample_scenes(world.VALIDATION[:3]), torch.tensor([0.1, 1.0, 10.0])
    x = torch.randn(3, 12, 16, 16, generator=torch.Generator().manual_seed(0))
    for name, network in zip(EXPERTS, ensemble.experts, strict=True):
        args, guided = extra_args(name, scenes), denoisers.load(name, guidance=3.0)
        alone = denoisers.expert(network, denoisers.rows(args), guidance=3.0)
        torch.testing.assert_close(alone(x, sigma), guided(x, sigma, **args), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(
            alone.conditional(x, sigma), guided.conditional(x, sigma, **args), rtol=1e-4, atol=1e-4
        )


def test_a_short_run_lowers_the_loss_and_resumes(tmp_path):
    run, scenes = training.begin(SHORT, CPU), world.sample_scenes(world.VALIDATION[:8])

    def loss():
        with torch.no_grad():
            return training.loss_of(SHORT, run.network, scenes, torch.Generator().manual_seed(0)).item()

    before = loss()
    for _ in range(4):
        training.advance(run)
    assert loss() < 0.98 * before
    training.checkpoint(run, tmp_path / "run.safetensors")
    resumed = training.resume(SHORT, CPU, tmp_path / "run.safetensors")
    assert resumed.step == 4
    for name, value in run.parameters.items():
        assert torch.equal(resumed.parameters[name], value), name


def test_saved_weights_come_back_in_half_precision(ensemble, tmp_path, monkeypatch):
    weights = {name: value + 0.01 for name, value in ensemble.trainable().state_dict().items()}
    monkeypatch.setattr(networks, "WEIGHTS", tmp_path)
    networks.save("afa", ensemble, weights)
    loaded = networks._load(type(ensemble.aggregators), "afa", "aggregators")
    for name, value in loaded.state_dict().items():
        assert_equal(value, weights[name].half().float())
