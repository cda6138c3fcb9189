"""Proposition 3.2: the formulas on draws without chance, the records, and the controls to be rejected."""

import math

import pytest
import torch
from scipy.stats import chi

from amdm.geometry import radial_correct, slerp
from theory_checks import chord as chord_checks
from theory_checks.chord import check_chord, chord
from theory_checks.joined import Scene, at_distance, corrected_distance, distance_ratio, scene
from theory_checks.proposition_3_2 import (
    check_distance,
    check_existence,
    check_shell,
    check_threshold,
    checks,
    shell_bound,
    shell_probability,
    shell_width,
)
from theory_checks.schedule import coefficients

N = 64


def ideal(at, noise):
    """Means and steps whose noise is what it is for n = inf: of norm sqrt(n), at right angles to all else."""
    half = math.asin(at.delta / (2 * at.norm)) if at.norm else 0.0
    axes = torch.eye(at.n, dtype=torch.float64)
    means = at.norm * torch.stack(
        [math.cos(half) * axes[0] + sign * math.sin(half) * axes[1] for sign in (1, -1)]
    )
    xi = at.radius * torch.stack([axes[2], axes[2] if noise == "shared" else axes[3]])
    return means[:, None], (means + xi)[:, None]


@pytest.mark.parametrize("noise", ["independent", "shared"])
@pytest.mark.parametrize("weight", [0.1, 0.5, 0.8])
@pytest.mark.parametrize(("kappa", "apart"), [(0.0, 0.0), (0.5, 0.4), (5.0, 1.5), (40.0, 0.0)])
def test_distances_of_ideal_draws(noise, weight, kappa, apart):
    at = Scene(N, 0.3, math.sqrt(N * kappa) * 0.3, apart * math.sqrt(N) * 0.3)
    means, xs = ideal(at, noise)
    merged = slerp(xs[0], xs[1], weight)
    for model, share in ((0, weight), (1, 1 - weight)):
        expected = (merged - means[model]).norm() / at.radius
        assert distance_ratio(at, share, noise) == pytest.approx(expected.item(), abs=1e-12)
    for length in (0.0, 0.2, 100.0):
        moved = radial_correct(merged, means[0], length)
        for shell in (1, 2):
            expected = (moved - means[shell - 1]).norm().item()
            assert corrected_distance(at, weight, noise, length, shell) == pytest.approx(expected, abs=1e-7)


def test_ratios_by_hand():
    def ratio(kappa, weight=0.5, noise="independent"):
        return distance_ratio(Scene(N, 1.0, math.sqrt(N * kappa), 0.0), weight, noise)

    assert ratio(0.0) == 1 and ratio(7.0, 0.3, "shared") == 1
    for kappa in (0.2, 5.0):
        squared = 1 - 2 * kappa * (math.sqrt((2 + 2 * kappa) / (1 + 2 * kappa)) - 1)
        assert ratio(kappa) == pytest.approx(math.sqrt(squared))
    for weight in (0.2, 0.5):
        assert ratio(1e6, weight) == pytest.approx(math.sqrt(weight**2 + (1 - weight) ** 2), abs=1e-6)
    # Stable Diffusion's latents, eta = 1, the first 20 of 50 steps, and 10 steps.
    for steps, indices, low, high in ((50, range(20), 0.73, 0.76), (10, range(3), 0.81, 0.87)):
        for index in indices:
            s = coefficients(index, 1.0, steps).s
            assert low < ratio((1 - s**2) / s**2) < high


@pytest.mark.parametrize(("kappa", "least"), [(0.0, 0.7654), (1e8, 0.7071)])
def test_with_independent_noise_the_bound_is_empty_for_shells_thinner_than_this(kappa, least):
    at = Scene(N, 1.0, math.sqrt(N * kappa), 0.0)
    _, xs = ideal(at, "independent")
    assert (slerp(xs[0], xs[1], 0.5) - xs[0]).norm() / at.radius == pytest.approx(least, abs=1e-4)


def test_shell_probabilities():
    assert shell_probability(N, 1.5) == pytest.approx(chi.cdf(9.5, N) - chi.cdf(6.5, N))
    assert shell_probability(N, 1.5) == pytest.approx(0.967, abs=5e-4)
    assert shell_probability(1, 2.0) == pytest.approx(chi.cdf(3.0, 1))
    assert shell_probability(N, -1.0) == shell_bound(N, 0.0) == 0
    assert shell_bound(N, 1.5) == pytest.approx(
        1 - math.exp(-2.25) - math.exp(-(12 + 1.125 - 64 * math.log1p(1.5 / 8)))
    )
    for n in (2, 64, 4096):
        for u in (0.3, 1.0, 2.0, 4.0):
            assert shell_bound(n, u) <= shell_probability(n, u)
        assert shell_probability(n, shell_width(n, 0.9)) == pytest.approx(0.9)


