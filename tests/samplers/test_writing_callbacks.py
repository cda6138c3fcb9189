"""Callbacks that write into x and denoised: what k-diffusion's functions make of them."""

from itertools import pairwise

import pytest
import torch
from samplers.models import Recorder, gaussian, karras, mixture
from strategies import randn
from tolerances import assert_equal

from amdm import sample_amdm, sample_ddim, sample_dpmpp_2m, sample_dpmpp_2m_sde, sample_fkc, sample_heun
from amdm.samplers import ddim, dpmpp_2m, heun
from amdm.writes import Seen, writes_to

SIGMAS = karras(8)
KNOWN, NOISE = randn(5, 3, 6) + 4, randn(6, 3, 6)
MASK = torch.tensor([1.0, 1.0, 0.3, 0.0, 0.0, 0.0], dtype=torch.float64)


def start():
    return 20 * randn(0, 3, 6)


def noises():
    draws = iter(randn(7, 8, 3, 6))
    return lambda sigma, sigma_next: next(draws)


def inpaint(info):
    info["x"].copy_(MASK * (KNOWN + info["sigma"] * NOISE) + (1 - MASK) * info["x"])


def threshold(info):
    info["denoised"].clamp_(-1.5, 1.5)


def both(info):
    if info["i"] % 2:
        inpaint(info)
        threshold(info)


def around_torch(info):
    info["x"].numpy()[:, 0] = 3.0
    info["denoised"].data.mul_(0.9)


FUNCTIONS = [
    ("sample_euler", sample_ddim, {}),
    ("sample_euler_ancestral", sample_ddim, {"eta": 0.7}),
    ("sample_heun", sample_heun, {}),
    ("sample_dpmpp_2m", sample_dpmpp_2m, {}),
    ("sample_dpmpp_2m_sde", sample_dpmpp_2m_sde, {"eta": 0.6}),
]
INNER = [("sample_euler", ddim, 0.0), ("sample_heun", heun, 0.0), ("sample_dpmpp_2m", dpmpp_2m, 0.0)]
INNER += [("sample_euler_ancestral", ddim, 0.7)]


@pytest.mark.parametrize("last", [0.0, 0.01])
@pytest.mark.parametrize("callback", [inpaint, threshold, both, around_torch])
@pytest.mark.parametrize(("theirs", "ours", "options"), FUNCTIONS)
def test_it_is_k_diffusions_function(k_diffusion, theirs, ours, options, callback, last):
    sigmas = torch.cat([SIGMAS[:-1], SIGMAS.new_tensor([last])])
    noise = [{"noise_sampler": noises()} if options else {} for _ in range(2)]
    reference = getattr(k_diffusion.sampling, theirs)
    expected = reference(mixture(), start(), sigmas, None, callback, True, **options, **noise[0])
    actual = ours(mixture(), start(), sigmas, None, callback, True, **options, **noise[1])
    assert_equal(actual, expected, 1e-11)


@pytest.mark.parametrize("partners", [0, 1])
@pytest.mark.parametrize(("theirs", "sampler", "eta"), INNER)
def test_inside_amdm_it_is_too(k_diffusion, theirs, sampler, eta, partners):
    """With a partner that is the same model, from the same start, nothing changes."""
    noise = [{"noise_sampler": noises()} if eta else {} for _ in range(2)]
    more = {"eta": eta} if eta else {}
    expected = getattr(k_diffusion.sampling, theirs)(
        mixture(), start(), SIGMAS, None, both, True, **more, **noise[0]
    )
    if eta and partners:
        shared = iter(randn(7, 8, 3, 6).repeat_interleave(2, 0))
        noise[1] = {"noise_sampler": lambda sigma, sigma_next: next(shared)}
    actual = sample_amdm(
        [mixture()] * (1 + partners),
        start(),
        SIGMAS,
        None,
        both,
        True,
        window=1.0 if partners else 0,
        correction=0.0,
        sampler=sampler,
        eta=eta,
        **noise[1],
    )
    assert_equal(actual, expected, 1e-11)


