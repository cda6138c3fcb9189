"""Section 3.1 and Table 10: whether a model trained in VP and one trained as EDM can be aggregated.

Both denoise one latent space, each on a schedule and in coordinates of its own: z = x/sqrt(1 + sigma^2) on
DDIM's grid, and x itself on Karras' levels. The paper joins what they have at the same step index, sees it
fail, and concludes that models of different SDEs cannot be aggregated. But a denoiser in VE coordinates, x at
level sigma, does not know the schedule it was trained on: two models of one latent space can share levels,
and Algorithm 1 applies as it is. Three routes:

* "shared levels": both models on the lead's schedule, in VE. Ours.
* "step index": each on its own schedule and in its own coordinates, as in Table 10. After the first step
  the norms are sqrt(n) and 71.5 sqrt(n): what they are joined to is too long for the one and too short
  for the other.
* "step index, VP": the levels still differ, 11.7 and 71.5 after the first step, but both latents are
  scaled to VP. On exact mixtures, over the first 20 of 50 steps, this works: there it is the scale of the
  coordinates that breaks Table 10's aggregation, not the difference of the levels.

"Works" is: as often good as the worse of the two models alone, less a tenth.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Bool
from torch import Tensor

from amdm.denoisers import GaussianMixture
from amdm.geometry import orthogonal_mix, slerp_fold
from amdm.noise import start_noise
from amdm.samplers import ddim_step, join, sample_amdm, sample_ddim
from amdm.schedules import ddim_sigmas, karras_sigmas
from amdm.types import Denoiser, ExtraArgs, Latent, Sigmas
from theory_checks import networks
from theory_checks.joining import Fold
from theory_checks.record import Check, Record, Size, grid
from theory_checks.schedule import TRAINED_LEVELS
from theory_checks.statistics import frequency, sample_size

Coordinates = Literal["vp", "ve"]
Route = Literal["shared levels", "step index", "step index, VP"]
Good = Callable[[Latent], Bool[Tensor, " batch"]]
SHARE = 0.9
"""The part of the worse model's share of good samples that an aggregation which works keeps."""
EDM_SIGMAS = 0.002, 80.0
"""The least and the largest level of EDM's schedule."""


class ScheduledModel(NamedTuple):
    """A model with the schedule and coordinates of its own sampler."""

    denoiser: Denoiser
    sigmas: Sigmas
    """Its schedule, VE levels, decreasing; the last is where sampling ends."""
    coordinates: Coordinates
    extra_args: ExtraArgs | None = None
    """For the whole batch."""


@torch.no_grad()
def aggregate_by_index(
    models: Sequence[ScheduledModel],
    starts: Sequence[Latent],
    weight: float,
    length: float | Literal["auto"],
    window: int,
    fold: Fold,
) -> Latent:
    """Run Algorithm 1 with deterministic steps, each model on its own schedule and in its own coordinates.

    Own arguments:
        starts: VE, at the first level of each model.
        length: eq. (8)'s length, in every model's coordinates; as `join` takes it.
        fold: eq. (7).

    Returns:
        The lead's last latent, VE. After the window the lead continues alone.
    """
    latents = list(starts)
    for index in range(window):
        scales, means = [], []
        for model, x in zip(models, latents, strict=True):
            sigma, sigma_next = model.sigmas[index : index + 2].tolist()
            denoised = model.denoiser(x, x.new_full((len(x),), sigma), **(model.extra_args or {}))
            scales.append(1 / math.sqrt(1 + sigma_next**2) if model.coordinates == "vp" else 1.0)
            means.append(ddim_step(x, denoised, sigma, sigma_next)[0] * scales[-1])
        joined = join(means, means, weights=[weight], correction=length, fold=fold)
        latents = [x / scale for x, scale in zip(joined.corrected, scales, strict=True)]
    return alone(models[0], latents[0], window)


def alone(model: ScheduledModel, x: Latent, index: int = 0) -> Latent:
    """Run DDIM from step `index` to the end of its own schedule.

    A latent from an aggregation by step index can be off by any factor, which is what the check measures.
    """
    levels = model.sigmas[index:]
    return sample_ddim(model.denoiser, x, levels, model.extra_args, disable=True, validate=index == 0)


def check_aggregation(
    lead: ScheduledModel,
    partner: ScheduledModel,
    good: Good,
    shape: Sequence[int],
    route: Route = "shared levels",
    *,
    about: str = "",
    weight: float = 0.5,
    window: int = 20,
    samples: int = sample_size(1 - SHARE),
    seed: int = 0,
    device: str = "cpu",
    control: Literal["orthogonal mix"] | None = None,
) -> Record:
    """Check how often a model aggregated with a partner is good, against the worse of the two alone.

    Steps are deterministic; eq. (8) has its default length.

    Own arguments:
        lead: model 1, whose schedule is shared.
        partner: model 2, of the same latent space, with as many steps.
        good: returns True for the good samples of a batch.
        shape: the event shape.
        route: the way to join them; we claim that "shared levels" works, and nothing about the others.
        about: the models' description, for the record.
        control: "orthogonal mix" aggregates as the authors' code does.
    """
    models = (lead, partner)
    fold = orthogonal_mix if control == "orthogonal mix" else slerp_fold

    def start(sigmas: Sigmas, model: int) -> Latent:
        seeds = range(seed * samples, (seed + 1) * samples)
        return start_noise(seeds, shape, sigmas[0], 2, dtype=sigmas.dtype, device=device)[model]

    starts = [start(model.sigmas, i) for i, model in enumerate(models)]
    worse = min(int(good(alone(m, x)).sum()) for m, x in zip(models, starts, strict=True)) / samples
    if route == "shared levels":
        made = sample_amdm(
            [model.denoiser for model in models],
            [starts[0], start(lead.sigmas, 1)],
            lead.sigmas,
            [model.extra_args for model in models],
            disable=True,
            weights=weight,
            window=window,
            fold=fold,
            validate=control is None,  # the control is to fail
        )
    else:
        if route == "step index, VP":
            models = (lead._replace(coordinates="vp"), partner._replace(coordinates="vp"))
        made = aggregate_by_index(models, starts, weight, "auto", window, fold)
    return Record(
        statement=f"Table 10, {route}",
        claim=f"P(good | aggregated) >= {SHARE} P(good | the worse model alone)",
        assumptions="one latent space",
        setting={
            "about": about,
            "lead": lead.coordinates,
            "n": math.prod(shape),
            "steps": len(lead.sigmas) - 1,
            "weight": weight,
            "window": window,
        },
        sense="at least",
        claimed=SHARE * worse,
        **frequency(int(good(made).sum()), samples)._asdict(),
        samples=samples,
        ours=route == "shared levels",
    )


