"""HICO-DET: 600 interactions of 117 verbs with 80 objects, in FGAHOI's annotation files.

The dataset (Chao et al. 2018) and its annotations are the user's: the folder `annotations` that
github.com/xiaomabufei/FGAHOI describes. Read from it:

* `hoi_list_new.json`: a list of the 600 categories, each with `id` ("001" to "600"), `verb`, `object`,
  `verb_id` (1 to 117) and `object_cat` (COCO's id);
* `trainval_hico.json` and `test_hico.json`: a list of images, each with `file_name`, `annotations` (boxes in
  pixels with COCO's `category_id`) and `hoi_annotation` (`subject_id` and `object_id` of boxes, and the verb
  as `category_id`);
* `anno_list.json`: the boxes that detections are compared with. A list of images, each with `global_id`,
  `image_size` (height first) and `hois`: an `id`, `human_bboxes`, `object_bboxes` and the `connections`;
* `file_name_to_obj_cat.json`: the objects in each test image, by file name, for Known Object;
* `hoi_id_to_num.json`: of each category, the number of its training instances and whether it is `rare`.
"""

import pickle
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from amdm.command_line.arguments import Expected
from benchmarks.real.prompts import (
    Box,
    Instance,
    Interaction,
    Prompt,
    box_inside,
    entry,
    read_json,
    with_article,
)

VERBS = 117
# COCO's ids of its 80 objects: 1 to 90 without those that it gave up. FGAHOI's labels count them from 0.
OBJECTS = tuple(i for i in range(1, 91) if i not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83))
PERSON = 1
RARE = 10
"""Categories with fewer training instances are rare."""
NO_INTERACTION = "and"
"""InteractDiffusion's action for `no_interaction`."""
FILES = (
    *("hoi_list_new.json", "hoi_id_to_num.json", "anno_list.json"),
    *("file_name_to_obj_cat.json", "test_hico.json"),
)

Pair = tuple[Sequence[float], Sequence[float]]
"""A person's and an object's box, x0, y0, x1, y1 in pixels."""


class Category(NamedTuple):
    """One of the 600 interactions; `verb` counts from 1, `object` is COCO's id."""

    id: str
    verb: int
    object: int
    action: str
    thing: str


class Truth(NamedTuple):
    """The truth of a test image: pairs of boxes by category, and its objects, None if they are not known."""

    pairs: Mapping[str, Sequence[Pair]]
    objects: frozenset[int] | None


@dataclass(frozen=True)
class Dataset:
    """HICO-DET's categories and the truth about its test images, by name without ending."""

    categories: Sequence[Category]
    rare: frozenset[str]
    """The ids of rare categories."""
    truth: Mapping[str, Truth]


def read(folder: Path) -> Dataset:
    """Return what detections are compared with: of photographs, or of drawn images (`fgahoi.write`).

    Raises:
        Expected: a file is missing or has another format.
    """
    categories = read_categories(folder / "hoi_list_new.json")
    objects = entry(read_json(folder / "file_name_to_obj_cat.json"), "file_name_to_obj_cat.json")
    images = read_json(folder / "anno_list.json")
    truth = {
        image["global_id"]: Truth(
            _pairs(image),
            frozenset(objects[name]) if (name := f"{image['global_id']}.jpg") in objects else None,
        )
        for i, image in enumerate(images)
        if "test"
        in entry(image, f"anno_list.json, image {i}", global_id=str, image_size=list, hois=list)["global_id"]
    }
    return Dataset(categories, read_rare(folder / "hoi_id_to_num.json"), truth)


def _pairs(image: Mapping[str, Any]) -> dict[str, list[Pair]]:
    return {
        hoi["id"]: [
            (hoi["human_bboxes"][one], hoi["object_bboxes"][other]) for one, other in hoi["connections"]
        ]
        for hoi in image["hois"]
    }


def read_categories(path: Path) -> list[Category]:
    """Return the categories of `hoi_list_new.json` in its order."""
    kinds: dict[str, Any] = {"id": str, "verb_id": int, "object_cat": int, "verb": str, "object": str}
    found = [entry(one, f"{path.name}, entry {i}", **kinds) for i, one in enumerate(read_json(path))]
    return [Category(*(one[key] for key in kinds)) for one in found]


def read_rare(path: Path) -> frozenset[str]:
    """Return the ids of rare categories from `hoi_id_to_num.json`."""
    counts = entry(read_json(path), path.name)
    return frozenset(
        key for key, one in counts.items() if entry(one, f"{path.name}, {key}", rare=bool)["rare"]
    )


def training_counts(path: Path, categories: Iterable[Category]) -> Counter[str]:
    """Return the number of training instances of each category, from `trainval_hico.json`."""
    ids = {(category.verb, category.object): category.id for category in categories}
    counts = Counter(dict.fromkeys(ids.values(), 0))
    for image in read_images(path):
        boxes = image["annotations"]
        for hoi in image["hoi_annotation"]:
            if hoi["object_id"] < len(boxes):  # a few name a box that is not there
                counts[ids[hoi["category_id"], boxes[hoi["object_id"]]["category_id"]]] += 1
    return counts


def rare_of(counts: Mapping[str, int]) -> frozenset[str]:
    """Return the categories with fewer than 10 training instances."""
    return frozenset(key for key, count in counts.items() if count < RARE)


