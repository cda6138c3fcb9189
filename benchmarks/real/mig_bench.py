"""MIG-Bench: 800 captions of two to six coloured instances in COCO's layouts.

The benchmark (github.com/LeyRio/MIG_Bench) is for non-commercial research, and is not copied here: the user
has its `mig_bench.json`. That is a dictionary from a key, "0" to "799", to `caption`, `image_id` (COCO's) and
`segment`: a list of `label`, "a <colour> <object>", and `bbox` as parts of width and height.
"""

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from amdm.command_line.arguments import Expected
from benchmarks.real.prompts import Instance, Interaction, Prompt, box_of, entry, read_json

COLOURS = ("red", "blue", "green", "yellow", "black", "white", "brown")
LEVELS = range(2, 7)
"""The number of instances of an image is its level: L2 to L6."""
ACTION = "and"
"""InteractDiffusion's action between instances that do nothing with each other (the paper's appendix G.1)."""


class Label(NamedTuple):
    """An instance's colour and object."""

    colour: str
    object: str


def label_of(phrase: str) -> Label:
    """Return the colour and the object of "a <colour> <object>". Raises `Expected` for other phrases."""
    found = re.fullmatch(rf"an? ({'|'.join(COLOURS)}) (\S.*)", phrase)
    if not found:
        raise Expected(
            f"a label 'a <colour> <object>' with a colour of {', '.join(COLOURS)}, found {phrase!r:.60}"
        )
    return Label(found[1], found[2])


def read(path: Path) -> list[Prompt]:
    """Return the benchmark's images in the file's order. Raises `Expected` if one is not as it should be.

    InteractDiffusion is told that each instance is "and" with itself, as in the paper's published script.
    A name ends with the key, as the benchmark's own evaluation expects it: "500084_0".
    """
    return [_prompt(key, value) for key, value in entry(read_json(path), "it").items()]


def _prompt(key: str, value: object) -> Prompt:
    found = entry(value, f"entry {key!r}", caption=str, segment=list, image_id=(str, int))
    instances = [_instance(one, f"entry {key!r}, segment {i}") for i, one in enumerate(found["segment"])]
    if len(instances) not in LEVELS:
        raise Expected(f"entry {key!r} to have 2 to 6 instances, found {len(instances)}")
    return Prompt(
        f"{int(found['image_id']):06}_{key}",
        found["caption"].strip(),
        tuple(instances),
        tuple(Interaction(one.phrase, ACTION, one.phrase, one.box, one.box) for one in instances),
    )


def _instance(value: object, where: str) -> Instance:
    found = entry(value, where, label=str, bbox=list)
    label_of(found["label"])
    return Instance(found["label"], box_of(found["bbox"], where))


def levels(prompts: Iterable[Prompt]) -> dict[str, int]:
    """Return the number of images of each level, "L2" to "L6"."""
    counts = Counter(len(prompt.instances) for prompt in prompts)
    return {f"L{level}": counts[level] for level in LEVELS}