def test_chords_by_the_law_of_cosines():
    assert chord(2.0, 2.0, math.pi / 2, 0.5) == pytest.approx(0.5412 * 2 * math.sqrt(2), abs=1e-3)
    for norm_1, norm_2, theta, weight in ((1.0, 1.7, 1.2, 0.3), (2.0, 0.4, 2.5, 0.9)):
        a, b = math.sin((1 - weight) * theta) / math.sin(theta), math.sin(weight * theta) / math.sin(theta)
        squared = (
            (a - 1) ** 2 * norm_1**2 + b**2 * norm_2**2 + 2 * (a - 1) * b * norm_1 * norm_2 * math.cos(theta)
        )
        assert chord(norm_1, norm_2, theta, weight) == pytest.approx(math.sqrt(squared))


def test_draws_at_a_distance_keep_their_middle(rng):
    xi = torch.randn(2, 5, N, generator=rng, dtype=torch.float64)
    near = at_distance(xi, 0.5)
    torch.testing.assert_close(near.sum(0), xi.sum(0))
    torch.testing.assert_close((near[0] - near[1]).norm(dim=1), torch.full((5,), 0.5, dtype=torch.float64))


def test_conditioning_on_the_distance():
    # kappa = inf, length 0, u = 1.5: |x' - mean|^2/s^2 is half a chi-square, and must exceed (8 - 2)^2.
    s = coefficients(10, 1.0).s
    setting = {"noise": "independent", "delta": 0.0, "thickness": 2 * s, "length": 0.0, "kappa": 1e6}
    record = check_shell(N, control="conditioned on the distance", **setting)
    expected = chi.sf(6 * math.sqrt(2), N)
    assert expected == pytest.approx(0.23, abs=5e-3) and record.low < expected < record.high
    assert record.claimed == pytest.approx(0.967 - 0.0035, abs=1e-3) and record.verdict == "fails"
    assert check_shell(N, **setting).verdict == "holds but vacuous"


def test_the_bound_behind_the_probability_holds_for_every_draw():
    for noise, thickness in (("shared", 0.8), ("independent", 3.8)):
        record = check_shell(N, noise=noise, thickness=thickness)
        assert record.verdict == "holds" and 0 < record.bound <= record.claimed and record.slack > 0


def test_the_grid():
    records = [check() for check in (*checks("small"), *chord_checks.checks("small"))]
    wrong = {r.statement for r in records if not r.ours}
    assert wrong == {"Proposition 3.2, existence, positive", "Proposition 3.2, chord, equal norms"}
    assert all(r.verdict == "fails" for r in records if not r.ours)
    assert all(r.verdict in ("holds", "holds but vacuous") for r in records if r.ours)
    assert sum(r.verdict == "holds but vacuous" for r in records) == 2


APART = {N: 1.56, 1024: 6.25}  # half a radius


@pytest.mark.parametrize("n", [N, 1024])
@pytest.mark.parametrize(
    ("check", "setting", "controls"),
    [
        (check_distance, {}, ["orthogonal mix", "s of the first step"]),
        (check_distance, {"noise": "shared"}, ["orthogonal mix", "s of the first step"]),
        (check_distance, {"weight": 0.2, "delta": APART}, ["orthogonal mix", "swapped weights"]),
        (check_existence, {"noise": "shared"}, ["sign"]),
        (check_existence, {"lengths": "either sign"}, ["sign", "norm over the batch"]),
        (check_existence, {"eta": 0.0, "delta": 1.0}, ["sign", "norm over the batch", "s of the first step"]),
        (check_shell, {"thickness": 0.6}, ["s of the first step"]),
        (check_threshold, {}, ["s of the first step"]),
        (check_chord, {"weight": 0.2}, ["orthogonal mix", "swapped weights"]),
        (check_chord, {"weight": 0.2, "ratio": 1.5}, ["orthogonal mix", "swapped weights"]),
    ],
)
def test_controls_are_rejected(n, check, setting, controls):
    setting = {name: value[n] if value is APART else value for name, value in setting.items()}
    assert check(n, **setting).verdict == "holds"
    for control in controls:
        assert check(n, **setting, control=control).verdict == "fails"


def test_a_record_is_a_function_of_its_arguments():
    assert check_distance(N, seed=3) == check_distance(N, seed=3) != check_distance(N, seed=4)


def test_means_cannot_be_further_apart_than_their_norms_allow():
    with pytest.raises(ValueError, match=r"delta is 20\.0, expected 14\.7"):
        scene(N, 10, 1.0, delta=20.0)
