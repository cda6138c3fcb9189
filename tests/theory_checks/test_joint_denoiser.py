"""Projective guidance: exact models against sums over components, every statement, every control rejected."""

import csv
import math
from typing import get_args

import pytest
import torch

from amdm.denoisers import GaussianMixture
from theory_checks import gap_by_level
from theory_checks.controls import (
    NOISE,
    SIZE,
    Weighted,
    covariances_of,
    log_likelihood,
    mean_of,
    mixture,
    models,
    observed,
)
from theory_checks.projective_guidance import (
    Background,
    check_blocks,
    check_correlation,
    check_covariance,
    check_guidance,
    check_high_levels,
    check_identity,
    check_leading_term,
    check_level_0,
    check_rate,
    checks,
    guided,
    relative_gap,
)


def test_a_mixture_has_the_covariances_it_was_made_with():
    spread = torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    covariances = spread @ spread.mT + 0.1 * torch.eye(4)
    made = mixture(torch.zeros(3, 4).double(), covariances, torch.ones(3).double())
    torch.testing.assert_close(covariances_of(made), covariances)


def test_a_reading_is_bayes_rule():
    world = models()
    x = world.caption.sample(50, generator=torch.Generator().manual_seed(0))
    reading, value = world.readings[0], world.values[0]
    posterior = observed(world.caption, reading, value)
    ratio = posterior.log_density(x) - world.caption.log_density(x)
    expected = -((value - x @ reading) ** 2) / (2 * NOISE**2)
    torch.testing.assert_close(ratio - ratio.mean(), expected - expected.mean())


@pytest.mark.parametrize("sigma", [0.0, 0.7, 5.0])
def test_a_likelihood_is_the_ratio_of_the_densities(sigma):
    world = models("readings", 0.5)
    x = world.joint.sample(50, sigma, generator=torch.Generator().manual_seed(0))
    got = log_likelihood(world.caption, x, sigma, world.readings, world.values)
    expected = world.joint.log_density(x, sigma) - world.caption.log_density(x, sigma)
    torch.testing.assert_close(got - got.mean(), expected - expected.mean())


def test_weighted_data_are_a_mixture_of_points():
    generator = torch.Generator().manual_seed(0)
    data, weights = torch.randn(5, 2, generator=generator).double(), torch.tensor([1.0, 2, 3, 4, 5]).double()
    points = GaussianMixture(data, torch.full((5,), 1e-12).double(), weights)
    x, level = torch.randn(4, 2, generator=generator).double(), torch.full((4,), 0.8).double()
    model = Weighted(data, weights)
    torch.testing.assert_close(model(x, level), points(x, level))
    ratio = model.log_density(x, 0.8) - points.log_density(x, 0.8)
    torch.testing.assert_close(ratio, ratio[:1].expand(4))


@pytest.mark.parametrize("controls", [2, 3])
def test_worlds(controls):
    world = models(controls=controls)
    n = SIZE * (controls + 1)
    basis = world.blocks.permute(1, 0, 2).reshape(n, -1)
    torch.testing.assert_close(basis.mT @ basis, torch.eye(SIZE * controls).double())
    torch.testing.assert_close(world.readings @ world.readings.mT, torch.eye(controls).double())
    assert len(world.told) == controls and len(world.empty.means) == 2 ** (controls + 1)
    variance = sum(c.diagonal().mean() for c in covariances_of(world.empty)) / len(world.empty.means)
    assert 0.2 < variance < 1
    for kind in ("readings", "modes"):
        turned = models(kind, 0.6, controls)
        if kind == "readings":
            assert turned.readings[0] @ turned.readings[1] == pytest.approx(0.6)
        assert torch.equal(turned.blocks, world.blocks)


def test_correlated_labels_move_each_other():
    world = models("labels", 0.25)
    shift = mean_of(world.told[0]) - mean_of(world.caption)
    torch.testing.assert_close(world.readings @ shift, torch.tensor([1.0, 0.25]).double())


@pytest.mark.parametrize("kind", ["data", "readings"])
@pytest.mark.parametrize("index", [0, 20, 49])
def test_the_gap_is_the_gradient_of_the_ratio(kind, index):
    record = check_identity(kind, index=index)
    assert record.verdict == "holds" and record.measured < 1e-10
    for control in get_args(check_identity.__annotations__["control"])[0].__args__:
        assert check_identity(kind, index=index, control=control).verdict == "fails"


