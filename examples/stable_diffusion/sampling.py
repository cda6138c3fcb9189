"""The parts that the scripts share: arguments, scene, A alone and A(+B), pictures and their table."""

import argparse
import csv
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from amdm import Step, amdm, check_same_ecosystem, start_noise
from amdm.diffusers import Prepared, from_pipeline
from examples.stable_diffusion import files, systems
from examples.stable_diffusion.memory import memory_of

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Settings:
    """The paper's settings, App. G.2: a weight for each model after the first, one VP correction for all."""

    steps: int
    aggregated: int
    weights: tuple[float, ...]
    correction: float = 0.3
    guidance: float = 7.5
    ip_scale: float | None = None
    """None where there is no IP-Adapter."""


def main(text: str, names: Sequence[str], settings: Settings, argv: Sequence[str] | None = None) -> None:
    """Run a script: check everything, load the systems, the enriched one first, and sample."""
    arguments = _parser(text, names, settings).parse_args(argv)
    arguments.dtype = arguments.dtype or ("float16" if arguments.device.startswith("cuda") else "float32")
    systems.check_arguments(arguments, names)
    scene = files.read_scene(arguments.scene)
    pipes, prepared = [], []
    for name in names:
        pipe = systems.load(name, arguments, torch_dtype=getattr(torch, arguments.dtype))
        pipe.to(arguments.device).set_progress_bar_config(disable=True)
        call = systems.SYSTEMS[name].call(scene, arguments, settings.steps)
        call |= {"num_inference_steps": settings.steps, "guidance_scale": settings.guidance}
        pipes.append(pipe)
        prepared.append(from_pipeline(pipe, **call))
    check_same_ecosystem([one.model for one in prepared], prepared[0].sigmas)
    memory = memory_of(pipes, prepared)
    print(f"{len(names)} models: {memory}")
    sample(arguments, names, settings, prepared)
    used = {"models": names, **asdict(settings), **vars(arguments), "memory": memory._asdict()}
    (arguments.out / "settings.json").write_text(json.dumps(used, indent=2, default=str) + "\n")


def _parser(text: str, names: Sequence[str], settings: Settings) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=text.splitlines()[0])
    for name in names:
        for option in systems.SYSTEMS[name].arguments:
            _, kind, what = systems.ARGUMENTS[option]
            made.add_argument(systems.flag(option), type=Path, required=True, metavar=kind, help=what)
    scene, wanted = HERE / "scene.json", "JSON: what is wanted where; default: %(default)s"
    made.add_argument("--scene", type=Path, default=scene, metavar="FILE", help=wanted)
    if settings.ip_scale is not None:
        strength = "IP-Adapter's strength; default: the paper's %(default)s"
        made.add_argument("--ip-scale", type=float, default=settings.ip_scale, help=strength)
    made.add_argument("--seed", type=int, default=0, help="of the starts' noise; default: %(default)s")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    made.add_argument("--device", default=device, help="default: cuda if there is one, else cpu")
    kept = "; MIGC is always in float32, as its code needs" if "MIGC" in names else ""
    dtypes, default = ["float16", "bfloat16", "float32"], "default: float16 on a GPU, else float32"
    made.add_argument("--dtype", choices=dtypes, help=default + kept)
    folder = "folder for pictures and their table; default: %(default)s"
    made.add_argument("--out", type=Path, default=Path("out/stable_diffusion"), metavar="FOLDER", help=folder)
    made.add_argument("--quiet", action="store_true", help="no progress bars")
    return made


def sample(
    arguments: argparse.Namespace, names: Sequence[str], settings: Settings, prepared: Sequence[Prepared]
) -> None:
    """Draw A alone and A(+B) from the same starts; write both, and a table of the joining."""
    models, sigmas = [one.model for one in prepared], prepared[0].sigmas
    shape = prepared[0].x.shape[1:]
    starts = start_noise([arguments.seed], shape, sigmas[0], len(models), device=arguments.device)
    together = f"{names[0]}(+{', '.join(names[1:])})"
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for name, aggregated in {names[0]: 0, together: settings.aggregated}.items():
        joining: dict[str, Any] = {"weights": list(settings.weights), "correction": settings.correction}
        steps = amdm(models, starts, sigmas, window=aggregated, debug_nans=True, **joining)
        x = starts[0]
        for step in tqdm(steps, name, total=settings.steps, disable=arguments.quiet):
            x = step.x_next
            rows += _rows(name, names[1:], step)
        prepared[0].decode(x).images[0].save(arguments.out / f"{name}.png")
    with (arguments.out / "steps.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["image", "step", "sigma", "partner", "angle", "distance"])
        writer.writeheader()
        writer.writerows(rows)
    print(f"{names[0]}.png, {together}.png, steps.csv and settings.json are in {arguments.out}")


def _rows(name: str, partners: Sequence[str], step: Step) -> list[dict[str, Any]]:
    """Return the angles and distances from the lead's latent to the partners' at a step, VP (Table 5)."""
    where = {"image": name, "step": step.index, "sigma": f"{step.sigma:.6g}"}
    joined = step.aggregation
    if joined is None:
        return [where]
    return [
        {**where, "partner": partner, "angle": f"{angle.item():.4f}", "distance": f"{distance.item():.4f}"}
        for partner, angle, distance in zip(partners, joined.angle, joined.distance, strict=True)
    ]
