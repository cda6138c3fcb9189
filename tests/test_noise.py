import itertools

import pytest
import torch
from tolerances import assert_equal

from amdm import seeded_noise, shared_noise, start_noise

NO_LEVELS = (torch.tensor(1.0), torch.tensor(0.5))


def test_a_sample_depends_on_its_own_seed_alone():
    batch, alone = seeded_noise([3, 4, 5], [2, 6]), seeded_noise([4], [2, 6])
    for _ in range(3):
        assert torch.equal(batch(*NO_LEVELS)[1], alone(*NO_LEVELS)[0])


def test_seeds_streams_steps_and_starts_are_independent():
    """All pairs of 14 draws of 16384 numbers: one beyond 5.2 standard errors has p < 2e-5 in all."""
    draws = []
    for seed, stream in itertools.product([0, 1], [0, 1]):
        noise = seeded_noise([seed], [16384], stream=stream)
        draws += [noise(*NO_LEVELS)[0] for _ in range(2)]
    for seed in (0, 1, 2**32):
        draws += [x[0] / 2**0.5 for x in start_noise([seed], [16384], 1.0, 2)]
    rows = torch.stack(draws).double()
    correlation = torch.corrcoef(rows) - torch.eye(len(rows)).double()
    assert correlation.abs().max() <= 5.2 / 16384**0.5
    assert rows.mean(1).abs().max() <= 5 / 16384**0.5
    assert (rows.var(1) - 1).abs().max() <= 5 * (2 / 16384) ** 0.5


@pytest.mark.parametrize(("convention", "scale"), [("vp", 5**0.5), ("ve", 2.0)])
def test_starts_have_the_scale_of_their_convention(convention, scale):
    unit = start_noise([0, 1], [4, 8], 1e-9, 3, convention="vp")
    for x, noise in zip(start_noise([0, 1], [4, 8], 2.0, 3, convention=convention), unit, strict=True):
        assert_equal(x, scale * noise, 1e-6)


def test_models_start_apart_and_the_first_start_does_not_depend_on_how_many():
    one, three = start_noise([7], [5], 3.0, 1), start_noise([7], [5], 3.0, 3)
    assert torch.equal(one[0], three[0]) and len(three) == 3
    assert not torch.equal(three[0], three[1])


def test_starts_come_in_the_asked_dtype_from_the_same_draws():
    single, double = (start_noise([7], [5], 3.0, 1, dtype=d)[0] for d in (torch.float32, torch.float64))
    assert double.dtype == torch.float64 and torch.equal(single.double(), double)


def test_nothing_touches_the_global_generators():
    before = torch.get_rng_state()
    seeded_noise([0], [3])(*NO_LEVELS)
    start_noise([0], [3], 1.0, 1)
    assert torch.equal(torch.get_rng_state(), before)


def test_shared_noise_gives_late_models_what_is_current():
    counter = itertools.count()
    first, second = shared_noise(lambda sigma, sigma_next: torch.tensor([float(next(counter))]), 2)
    assert [float(first(*NO_LEVELS)), float(second(*NO_LEVELS))] == [0, 0]
    assert [float(first(*NO_LEVELS)), float(second(*NO_LEVELS)), float(first(*NO_LEVELS))] == [1, 1, 2]


@pytest.mark.parametrize("sigma", [0.0, -1.0, float("inf"), float("nan")])
def test_a_start_at_no_level_is_refused(sigma):
    with pytest.raises(ValueError, match=r"sigma is .*, expected a positive, finite level"):
        start_noise([0], [3], sigma, 1)


def test_an_unknown_convention_is_refused(unchecked):
    with pytest.raises(ValueError, match="convention is 'edm', expected 'vp' or 've'"):
        start_noise([0], [3], 1.0, 1, convention="edm")