@pytest.mark.parametrize("index", [0, 25, 49])
@pytest.mark.parametrize("controls", [2, 3, 4])
def test_independent_blocks_have_no_gap_with_the_captions_model_only(controls, index):
    assert check_blocks(controls, index=index).measured < 1e-10
    for background in get_args(Background)[1:]:
        record = check_blocks(controls, background, index=index)
        assert record.verdict == "fails" and not record.ours and record.measured > 0.02
        assert record.measured == pytest.approx(record.exact)


@pytest.mark.parametrize("seed", range(3))
def test_level_0(seed):
    for kind in ("data", "readings"):
        assert check_level_0(kind, 0.8, seed=seed).measured < 1e-10
    wrong = check_level_0("modes", seed=seed)
    assert wrong.verdict == "fails" and not wrong.ours and wrong.measured > 0.1
    assert check_level_0("modes", 0.0, seed=seed).measured < 1e-10


@pytest.mark.parametrize("sigma", [0.3, 1.0, 10.0])
def test_the_ratio_is_made_of_the_covariance(sigma):
    assert check_covariance(sigma).measured < 1e-10
    for control in ("not divided", "prior covariance"):
        assert check_covariance(sigma, control=control).verdict == "fails"


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("kind", "rate"), [("readings", 2), ("data", 4)])
def test_rates(kind, rate, seed):
    record = check_rate(kind, seed=seed)
    assert record.verdict == "holds" and record.measured == pytest.approx(rate, abs=0.2)
    assert record.high - record.low < 0.5
    wrong = check_rate(kind, seed=seed, control="modes")
    assert wrong.verdict == "fails" and abs(wrong.measured) < 0.2


def test_the_leading_term():
    assert check_leading_term().verdict == "holds"
    # What is left out is smaller by sigma^2.
    assert check_leading_term(sigma=6e-3).measured == pytest.approx(
        4 * check_leading_term().measured, rel=0.1
    )
    assert check_leading_term(control="half").measured == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("kind", ["data", "readings", "labels"])
def test_high_levels(kind):
    record = check_high_levels(kind, 0.7)
    assert record.verdict == "holds" and record.claimed > 0.1
    assert check_high_levels(kind, 0.7, control="no gap").verdict == "fails"


@pytest.mark.parametrize("correlation", [0.0, 1 / 3, 0.9])
def test_gaps_by_correlation(correlation):
    records = [check_correlation(correlation, name) for name in ("projective", "mean", "weighted")]
    assert [record.verdict for record in records] == ["holds"] * 3
    claimed = [correlation, (1 - correlation) / 2, 0]
    assert [record.measured for record in records] == pytest.approx(claimed, abs=1e-4)


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_guidance_and_weights(guidance):
    assert check_guidance(guidance).measured < 1e-10
    assert check_guidance(guidance, (1.0, 1.0)).measured < 1e-10
    for control in ("exchanged weights", "empty caption", "partner's own"):
        record = check_guidance(guidance, control=control)
        assert record.verdict == "fails" and not record.ours


def test_the_prediction_is_the_formula():
    u, c_0, *told = (torch.full((1, 2), value) for value in (1.0, 2.0, 3.0, 5.0, 8.0))
    constant = lambda value: lambda x, sigma: value
    denoiser = guided(constant(u), constant(c_0), [constant(c) for c in told], 3.0, [1.0, 0.5, 2.0])
    got = denoiser(torch.zeros(1, 2), torch.ones(1))
    # 1 + 3 (3 + 0.5 (5 - 2) + 2 (8 - 2) - 1)
    torch.testing.assert_close(got, torch.full((1, 2), 1 + 3 * (3 + 1.5 + 12 - 1.0)))


def test_the_gap_is_spared_late_or_early():
    for dependence in (0.1, 0.6):
        early, late = (relative_gap(models("data", dependence), sigma)[0] for sigma in (13.0, 0.04))
        assert early > 0.8 * dependence and late < 1e-5
        early, late = (relative_gap(models("modes", dependence), sigma)[0] for sigma in (13.0, 0.04))
        assert early < 0.01 and late > 0.3 * dependence
    assert relative_gap(models(), 2.0)[1] == pytest.approx(0.5)


def test_the_table_and_the_picture(tmp_path):
    gap_by_level.write(tmp_path, "small")
    with (tmp_path / "projective_guidance.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 3 * 5 * 3
    assert all(math.isfinite(float(line["gap"])) for line in lines)
    assert all(float(line["gap"]) < 1e-10 for line in lines if line["dependence"] == "0.0")
    assert (tmp_path / "projective_guidance.png").read_bytes().startswith(b"\x89PNG")


def test_the_grid():
    for record in (check() for check in checks("small")):
        assert (record.verdict == "holds") == record.ours, record
