"""The fields of the tab *Your models* as a configuration that `amdm sample` also takes."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from amdm.command_line.arguments import Expected
from amdm.geometry import fold_shares
from amdm.page.grounding import Interaction, instances_of, scene_of
from amdm.sample import methods, scenes

LETTERS = "ABC"
"""The models' names on the page."""
OPTIONS = {
    "amdm": ("window", "weights", "correction"),
    "projective_guidance": ("window", "weights"),
    "linear": ("weights",),
    "superdiff": (),
}
"""The methods of the tab, and which of its fields each of them takes."""


@dataclass(frozen=True, kw_only=True)
class ModelFields:
    """A model as the page's fields say it. Fields are text as it was typed; empty for what is not given."""

    folder: str = ""
    runs_code: bool = False
    """True if code that lies in the folder may run, which InteractDiffusion's pipeline needs."""
    prompt: str = ""
    """Its own prompt, in place of all models'."""
    loras: str = ""
    """A line for each: its file, and its weight if that is not 1."""
    controlnet: str = ""
    control_image: str = ""
    control_scale: float = 1.0
    ip_adapter: str = ""
    image_encoder: str = ""
    ip_image: str = ""
    ip_scale: float = 1.0
    migc_checkout: str = ""
    migc_weights: str = ""


@dataclass(frozen=True, kw_only=True)
class Fields:
    """All fields of the tab."""

    models: Sequence[ModelFields]
    prompt: str
    negative: str = ""
    scene: Mapping[str, Any] = field(default_factory=dict)
    """`instances` and `interactions`, drawn (`grounding.scene_of`)."""
    steps: int = 20
    guidance: float = 7.5
    seed: int = 0
    width: int | None = None
    """The pictures', in pixels; None for the pipeline's own."""
    height: int | None = None
    method: str = "amdm"
    """One of `amdm.sample.methods.MANY`."""
    sampler: str = "ddim"
    window: tuple[int, int] = (0, 8)
    """The numbers of its first step and of the step after its last."""
    weights: Sequence[float] = (0.5,)
    """B's, and C's, when they join."""
    correction: float | None = None
    """VP; None for the paper's."""
    device: str = ""
    """One of torch's; empty for the GPU if there is one."""
    dtype: str = ""


INTERACTIONS = 2
"""The number of interactions of boxes that the page has room for."""
POSITIONS = 1000
"""The positions of the window's ends."""


def fields_of(values: Mapping[str, Any]) -> Fields:
    """Return the tab's fields from the values of its components, by name.

    A model's have the names of `ModelFields` after its letter, "A.folder". The others are those of `Fields`,
    but for `canvas` and `subject1`, `action1`, `object1`, ... in place of the scene, `weightB` and `weightC`
    in place of `weights`; and the window's ends are two of POSITIONS.

    Raises:
        Expected: an empty number, a window without a step, or what `grounding` raises.
    """
    models = [
        model_of({each.name: values[f"{letter}.{each.name}"] for each in fields(ModelFields)})
        for letter in LETTERS
    ]
    models = [*models[:2], *(model for model in models[2:] if model.folder.strip())]
    steps = whole(values, "steps", 1)
    return Fields(
        models=models,
        prompt=values["prompt"] or "",
        negative=values["negative"] or "",
        scene=drawn(values) if any(map(part_of, models)) else {},
        steps=steps,
        guidance=number(values, "guidance"),
        seed=whole(values, "seed", 0),
        width=int(values["width"] or 0) or None,
        height=int(values["height"] or 0) or None,
        method=values["method"],
        sampler=values["sampler"],
        window=window_of(values["window"], steps),
        weights=(number(values, "weightB"), number(values, "weightC")),
        correction=correction_of(values["correction"]),
        device=(values["device"] or "").strip(),
        dtype=values["dtype"] or "",
    )


def model_of(values: Mapping[str, Any]) -> ModelFields:
    """Return a model's fields from its components' values, which are None where nothing was typed."""
    return ModelFields(**{name: value for name, value in values.items() if value is not None})


