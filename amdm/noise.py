"""Starts and noise samplers that depend on seeds alone."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from amdm.checks import as_device, as_level, check_callable, check_choice, check_shape, check_whole, is_list
from amdm.types import NoiseSampler

# The streams of one seed: the starts of the models, and the steps.
_START, _STEPS = 0, 1

VAST = 1e150
"""A level whose square overflows soon; 1 is nothing beside it."""


def seeded_noise(seeds: Sequence[int], shape: Sequence[int], *, stream: int = 0) -> NoiseSampler:
    """Return a noise sampler with one generator per sample: each sample depends on its own seed alone.

    The draws are made on the CPU in float32, and samplers move them to their latent. So they are the same on
    every device and in every dtype, whatever the other samples of the batch and their order.

    Args:
        seeds: one per sample of the batch, 0 or more.
        shape: the event shape, that of one sample.
        stream: each seed has independent streams 0, 1, 2, ...; give every model its own:
            `[seeded_noise(seeds, shape, stream=i) for i in range(N)]`. All are independent of
            `start_noise`.

    Returns:
        `noise_sampler(sigma, sigma_next) -> (len(seeds), *shape)`. It has a state: each call
        continues the stream.

    >>> one, both = seeded_noise([7], [3]), seeded_noise([5, 7], [3])
    >>> bool((one(0.0, 0.0)[0] == both(0.0, 0.0)[1]).all())
    True
    """
    check_whole(stream, "stream", "a whole number of 0 or more", lambda stream: stream >= 0)
    check_shape(shape)
    generators = _generators(seeds, _STEPS, stream)
    return lambda sigma, sigma_next: _draw(generators, shape)


def shared_noise(noise_sampler: NoiseSampler, num_models: int) -> list[NoiseSampler]:
    """Return N noise samplers that give N models the same draw at every step.

    Each returned sampler is for one model and is called once per step. `noise_sampler` is called once per
    step for all of them.
    """
    check_callable(noise_sampler, "noise_sampler", "noise_sampler(sigma, sigma_next)")
    check_whole(num_models, "num_models", "a whole number of 1 or more", lambda count: count >= 1)
    latest: list[Tensor] = []
    drawn = 0

    def of_one_model() -> NoiseSampler:
        calls = 0

        def sample(sigma: Tensor, sigma_next: Tensor, /) -> Tensor:
            nonlocal calls, drawn
            calls += 1
            if drawn < calls:
                drawn = calls
                latest[:] = [noise_sampler(sigma, sigma_next)]
            return latest[0]

        return sample

    return [of_one_model() for _ in range(num_models)]


def start_noise(
    seeds: Sequence[int],
    shape: Sequence[int],
    sigma: float | Tensor,
    num_models: int,
    *,
    convention: Literal["vp", "ve"] = "vp",
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> list[Tensor]:
    """Return independent starting latents for every model, in VE coordinates.

    Each sample depends on its own seed alone.

    There are two conventions for the start at `sigma`. "vp" is the paper's and diffusers': z ~ N(0, I), so
    x = sqrt(1 + sigma^2) noise. "ve" is k-diffusion's: x = sigma noise. They differ by 0.23% at SD's sigma
    of 14.6.

    The draws are numpy's: seed 0 here is not the seed 0 of `torch.Generator().manual_seed(0)`, which
    diffusers' pipelines take. To compare a result with what a pipeline draws itself, take the pipeline's
    own start: `from_pipeline(pipe, generator=..., ...).x`.

    Args:
        seeds: a list, one per sample of the batch, 0 or more.
        shape: the event shape, that of one sample.
        sigma: the first level of the schedule.
        num_models: N.
        convention: "vp" or "ve".
        dtype: dtype of the result; the draws are float32.
        device: device of the result; the draws are made on the CPU.

    Returns:
        N latents `(len(seeds), *shape)`. For models that share a start take the first one.

    Raises:
        TypeError: seeds or shape is not a list of whole numbers, or another argument is of the wrong kind.
        ValueError: an unknown convention, a sigma that is not positive and finite, no seeds, or a latent that
            `dtype` cannot hold.
    """
    check_choice(convention, "convention", ("vp", "ve"))
    level = as_level(sigma, "sigma", "a positive, finite level", zero=False)
    check_shape(shape)
    check_whole(num_models, "num_models", "a whole number of 1 or more", lambda count: count >= 1)
    where = as_device(device)
    if not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise TypeError(f"dtype is {dtype!r}, expected a floating-point torch.dtype")
    scale = (1 + level**2) ** 0.5 if convention == "vp" and level < VAST else level
    streams = [_generators(seeds, _START, model) for model in range(num_models)]
    starts = [(scale * _draw(stream, shape)).to(dtype) for stream in streams]
    if not all(bool(start.isfinite().all()) for start in starts):
        largest = torch.finfo(dtype).max
        raise ValueError(
            f"sigma is {level:.6g}, at which a latent is beyond {dtype}'s largest number {largest:.6g}: "
            "expected a lower level, or another dtype"
        )
    return [start.to(where) for start in starts]


def _generators(seeds: Sequence[int], purpose: int, stream: int) -> list[np.random.Generator]:
    if not is_list(seeds):
        raise TypeError(f"seeds is {seeds!r}, expected a list of whole numbers, one per sample: [{seeds}]")
    for i, seed in enumerate(seeds):
        check_whole(seed, f"seeds[{i}]", "a whole number of 0 or more", lambda _: True)
    if len(seeds) == 0 or min(seeds) < 0:
        raise ValueError(f"seeds is {list(seeds)}, expected one or more, each 0 or more")
    sequences = [np.random.SeedSequence(int(seed), spawn_key=(purpose, stream)) for seed in seeds]
    return [np.random.default_rng(sequence) for sequence in sequences]


def _draw(generators: Sequence[np.random.Generator], shape: Sequence[int]) -> Tensor:
    draws = [g.standard_normal(tuple(shape), dtype=np.float32) for g in generators]
    return torch.from_numpy(np.stack(draws))