def mixtures(
    n: int, lead: Coordinates = "vp", *, seed: int = 0, device: str = "cpu"
) -> tuple[ScheduledModel, ScheduledModel, Good]:
    """Return two exact models, the lead first. Each knows 4 of 6 Gaussians; all data have variance 1.

    Good samples have a log-density above the 1% quantile of the whole mixture's own draws. The lead is the
    model on DDIM's grid in VP, or the one on Karras' levels in VE.
    """
    generator = torch.Generator(device).manual_seed(seed)
    means = torch.randn(6, n, generator=generator, dtype=torch.float64, device=device) * math.sqrt(0.9)
    data = GaussianMixture(means, means.new_full((6,), 0.1))
    typical = data.log_density(data.sample(10000, generator=generator)).quantile(0.01)
    first, second = (
        data.restrict([1.0, 1.0, 1.0, 1.0, 0.0, 0.0]),
        data.restrict([0.0, 0.0, 1.0, 1.0, 1.0, 1.0]),
    )
    vp = ScheduledModel(first, ddim_sigmas(TRAINED_LEVELS, 50).to(device), "vp")
    edm = ScheduledModel(second, karras_sigmas(50, *EDM_SIGMAS).to(device), "ve")

    def good(x: Latent) -> Bool[Tensor, " batch"]:
        return data.log_density(x) >= typical

    return (vp, edm, good) if lead == "vp" else (edm, vp, good)


def check_mixtures(
    n: int = 64,
    lead: Coordinates = "vp",
    route: Route = "shared levels",
    *,
    seed: int = 0,
    device: str = "cpu",
    **options: Any,
) -> Record:
    """Run `check_aggregation` on `mixtures`, with its `options`."""
    models = mixtures(n, lead, seed=seed, device=device)
    return check_aggregation(
        *models, (n,), route, about="exact mixtures", seed=seed, device=device, **options
    )


def check_networks(
    lead: Coordinates = "vp",
    route: Route = "shared levels",
    *,
    steps: int = 50,
    samples: int = 200,
    seed: int = 0,
    device: str = "cpu",
    **options: Any,
) -> Record:
    """Run `check_aggregation` on the trained `attribute` (VP) and `attribute_edm`, for the same scenes.

    In a good image every object has the wanted colour in its box. The scenes are the first `samples` of the
    test split, whatever the seed. Two in five of the `steps` of either schedule aggregate. `options` are
    those of `check_aggregation`.
    """
    import amdm.shapes.networks
    from amdm.shapes import denoisers, latents, scores, world

    scenes = world.sample_scenes(world.TEST[:samples])

    def trained(name: str, sigmas: Sigmas, coordinates: Coordinates) -> ScheduledModel:
        denoiser, args = denoisers.load(name, device=device), denoisers.extra_args(name, scenes)
        return ScheduledModel(denoiser, sigmas.float().to(device), coordinates, args)

    def good(x: Latent) -> Bool[Tensor, " batch"]:
        counts = scores.compare(scores.find(latents.decode(x).cpu(), scenes), scenes)["colours"]
        return counts.right == counts.wanted

    vp = trained("attribute", ddim_sigmas(TRAINED_LEVELS, steps), "vp")
    edm = trained("attribute_edm", karras_sigmas(steps, *amdm.shapes.networks.EDM_SIGMAS), "ve")
    record = check_aggregation(
        *((vp, edm) if lead == "vp" else (edm, vp)),
        good,
        latents.SHAPE,
        route,
        about="trained networks",
        window=2 * steps // 5,
        samples=samples,
        seed=seed,
        device=device,
        **options,
    )
    return replace(record, statement=f"{record.statement}, on trained networks")


@grid
def checks(size: Size) -> Iterator[Check]:
    """Yield the points of this statement."""
    dimensions = {"small": [64], "default": [64, 128], "thorough": [16, 64, 256, 1024]}[size]
    leads: tuple[Coordinates, ...] = ("vp",) if size == "small" else ("vp", "ve")
    routes: tuple[Route, ...] = ("shared levels", "step index", "step index, VP")
    for n, lead, route in product(dimensions, leads, routes):
        yield partial(check_mixtures, n, lead, route)
    if not networks.available("attribute", "attribute_edm"):
        return
    if size == "default":
        for route in routes[:2]:
            yield partial(check_networks, "vp", route, steps=20, samples=50)
    if size == "thorough":
        for lead, route in product(leads, routes):
            yield partial(check_networks, lead, route)