def correction_of(typed: str | None) -> float | None:
    """Return the length that was typed, None for the paper's."""
    if not (typed or "").strip():
        return None
    try:
        return float(typed or "")
    except ValueError as error:
        raise Expected(f"correction to be a number, or empty for the paper's, found {typed}") from error


def number(values: Mapping[str, Any], name: str) -> float:
    """Return a number of the page; raise `Expected` if its field is empty."""
    if values[name] is None:
        raise Expected(f"a number for {name}: the field is empty")
    return float(values[name])


def whole(values: Mapping[str, Any], name: str, least: int) -> int:
    """Return a whole number of the page, of `least` or more."""
    value = number(values, name)
    if value != int(value) or value < least:
        raise Expected(f"{name} to be a whole number of {least} or more, found {value:g}")
    return int(value)


def window_of(ends: Sequence[int], steps: int) -> tuple[int, int]:
    """Return a window's steps from its ends, two of POSITIONS.

    Raises:
        Expected: there is no step between them.
    """
    start, stop = (round(end * steps / POSITIONS) for end in ends)
    if start >= stop:
        raise Expected("a window with a step in it: move its ends apart")
    return start, stop


INTERACTED = range(1, INTERACTIONS + 1)


def drawn(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the scene on the canvas; an interaction counts if something of it was chosen."""
    rows = [[values[f"{part}{k}"] for part in ("subject", "action", "object")] for k in INTERACTED]
    said = [Interaction(one or 0, action or "", other or 0) for one, action, other in rows if one or action]
    return scene_of(values["prompt"] or "", "", instances_of(values["canvas"]), said)


def values_of(fields: Fields) -> dict[str, Any]:
    """Return the configuration that draws A(+B), and each model alone, as a dictionary for TOML.

    Raises:
        Expected: no prompt, or a field of a model that lacks another.
    """
    if not fields.prompt.strip():
        raise Expected("a prompt: say what the picture shows")
    size = {"height": fields.height, "width": fields.width}
    machine = {"device": fields.device, "dtype": fields.dtype}
    return {
        "prompt": fields.prompt.strip(),
        "seeds": [fields.seed],
        "alone": True,
        **{name: value for name, value in machine.items() if value},
        "call": {
            "num_inference_steps": fields.steps,
            "guidance_scale": fields.guidance,
            "negative_prompt": fields.negative.strip(),
            **{side: value for side, value in size.items() if value},
        },
        "sampling": sampling_of(fields),
        "models": [
            _model(letter, each, fields) for letter, each in zip(LETTERS, fields.models, strict=False)
        ],
    }


def sampling_of(fields: Fields) -> dict[str, Any]:
    """Return how the models are joined: of the fields those that the method takes here (`OPTIONS`)."""
    given = fields.weights[: len(fields.models) - 1]
    weights = list(fold_shares(given) if fields.method == "linear" else given)
    options = {
        "window": list(fields.window),
        "weights": weights,
        "correction": "auto" if fields.correction is None else fields.correction,
    }
    sampler = {"sampler": fields.sampler} if fields.method in methods.INNER else {}
    return {"method": fields.method, **sampler, **{name: options[name] for name in OPTIONS[fields.method]}}


def _model(letter: str, model: ModelFields, fields: Fields) -> dict[str, Any]:
    try:
        return {"name": letter, **dict(_entries(model)), "call": _call(model, fields)}
    except Expected as expected:
        raise Expected(f"{expected} (model {letter})") from expected


def _entries(model: ModelFields) -> Iterator[tuple[str, Any]]:
    """Yield the keys of a model in the configuration."""
    folder = _path(model.folder, "a folder with a pipeline")
    yield "pipeline", folder
    if system := system_of(model):
        yield "system", system
    if model.runs_code:
        yield "trust_remote_code", True
    if model.loras.strip():
        yield "lora", list(loras_of(model.loras))
    if model.controlnet.strip():
        yield "controlnet", _path(model.controlnet, "a ControlNet")
    if model.ip_adapter.strip():
        yield "ip_adapter", _path(model.ip_adapter, "an IP-Adapter's file")
        yield "image_encoder", _path(model.image_encoder, "the folder of the IP-Adapter's image encoder")
        yield "ip_adapter_scale", model.ip_scale
    if model.migc_checkout.strip() or model.migc_weights.strip():
        yield "migc_checkout", _path(model.migc_checkout, "the folder of MIGC's code")
        yield "migc_weights", _path(model.migc_weights, "MIGC's weights")


def _path(typed: str, what: str) -> str:
    if not typed.strip():
        raise Expected(f"{what}: its path is empty")
    return str(Path(typed.strip()).expanduser().absolute())


def loras_of(lines: str) -> Iterator[dict[str, Any]]:
    """Yield a LoRA for each line: its file and its weight, the last word if that is a number, else 1."""
    for line in filter(None, map(str.strip, lines.splitlines())):
        file, _, last = line.rpartition(" ")
        try:
            weight = float(last) if file else 1.0
        except ValueError:
            file, weight = line, 1.0
        yield {"file": _path(file or line, "a LoRA's file"), "weight": weight}


def _call(model: ModelFields, fields: Fields) -> dict[str, Any]:
    """Return the arguments of one model's call: its images, and the boxes in its pipeline's coordinates."""
    prompt = model.prompt.strip() or fields.prompt.strip()
    call: dict[str, Any] = {"prompt": prompt} if model.prompt.strip() else {}
    if model.controlnet.strip():
        call["image"] = _path(model.control_image, "the ControlNet's image")
        call["controlnet_conditioning_scale"] = model.control_scale
    if model.ip_adapter.strip():
        call["ip_adapter_image"] = _path(model.ip_image, "the IP-Adapter's image")
    return call | told_of_boxes(model, prompt, fields.scene, fields.steps)


def told_of_boxes(model: ModelFields, prompt: str, scene: Mapping[str, Any], steps: int) -> dict[str, Any]:
    """Return the boxes as arguments of the model's call; nothing for a pipeline that takes none.

    Raises:
        Expected: it takes boxes or interactions, and none are drawn.
    """
    system, part = system_of(model), part_of(model)
    if not part:
        return {}
    if not scene.get(part):
        raise Expected(NEEDED[part])
    if system:
        return scenes.arguments(system, prompt, scene, steps)
    return {
        "gligen_phrases": [instance["phrase"] for instance in scene["instances"]],
        "gligen_boxes": [instance["box"] for instance in scene["instances"]],
    }


NEEDED = {
    "instances": "a box on the canvas, with a phrase: its pipeline is told what is where",
    "interactions": "an interaction of two boxes: its pipeline is told who does what with whom",
}


def system_of(model: ModelFields) -> str | None:
    """Return the paper's system that a model is, by its pipeline's class and its files; None for others."""
    if model.migc_checkout.strip() or model.migc_weights.strip():
        return "MIGC"
    kind = pipeline_class(model.folder)
    if "InteractDiffusion" in kind:
        return "InteractDiffusion-XL" if "XL" in kind else "InteractDiffusion"
    return None


def part_of(model: ModelFields) -> str:
    """Return the part of the scene that a model is told: "instances", "interactions", or nothing."""
    if system := system_of(model):
        return scenes.SYSTEMS[system].part
    return "instances" if "GLIGEN" in pipeline_class(model.folder) else ""


def pipeline_class(folder: str) -> str:
    """Return the class that a pipeline's folder names, empty if it names none: checks come later."""
    try:
        index = json.loads((Path(folder.strip()).expanduser() / "model_index.json").read_text())
        kind = index["_class_name"]
        return str(kind[-1] if isinstance(kind, list) else kind)
    except (OSError, ValueError, LookupError, TypeError):
        return ""
