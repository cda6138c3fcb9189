"""Scenes: who does what with whom and what is where, as the arguments of the paper's systems."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

Scene = Mapping[str, Any]
"""`interactions`: a list of {subject, action, object, subject_box, object_box}; `instances`: a list of
{phrase, box}. Boxes are [x0, y0, x1, y1] in [0, 1]."""


class System(NamedTuple):
    """A system of the paper: what it is made of, and what its pipeline is told of a scene."""

    licences: Sequence[str]
    """The parts whose licences are announced."""
    keys: Sequence[str]
    """The keys of a `Model` that it needs, beside `pipeline`."""
    call: Callable[[str, Scene, int], dict[str, Any]]
    """`call(prompt, scene, steps)` returns arguments of its call."""
    part: str = ""
    """The part of the scene that this needs."""
    told: str = ""
    """An argument that says the same, without a scene."""
    xl: bool = False


def interactions(prompt: str, scene: Scene, steps: int) -> dict[str, Any]:
    """Return InteractDiffusion's arguments: who does what with whom, where."""
    call = {}
    for part in ("subject_phrases", "object_phrases", "action_phrases", "subject_boxes", "object_boxes"):
        key = part.removesuffix("es") if part.endswith("boxes") else part.removesuffix("_phrases")
        call[f"interactdiffusion_{part}"] = [interaction[key] for interaction in scene["interactions"]]
    return {**call, "interactdiffusion_scheduled_sampling_beta": 1.0}


def instances(prompt: str, scene: Scene, steps: int) -> dict[str, Any]:
    """Return MIGC's arguments: the prompt, each instance's phrase and box. MIGC acts in the first half."""
    phrases = [instance["phrase"] for instance in scene["instances"]]
    boxes = [[float(edge) for edge in instance["box"]] for instance in scene["instances"]]
    return {"prompt": [[prompt, *phrases]], "bboxes": [boxes], "MIGCsteps": steps // 2}


def nothing(prompt: str, scene: Scene, steps: int) -> dict[str, Any]:
    """Return no arguments: a style is an image, which the file names."""
    return {}


ADAPTER = ("ip_adapter", "image_encoder")
INTERACTS = ("interactions", "interactdiffusion_subject_phrases")
SYSTEMS = {
    "InteractDiffusion": System(
        ["Stable Diffusion", "InteractDiffusion"], ["trust_remote_code"], interactions, *INTERACTS
    ),
    "InteractDiffusion-XL": System(
        ["SDXL", "InteractDiffusion-XL"], ["trust_remote_code"], interactions, *INTERACTS, xl=True
    ),
    "MIGC": System(
        ["Stable Diffusion", "MIGC"], ["migc_checkout", "migc_weights"], instances, "instances", "bboxes"
    ),
    "IP-Adapter": System(["Stable Diffusion", "IP-Adapter"], ADAPTER, nothing, told="ip_adapter_image"),
    "IP-Adapter-XL": System(["SDXL", "IP-Adapter"], ADAPTER, nothing, told="ip_adapter_image", xl=True),
}


def arguments(system: str | None, prompt: str, scene: Scene, steps: int) -> dict[str, Any]:
    """Return what a system's pipeline is told of a scene; nothing if it is told nothing of it."""
    if system is None or not scene.get(SYSTEMS[system].part):
        return {}
    return SYSTEMS[system].call(prompt, scene, steps)


def lacking(model: Any) -> Iterator[str]:
    """Yield a line for each key that a model's system needs and that is not given."""
    for key in SYSTEMS[model.system].keys if model.system else ():
        if key == "trust_remote_code" and not model.trust_remote_code:
            yield f"{key} is False, expected true: {model.system} is code in its folder, which then runs"
        elif not getattr(model, key):
            yield f"{key} is missing, expected a path, for the system {model.system}"


def wrong(scene: Scene) -> Iterator[str]:
    """Yield a line for everything that is wrong with a scene."""
    wanted = {
        "interactions": (["subject", "action", "object"], ["subject_box", "object_box"]),
        "instances": (["phrase"], ["box"]),
    }
    for part, (phrases, boxes) in wanted.items():
        entries = scene.get(part, [])
        if not isinstance(entries, list):
            yield f"{part} is {shown(entries)}, expected a list"
            continue
        for i, entry in enumerate(entries):
            yield from (f"{part}[{i}]{line}" for line in _wrong_entry(entry, phrases, boxes))


def _wrong_entry(entry: Any, phrases: Sequence[str], boxes: Sequence[str]) -> Iterator[str]:
    if not isinstance(entry, Mapping):
        yield f" is {shown(entry)}, expected a dictionary"
        return
    for name in [*phrases, *boxes]:
        if name not in entry:
            yield f".{name} is missing, expected it"
        elif name in phrases and not isinstance(entry[name], str):
            yield f".{name} is {shown(entry[name])}, expected a string"
        elif name in boxes and not is_box(entry[name]):
            yield f".{name} is {shown(entry[name])}, expected {BOX}"


BOX = "[x0, y0, x1, y1] with x0 < x1 and y0 < y1 in [0, 1]"
BOXES = ("gligen_boxes", "interactdiffusion_subject_boxes", "interactdiffusion_object_boxes")


def wrong_boxes(call: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each box in a call's arguments that is none."""
    lists = {name: call[name] for name in BOXES if name in call}
    if "bboxes" in call:  # MIGC's, by prompt
        several = call["bboxes"] if isinstance(call["bboxes"], list) else [call["bboxes"]]
        lists |= {f"bboxes[{k}]": each for k, each in enumerate(several)}
    for name, boxes in lists.items():
        if not isinstance(boxes, list):
            yield f"{name} is {shown(boxes)}, expected a list of boxes, each {BOX}"
            continue
        for i, box in enumerate(boxes):
            if not is_box(box):
                yield f"{name}[{i}] is {shown(box)}, expected {BOX}"


def is_box(value: Any) -> bool:
    """Return True for x0 < x1 and y0 < y1 in [0, 1], as [x0, y0, x1, y1]."""
    if not (isinstance(value, list | tuple) and len(value) == 4):
        return False
    if not all(type(edge) in (int, float) for edge in value):
        return False
    x0, y0, x1, y1 = value
    return bool(0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1)


def shown(value: Any) -> str:
    """Return a value for a message."""
    return f"{value!r:.60}"
