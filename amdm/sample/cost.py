"""The cost of a configuration, before a network is loaded: evaluations and the memory of the weights."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch

from amdm.diffusers import sigmas_from_scheduler
from amdm.sample import files
from amdm.sample.configuration import Config, Job, Model
from amdm.sample.methods import evaluations
from amdm.sample.systems import scheduler_of, shared_by


class Network(NamedTuple):
    """A network's parameters in memory, once for all models that share it."""

    model: int
    """The number of the first model that has it."""
    part: str
    """"unet", "vae", ..., or the key of an add-on."""
    bytes: int


def networks_in_memory(config: Config) -> list[Network]:
    """Return all networks that are loaded, with the bytes of their parameters, from the files' headers."""
    found, seen = [], set()
    for k, model in enumerate(config.models):
        size = torch.empty(0, dtype=torch.float32 if model.migc_weights else getattr(torch, config.dtype))
        parts = list(_own(model))
        if shared_by(model) not in seen:
            seen.add(shared_by(model))
            parts = [*_shared(model), *parts]
        found += [Network(k, part, count * size.element_size()) for part, count in parts]
    return found


def _shared(model: Model) -> Iterator[tuple[str, int]]:
    """Yield how many numbers the networks have that models of one folder share."""
    for part, stems in files.networks_of(files.read_index(model.pipeline)).items():
        yield part, files.count_weights(model.pipeline, stems, part)
    if model.image_encoder:
        yield "image_encoder", files.count_weights(model.image_encoder, files.TRANSFORMERS)
    for key in ("ip_adapter", "migc_weights"):
        if getattr(model, key):
            yield key, files.count_numbers(getattr(model, key))


def _own(model: Model) -> Iterator[tuple[str, int]]:
    """Yield how many numbers a model's own add-ons have."""
    for key in ("controlnet", "t2i_adapter"):
        for folder in getattr(model, key):
            yield key, files.count_weights(folder, files.DIFFUSERS)
    for lora in model.lora:
        yield "lora", files.count_numbers(lora.file)


def evaluations_of(config: Config, job: Job) -> list[float]:
    """Return how many evaluations of each of its models' networks a picture takes.

    With guidance an evaluation is two passes of the network, its two halves; without it is one. AMDM's
    partners are not evaluated after the window.
    """
    guided = not float(job.calls[0].get("guidance_scale", 7.5)) <= 1
    levels = levels_of(config, config.models[job.models[0]])
    return evaluations(config.sampling, len(job.models), config.steps, guided, levels)


def levels_of(config: Config, model: Model) -> torch.Tensor | None:
    """Return the levels of a model's scheduler, None if they depend on the pipeline's call."""
    try:
        return sigmas_from_scheduler(scheduler_of(model, config.scheduler), config.steps).float()
    except (TypeError, ValueError):
        return None


def report(config: Config, jobs: Sequence[Job], left: Sequence[Job]) -> str:
    """Return the lines of `--dry-run`."""
    names = [model.name for model in config.models]
    networks = networks_in_memory(config)
    lines = []
    for k, name in enumerate(names):
        own = [f"{part} {size_of(size)}" for number, part, size in networks if number == k]
        lines.append(
            f"models[{k}], {name}: {', '.join(own) or 'nothing of its own, its networks are shared'}"
        )
    total = sum(network.bytes for network in networks)
    lines.append(
        f"memory: {total} bytes ({size_of(total)}) of parameters in {config.dtype}; activations add to it"
    )
    costs = {job.models: evaluations_of(config, job) for job in jobs}
    for models, cost in costs.items():
        title = config.title if len(models) > 1 else names[models[0]]
        each = ", ".join(f"{plain(count)} of {names[k]}" for k, count in zip(models, cost, strict=True))
        lines.append(f"a picture of {title}: {plain(sum(cost))} evaluations ({each})")
    whole = plain(sum(sum(costs[job.models]) for job in left))
    lines.append(f"{len(jobs)} pictures, {len(jobs) - len(left)} there already: {whole} evaluations in all")
    return "\n".join([*lines, f"pictures and manifests go to {config.out}"])


def plain(count: float) -> str:
    """Return a number of evaluations, which may end in a half, as text.

    >>> plain(70.0), plain(17.5)
    ('70', '17.5')
    """
    return f"{count:.1f}".removesuffix(".0")


def size_of(count: int) -> str:
    """Return a number of bytes in a unit that shows it."""
    return f"{count / 2**30:.2f} GiB" if count >= 2**27 else f"{count / 2**20:.2f} MiB"