def read_images(path: Path) -> list[Mapping[str, Any]]:
    """Return the images of `test_hico.json` or `trainval_hico.json`."""
    kinds: dict[str, Any] = {"file_name": str, "annotations": list, "hoi_annotation": list}
    return [entry(one, f"{path.name}, image {i}", **kinds) for i, one in enumerate(read_json(path))]


def prompts(folder: Path) -> list[Prompt]:
    """Return the test images as they are to be drawn, in the order of `test_hico.json`.

    A caption says of each kind of interaction once that "a person is riding a bicycle". These words are ours;
    InteractDiffusion's own are in its `hico_det_test.pkl`, see `published_prompts`. Images without an
    interaction inside of them are left out.
    """
    names = {(one.verb, one.object): one for one in read_categories(folder / "hoi_list_new.json")}
    sizes = {image["global_id"]: image["image_size"] for image in read_json(folder / "anno_list.json")}
    found = (_prompt(image, names, sizes) for image in read_images(folder / "test_hico.json"))
    return [prompt for prompt in found if prompt.interactions]


def published_prompts(path: Path) -> list[Prompt]:
    """Return the test images as InteractDiffusion's `DATA/hico_det_test.pkl` describes them.

    It is a pickle, of which nothing but lists, dictionaries, strings and numbers is read: one with more,
    which could run code, is refused. Images without an interaction inside of them are left out.
    """
    try:
        with path.open("rb") as file:
            found = _Plain(file).load()
    except Exception as error:  # whatever pickle says of a file that is none
        raise Expected(f"a pickle of lists, dictionaries, strings and numbers: {error}") from error
    keys = [f"{end}_{part}" for end in ("subject", "object") for part in ("phrases", "boxes")]
    kinds: dict[str, Any] = {"prompt": str, "file_name": str, "action_phrases": list}
    images = [entry(one, f"image {i}", **kinds, **dict.fromkeys(keys, list)) for i, one in enumerate(found)]
    return [prompt for prompt in map(_published, images) if prompt.interactions]


def _published(image: Mapping[str, Any]) -> Prompt:
    parts = ("subject_phrases", "action_phrases", "object_phrases", "subject_boxes", "object_boxes")
    found = []
    for subject, action, thing, *boxes in zip(*(image[part] for part in parts), strict=True):
        person, other = (box_inside(list(box), 1, 1) for box in boxes)
        if person and other:
            found.append(Interaction(subject, action, thing, person, other))
    return Prompt(Path(image["file_name"]).stem, image["prompt"], instances_of(found), tuple(found))


class _Plain(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        raise Expected(f"nothing of {module}.{name}")


def _prompt(
    image: Mapping[str, Any], names: Mapping[tuple[int, int], Category], sizes: Mapping[str, Sequence[int]]
) -> Prompt:
    name = Path(image["file_name"]).stem
    if name not in sizes:
        raise Expected(f"anno_list.json to have {name}, which is in test_hico.json")
    height, width = sizes[name][:2]
    boxes = image["annotations"]
    found = []
    for hoi in image["hoi_annotation"]:
        subject, thing = boxes[hoi["subject_id"]], boxes[hoi["object_id"]]
        kind = hoi["category_id"], thing["category_id"]
        if kind not in names:
            raise Expected(
                f"hoi_list_new.json to have verb {kind[0]} with object {kind[1]}, which {name} has"
            )
        person, other = (box_inside(one["bbox"], width, height) for one in (subject, thing))
        if person and other:
            words = gerund(names[kind].action), spaced(names[kind].thing)
            found.append(Interaction("person", *words, person, other))
    return Prompt(name, caption_of(found), instances_of(found), tuple(found))


def caption_of(interactions: Iterable[Interaction]) -> str:
    """Return a sentence of each kind of interaction, once."""
    said = [
        f"{with_article(one.subject)} {'' if one.action == NO_INTERACTION else 'is '}{one.action} "
        f"{with_article(one.object)}"
        for one in interactions
    ]
    return ", ".join(dict.fromkeys(said))


def instances_of(interactions: Iterable[Interaction]) -> tuple[Instance, ...]:
    """Return who and what interacts, each box once: what a model without interactions is told."""
    ends: dict[tuple[str, Box], None] = {}
    for one in interactions:
        ends |= {(one.subject, one.subject_box): None, (one.object, one.object_box): None}
    return tuple(Instance(with_article(phrase), box) for phrase, box in ends)


def gerund(verb: str) -> str:
    """Return what somebody is doing: "riding" for "ride", "sitting on" for "sit_on".

    >>> [gerund(verb) for verb in ("lie_on", "control", "exit", "no_interaction")]
    ['lying on', 'controlling', 'exiting', 'and']
    """
    if verb == "no_interaction":
        return NO_INTERACTION
    word, *rest = spaced(verb).split(" ")
    if word.endswith("ie"):
        word = f"{word[:-2]}y"
    elif word.endswith("e"):
        word = word[:-1]
    elif word == "control" or re.fullmatch(r"[^aeiou]*[^aeiou][aeiou][^aeiouwxy]", word):
        word += word[-1]
    return " ".join([f"{word}ing", *rest])


def spaced(name: str) -> str:
    """Return a name of HICO-DET's as words."""
    return name.replace("_", " ")
