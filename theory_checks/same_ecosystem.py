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
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Bool
from torch import Tensor

from amdm.denoisers import GaussianMixture
from amdm.geometry import orthogonal_mix, radial_correct, slerp_fold
from amdm.noise import start_noise
from amdm.samplers import sample_amdm, sample_ddim
from amdm.samplers.amdm import auto_length
from amdm.samplers.ddim import ddim_step
from amdm.types import Denoiser, ExtraArgs, Latent, Sigmas, Weight
from theory_checks import networks
from theory_checks.record import Check, Record, Size
from theory_checks.schedule import coefficients
from theory_checks.statistics import frequency, sample_size

Route = Literal["shared levels", "step index", "step index, VP"]
Fold = Callable[[Sequence[Latent], Sequence[Weight]], Latent]
Good = Callable[[Latent], Bool[Tensor, " batch"]]
SHARE = 0.9
"""Of the worse model's share of good samples: what an aggregation that works must keep."""


class Trained(NamedTuple):
    """A model with what its own sampler uses."""

    denoiser: Denoiser
    sigmas: Sigmas
    """Its schedule, VE levels, decreasing; the last is where sampling ends."""
    coordinates: Literal["vp", "ve"]
    extra_args: ExtraArgs | None = None
    """For the whole batch."""


def ddim_sigmas(steps: int = 50) -> Sigmas:
    """DDIM's grid in diffusers, in VE, then 0."""
    return torch.tensor([*(coefficients(k, 0.0, steps).sigma for k in range(steps)), 0.0]).double()


def karras_sigmas(steps: int = 50, low: float = 0.002, high: float = 80.0, rho: float = 7.0) -> Sigmas:
    """EDM's levels, Karras et al. 2022, eq. (5), then 0."""
    ramp = torch.linspace(high ** (1 / rho), low ** (1 / rho), steps, dtype=torch.float64)
    return torch.cat([ramp**rho, ramp.new_zeros(1)])


@torch.no_grad()
def aggregate_by_index(
    models: Sequence[Trained], starts: Sequence[Latent], weight: float, length: float, window: int, fold: Fold
) -> Latent:
    """Algorithm 1 with deterministic steps, every model on its own schedule and in its own coordinates.

    Args:
        models: the lead first.
        starts: VE, at the first level of each.
        weight: the share of the partner.
        length: eq. (8)'s, in every model's coordinates.
        window: how many steps aggregate, from the first on; the lead goes on alone.
        fold: eq. (7).

    Returns:
        The lead's last latent, VE.
    """
    latents = list(starts)
    for index in range(window):
        scales, means = [], []
        for model, x in zip(models, latents, strict=True):
            sigma, sigma_next = model.sigmas[index : index + 2].tolist()
            denoised = model.denoiser(x, x.new_full((len(x),), sigma), **(model.extra_args or {}))
            scales.append(1 / math.sqrt(1 + sigma_next**2) if model.coordinates == "vp" else 1.0)
            means.append(ddim_step(x, denoised, sigma, sigma_next)[0] * scales[-1])
        merged = fold(means, [weight])
        latents = [radial_correct(merged, mean, length) / s for mean, s in zip(means, scales, strict=True)]
    return alone(models[0], latents[0], window)


def alone(model: Trained, x: Latent, index: int = 0) -> Latent:
    """DDIM from step `index` to the end of its own schedule.

    What an aggregation by step index leaves there can be off by any factor, which is the point.
    """
    levels = model.sigmas[index:]
    return sample_ddim(model.denoiser, x, levels, model.extra_args, disable=True, validate=index == 0)


def check_aggregation(
    lead: Trained,
    partner: Trained,
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
    """How often the aggregation of a model and a partner is good, against the worse of the two alone.

    Steps are deterministic; eq. (8)'s length is the paper's 0.3 at n = 16384, in proportion to sqrt(n).

    Args:
        lead: model 1, whose schedule is shared.
        partner: model 2, of the same latent space, with as many steps.
        good: which samples of a batch are.
        shape: the event shape.
        route: how they are joined; we claim that "shared levels" works, and nothing of the others.
        about: the models' description, for the record.
        weight: the share of the partner.
        window: how many steps aggregate, from the first on.
        samples: in one batch.
        seed: of the starts.
        device: of the models.
        control: "orthogonal mix" aggregates as the authors' code does.
    """
    models = (lead, partner)
    length = auto_length(math.prod(shape))
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
            correction=length,
            window=window,
            fold=fold,
            validate=control is None,  # the control is to fail
        )
    else:
        if route == "step index, VP":
            models = (lead._replace(coordinates="vp"), partner._replace(coordinates="vp"))
        made = aggregate_by_index(models, starts, weight, length, window, fold)
    measured, low, high = frequency(int(good(made).sum()), samples)
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
        measured=measured,
        low=low,
        high=high,
        samples=samples,
        ours=route == "shared levels",
    )