def test_noise_is_drawn_once_and_models_are_called_once():
    model = Recorder(mixture())
    torch.manual_seed(3)
    before = sample_ddim(mixture(), start(), SIGMAS, eta=1.0, disable=True)
    torch.manual_seed(3)
    nothing = lambda info: info["x"].add_(1e-9)
    after = sample_ddim(model, start(), SIGMAS, eta=1.0, disable=True, callback=nothing)
    assert_equal(after, before, 1e-8)
    assert len(model.sigmas) == 8


def test_the_partners_get_what_was_written():
    """From independent starts, the partner is as near to the known coordinates as model 1 at every step."""
    seen = []
    other = gaussian([-3.0] * 6, 0.5)

    def spied(x, sigma):
        seen.append((x - KNOWN - sigma[:, None] * NOISE)[:, :2])
        return other(x, sigma)

    hard = MASK.floor()

    def write(info):
        info["x"].copy_(hard * (KNOWN + info["sigma"] * NOISE) + (1 - hard) * info["x"])

    x = [start(), 20 * randn(1, 3, 6)]
    lead = []

    def callback(info):
        lead.append((info["x"] - KNOWN - info["sigma"] * NOISE)[:, :2])
        write(info)

    options = {"sampler": dpmpp_2m, "window": 1.0, "correction": 0.0, "disable": True}
    sample_amdm([mixture(), spied], x, SIGMAS, callback=callback, **options)
    assert all((a - b).abs().max() < 1e-9 for a, b in zip(lead[1:], seen[1:], strict=True))
    assert (lead[0] - seen[0]).abs().max() > 1  # their starts are their own, and nothing is written yet


def test_the_stored_step_is_the_one_that_was_taken():
    seen = []
    result = sample_ddim(
        mixture(),
        start(),
        SIGMAS,
        disable=True,
        callback=lambda info: (inpaint(info), seen.append(info)),
    )
    for info, after in pairwise(seen):
        assert info["step"].x_next is after["x"]
    assert seen[-1]["step"].x_next is result


@pytest.mark.parametrize("callback", [inpaint, threshold])
def test_inference_mode_changes_nothing(callback):
    expected = sample_dpmpp_2m(mixture(), start(), SIGMAS, disable=True, callback=callback)
    with torch.inference_mode():
        actual = sample_dpmpp_2m(mixture(), start(), SIGMAS, disable=True, callback=callback)
    assert torch.equal(actual, expected)


@pytest.mark.parametrize("callback", [inpaint, threshold, both])
def test_where_numbers_are_not_compared_torchs_count_of_writes_tells(callback, monkeypatch):
    """As on devices for which the host would have to wait."""
    expected = sample_dpmpp_2m(mixture(), start(), SIGMAS, disable=True, callback=callback)
    counted = classmethod(lambda cls, tensor: cls(tensor, tensor.clone(), writes_to(tensor)))
    monkeypatch.setattr(Seen, "of", counted)
    assert torch.equal(sample_dpmpp_2m(mixture(), start(), SIGMAS, disable=True, callback=callback), expected)


def test_nan_that_a_callback_writes_is_its_own():
    def write(info):
        if info["i"] == 3:
            info["x"][1, 2] = torch.nan

    message = r"callback wrote into x NaN or infinity for sample 1, first at step 3"
    with pytest.raises(FloatingPointError, match=message):
        sample_ddim(mixture(), start(), SIGMAS, disable=True, callback=write)


def test_what_is_not_stepped_from_is_refused():
    with pytest.raises(ValueError, match="callback wrote into x or denoised at step 0"):
        sample_fkc([mixture(), mixture(1)], start(), SIGMAS, disable=True, callback=inpaint)

    def own(model, x, sigmas, extra_args=None, *, eta, noise_sampler):
        yield from ddim(model, x, sigmas, extra_args, eta=eta, noise_sampler=noise_sampler)

    with pytest.raises(ValueError, match="which the generator own does not step from"):
        sample_amdm([mixture()], start(), SIGMAS, disable=True, callback=inpaint, sampler=own)
    silent = sample_amdm([mixture()], start(), SIGMAS, disable=True, callback=lambda info: None, sampler=own)
    assert torch.equal(silent, sample_ddim(mixture(), start(), SIGMAS, disable=True))
