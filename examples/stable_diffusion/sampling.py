"""What the three scripts share: arguments, scene, A alone and A(+B), pictures and their table."""

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
from amdm.denoisers.diffusers import Prepared, from_pipeline
from examples.stable_diffusion import systems
from examples.stable_diffusion.memory import memory_of

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Settings:
    """The paper's, App. G.2: one weight for each model after the first, one correction for all (VP)."""

    steps: int
    aggregated: int
    weights: tuple[float, ...]
    correction: float = 0.3
    guidance: float = 7.5
    ip_scale: float = 0.8


def main(text: str, names: Sequence[str], settings: Settings, argv: Sequence[str] | None = None) -> None:
    """A script: check everything, load the systems, the enriched one first, and sample."""
    arguments = _parser(text, names, settings).parse_args(argv)
    systems.check_paths(arguments, names)
    scene = read_scene(arguments.scene)
    dtype = arguments.dtype or ("float16" if arguments.device.startswith("cuda") else "float32")
    pipes, prepared = [], []
    for name in names:
        system = systems.SYSTEMS[name]
        pipe = system.load(arguments, torch_dtype=getattr(torch, dtype)).to(arguments.device)
        pipe.set_progress_bar_config(disable=True)
        told = system.told(scene, arguments, settings.steps)
        told |= {"num_inference_steps": settings.steps, "guidance_scale": settings.guidance}
        pipes.append(pipe)
        prepared.append(from_pipeline(pipe, **told))
    check_same_ecosystem([one.model for one in prepared], prepared[0].sigmas)
    memory = memory_of(pipes, prepared)
    print(f"{len(names)} models: {memory}")
    sample(arguments, names, settings, prepared)
    said = {**asdict(settings), "seed": arguments.seed, "models": names, "memory": memory._asdict()}
    (arguments.out / "settings.json").write_text(json.dumps(said, indent=2) + "\n")


def _parser(text: str, names: Sequence[str], settings: Settings) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=text)
    for name in names:
        for option, (_, what) in systems.SYSTEMS[name].paths.items():
            made.add_argument(f"--{option.replace('_', '-')}", type=Path, required=True, help=what)
    made.add_argument("--scene", type=Path, default=HERE / "scene.json", help="JSON: what is wanted, where")
    if "IP-Adapter" in names:
        made.add_argument("--ip-scale", type=float, default=settings.ip_scale, help="IP-Adapter's strength")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    kept = "; MIGC is always in float32, as its code needs" if "MIGC" in names else ""
    dtypes, default = ["float16", "bfloat16", "float32"], "default: float16 on a GPU, else float32"
    made.add_argument("--dtype", choices=dtypes, help=default + kept)
    made.add_argument("--out", type=Path, default=Path("out/stable_diffusion"))
    made.add_argument("--quiet", action="store_true")
    return made


def read_scene(path: Path) -> dict[str, Any]:
    """The scene; raises `Unusable` unless it is JSON with what the systems are told."""
    try:
        scene: dict[str, Any] = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise systems.Unusable([f"{path} is not JSON: {error}"]) from error
    systems.check_keys(str(path), scene, ["caption", "interactions", "instances"])
    for i, interaction in enumerate(scene["interactions"]):
        keys = ["subject", "action", "object", "subject_box", "object_box"]
        systems.check_keys(f"{path}, interactions[{i}]", interaction, keys)
    for i, instance in enumerate(scene["instances"]):
        systems.check_keys(f"{path}, instances[{i}]", instance, ["phrase", "box"])
    return scene


def sample(
    arguments: argparse.Namespace, names: Sequence[str], settings: Settings, prepared: Sequence[Prepared]
) -> None:
    """Draw A alone and A(+B) from the same starts, and leave both with a table of how they met."""
    models, sigmas = [one.model for one in prepared], prepared[0].sigmas
    shape = prepared[0].x.shape[1:]
    starts = start_noise([arguments.seed], shape, sigmas[0], len(models), device=arguments.device)
    arguments.out.mkdir(parents=True, exist_ok=True)
    together = f"{names[0]}(+{', '.join(names[1:])})"
    rows: list[dict[str, Any]] = []
    for name, aggregated in {names[0]: 0, together: settings.aggregated}.items():
        joining: dict[str, Any] = {"weights": list(settings.weights), "correction": settings.correction}
        steps = amdm(models, starts, sigmas, window=aggregated, check=True, **joining)
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
    """How the lead's latent met the partners' at a step, VP, as in the paper's Table 5."""
    where = {"image": name, "step": step.index, "sigma": f"{step.sigma:.6g}"}
    joined = step.aggregation
    if joined is None:
        return [where]
    return [
        {**where, "partner": partner, "angle": f"{angle.item():.4f}", "distance": f"{distance.item():.4f}"}
        for partner, angle, distance in zip(partners, joined.angle, joined.distance, strict=True)
    ]
