"""Draw the pictures of a configuration: all of them, or the share of one process."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from amdm import check_same_ecosystem
from amdm.diffusers import Prepared, from_pipeline
from amdm.sample import files, systems
from amdm.sample.configuration import IMAGES, Config, Job
from amdm.sample.manifest import is_drawn, write_manifest
from amdm.sample.memory import memory_of
from amdm.sample.methods import latent_of, starts_of, steps_of


def draw(
    config: Config,
    jobs: Sequence[Job],
    *,
    again: bool = False,
    quiet: bool = True,
    say: Callable[[str], object] | None = None,
) -> list[Path]:
    """Draw pictures, and return the paths of those that were drawn: none that was there already.

    Pipelines are loaded once, and only those that the jobs need. To share the work among processes, give each
    a part: `draw(config, jobs(config)[rank::world])`, each with a configuration whose `device` is its own.

    Args:
        config: what `read_config` returns.
        jobs: some of `jobs(config)`.
        again: draw also what is there.
        quiet: show no progress bars.
        say: called with a line about memory, for the first picture; it costs an evaluation of each network.

    Raises:
        Unusable: a picture is there with a manifest that says something else; files lack a tensor.
    """
    left = [job for job in jobs if again or not is_drawn(config, job)]
    if not left:
        return []
    pipes = systems.load_all(config, {k for job in left for k in job.models})
    bar = tqdm(left, "pictures", disable=quiet or len(left) == 1)
    for job in bar:
        try:
            prepared = [prepare(config, pipes[k], k, job) for k in job.models]
            if say is not None:
                found = memory_of([pipes[k] for k in job.models], prepared)
                say(f"{len(prepared)} model{'s' * (len(prepared) > 1)}: {found}")
                say = None
            draw_one(config, job, prepared, quiet=quiet)
        except Exception as error:
            error.add_note(f"in drawing {job.path}")
            raise
    return [job.path for job in left]


def prepare(config: Config, pipe: Any, k: int, job: Job) -> Prepared:
    """Return model k, prepared for the call that the job says. No random generator is advanced."""
    systems.switch(pipe, config, k)
    call = dict(job.calls[job.models.index(k)])
    call |= {name: _pictures(call[name]) for name in IMAGES if name in call}
    return from_pipeline(pipe, **call, generator=torch.Generator().manual_seed(job.seed))


def _pictures(value: Any) -> Any:
    """Return an argument with its paths replaced by images."""
    return [_pictures(each) for each in value] if isinstance(value, list) else files.read_picture(Path(value))


def draw_one(config: Config, job: Job, prepared: Sequence[Prepared], *, quiet: bool = True) -> None:
    """Draw a picture with prepared models, and write it and its manifest."""
    models, sigmas = [one.model for one in prepared], prepared[0].sigmas
    backgrounds = []
    if len(models) > 1 and config.sampling.method == "projective_guidance":
        partners = prepared[1:2] if config.sampling.background == "shared" else prepared[1:]
        backgrounds = [one.without_control() for one in partners]
    check_same_ecosystem([*models, *backgrounds], sigmas)
    starts = starts_of(config.sampling, job.seed, prepared[0].x.shape[1:], sigmas[0], len(config.models))
    own = [starts[k].to(prepared[0].x) for k in job.models]
    stream = job.models[0]
    steps = steps_of(config.sampling, models, own, sigmas, job.seed, backgrounds, stream)
    names, met = [config.models[k].name for k in job.models[1:]], []
    for step in tqdm(steps, job.name, total=len(sigmas) - 1, disable=quiet, leave=False):
        if step.aggregation is not None:
            met.append((step.index, step.sigma, step.aggregation.angle, step.aggregation.distance))
    job.path.parent.mkdir(parents=True, exist_ok=True)
    part = job.path.with_suffix(".png.part")
    prepared[0].decode(latent_of(step, job.seed)).images[0].save(part, format="PNG")
    part.replace(job.path)
    write_manifest(config, job, list(_rows(names, met)))


def _rows(partners: Sequence[str], met: Sequence[Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the angle and the distance from the lead's latent to each partner's at AMDM's steps, VP."""
    for i, sigma, angles, distances in met:
        for partner, angle, distance in zip(partners, angles, distances, strict=True):
            where = {"step": i, "sigma": sigma, "partner": partner}
            yield {**where, "angle": angle.item(), "distance": distance.item()}