def mixtures(
    n: int, lead: Literal["vp", "ve"] = "vp", *, seed: int = 0, device: str = "cpu"
) -> tuple[Trained, Trained, Good]:
    """Two exact models, the lead first: of 6 Gaussians each knows 4; their data have variance 1 in all.

    Good is what 99% of the whole mixture's own draws are: of a log-density above their 1% quantile.

    Args:
        n: the dimension.
        lead: whether the lead is the one on DDIM's grid in VP, or on Karras' levels in VE.
        seed: of the mixture.
        device: of the mixture.
    """
    generator = torch.Generator(device).manual_seed(seed)
    means = torch.randn(6, n, generator=generator, dtype=torch.float64, device=device) * math.sqrt(0.9)
    data = GaussianMixture(means, means.new_full((6,), 0.1))
    typical = data.log_density(data.sample(10000, generator=generator)).quantile(0.01)
    vp = Trained(data.restrict([1.0, 1.0, 1.0, 1.0, 0.0, 0.0]), ddim_sigmas().to(device), "vp")
    edm = Trained(data.restrict([0.0, 0.0, 1.0, 1.0, 1.0, 1.0]), karras_sigmas().to(device), "ve")

    def good(x: Latent) -> Bool[Tensor, " batch"]:
        return data.log_density(x) >= typical

    return (vp, edm, good) if lead == "vp" else (edm, vp, good)


def check_mixtures(
    n: int = 64,
    lead: Literal["vp", "ve"] = "vp",
    route: Route = "shared levels",
    *,
    seed: int = 0,
    device: str = "cpu",
    **options: Any,
) -> Record:
    """`check_aggregation` of `mixtures`; `options` are its own."""
    models = mixtures(n, lead, seed=seed, device=device)
    return check_aggregation(
        *models, (n,), route, about="exact mixtures", seed=seed, device=device, **options
    )


def check_networks(
    lead: Literal["vp", "ve"] = "vp",
    route: Route = "shared levels",
    *,
    steps: int = 50,
    samples: int = 200,
    seed: int = 0,
    device: str = "cpu",
    **options: Any,
) -> Record:
    """`check_aggregation` of the trained `attribute` (VP) and `attribute_edm`, told the same scenes.

    Good is an image in which every object has the colour that was wanted in its box.

    Args:
        lead: which one leads, with its schedule.
        route: how they are joined.
        steps: of either schedule; two in five aggregate.
        samples: scenes of the test split.
        seed: of the starts; the scenes are the same.
        device: of the models.
        options: those of `check_aggregation`.
    """
    from shapes import denoisers, latents, scores, world
    from shapes.networks import EDM_SIGMAS

    scenes = world.sample_scenes(world.TEST[:samples])

    def trained(name: str, sigmas: Sigmas, coordinates: Literal["vp", "ve"]) -> Trained:
        args = denoisers.extra_args(name, scenes)
        return Trained(denoisers.load(name, device=device), sigmas.float().to(device), coordinates, args)

    def good(x: Latent) -> Bool[Tensor, " batch"]:
        counts = scores.compare(scores.find(latents.decode(x).cpu(), scenes), scenes)["colours"]
        return counts.right == counts.wanted

    vp = trained("attribute", ddim_sigmas(steps), "vp")
    edm = trained("attribute_edm", karras_sigmas(steps, *EDM_SIGMAS), "ve")
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


def checks(size: Size, seed: int = 0, device: str = "cpu") -> Iterator[Check]:
    """The grid of this statement."""
    dimensions = {"small": [64], "default": [64, 128], "thorough": [16, 64, 256, 1024]}[size]
    leads: tuple[Literal["vp", "ve"], ...] = ("vp",) if size == "small" else ("vp", "ve")
    routes: tuple[Route, ...] = ("shared levels", "step index", "step index, VP")
    for n in dimensions:
        for lead in leads:
            for route in routes:
                yield partial(check_mixtures, n, lead, route, seed=seed, device=device)
    if size == "small":
        return
    for lead in leads[:1] if size == "default" else leads:
        for route in routes[:2] if size == "default" else routes:
            options = {"steps": 20, "samples": 50} if size == "default" else {}
            on_networks = partial(check_networks, lead, route, seed=seed, device=device, **options)
            yield networks.or_skipped(on_networks, f"Table 10, {route}, on trained networks")
