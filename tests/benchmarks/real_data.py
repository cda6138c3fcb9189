"""Small files in the benchmarks' formats, made by hand."""

import json

import torch
from PIL import Image

from benchmarks.real.configurations import toml
from benchmarks.real.paths import FILES

KINDS = [  # id, verb, object, verb_id, object_cat, training instances
    ("001", "ride", "bicycle", 5, 2, 40),
    ("002", "no_interaction", "bicycle", 1, 2, 3),
    ("003", "eat", "apple", 7, 53, 10),
    ("004", "sit_at", "dining_table", 9, 67, 9),
]
MIG = {
    "0": {
        "caption": "a photo of a black cat and a white cat ",
        "segment": [
            {"bbox": [0.1, 0.4, 0.7, 0.75], "label": "a black cat"},
            {"bbox": [0.5, 0.5, 0.8, 0.75], "label": "a white cat"},
        ],
        "image_id": "500084",
    },
    "1": {
        "caption": "a photo of a red bird and a green dining table and a brown bird ",
        "segment": [
            {"bbox": [0.5, 0.4, 0.75, 0.7], "label": "a red bird"},
            {"bbox": [0.0, 0.5, 1.0, 1.0], "label": "a green dining table"},
            {"bbox": [0.125, 0.25, 0.5, 0.5], "label": "a brown bird"},
        ],
        "image_id": "711",
    },
}


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    return path


def write_hico(folder, images=3):
    """Two riders in image 1, one eater in image 2, nothing in image 3; and training images."""
    keys = ("id", "verb", "object", "verb_id", "object_cat")
    write_json(folder / "hoi_list_new.json", [dict(zip(keys, kind[:5], strict=True)) for kind in KINDS])
    write_json(folder / "hoi_id_to_num.json", {key: {"num": num, "rare": num < 10} for key, *_, num in KINDS})
    shown = [
        {"id": "001", "human_bboxes": [[0, 0, 100, 100], [200, 0, 300, 100]],
         "object_bboxes": [[0, 50, 100, 150]], "connections": [[0, 0], [1, 0]], "invis": 0},
        {"id": "002", "human_bboxes": [[400, 0, 600, 200]], "object_bboxes": [[0, 50, 100, 150]],
         "connections": [[0, 0]], "invis": 0},
    ]  # fmt: skip
    eaten = [
        {"id": "003", "human_bboxes": [[0, 0, 100, 400]], "object_bboxes": [[50, 50, 70, 70]],
         "connections": [[0, 0]], "invis": 0},
    ]  # fmt: skip
    name = "HICO_test2015_{:08}"
    sizes = {1: [300, 600, 3], 2: [400, 100, 3], 3: [512, 512, 3]}
    lists = {1: shown, 2: eaten, 3: []}
    write_json(
        folder / "anno_list.json",
        [
            {"global_id": name.format(i), "image_size": sizes[i], "hois": lists[i]}
            for i in range(1, images + 1)
        ]
        + [{"global_id": "HICO_train2015_00000001", "image_size": [9, 9, 3], "hois": []}],
    )
    write_json(
        folder / "file_name_to_obj_cat.json",
        {f"{name.format(1)}.jpg": [2], f"{name.format(2)}.jpg": [53], f"{name.format(3)}.jpg": [67]},
    )
    test = [
        ([[0, 0, 100, 100], [200, 0, 300, 100], [400, 0, 600, 200], [0, 50, 100, 150]], [1, 1, 1, 2],
         [(0, 3, 5), (1, 3, 5), (2, 3, 1)]),
        ([[0, 0, 100, 400], [50, 50, 70, 70], [90, 90, 90, 95]], [1, 53, 53], [(0, 1, 7), (0, 2, 7)]),
        ([[0, 0, 10, 10]], [1], []),
    ]  # fmt: skip
    write_json(folder / "test_hico.json", [_image(name.format(i + 1), *test[i]) for i in range(images)])
    train = [
        _image(
            "HICO_train2015_00000001", [[0, 0, 9, 9], [1, 1, 5, 5]], [1, 2], [(0, 1, 5), (0, 1, 1), (0, 7, 5)]
        )
    ]
    write_json(folder / "trainval_hico.json", train * 12)
    (folder / "corre_hico.npy").touch()  # FGAHOI's alone
    return folder


def write_paths(folder, models=None, measures=None, **run):
    """All benchmarks, and a paths.toml with them; the models' files are only named unless they are given."""
    write_json(folder / "mig_bench.json", MIG)
    write_hico(folder / "hico")
    write_coco(folder / "coco")
    sections = {
        "models": models or {key: f"models/{key}" for key in FILES["models"]},
        "data": {
            "mig_bench": "mig_bench.json", "hico": "hico", "coco_images": "coco/images",
            "coco_captions": "coco/captions.json", "coco_instances": "coco/instances.json",
        },
        "measures": measures or {},
    }  # fmt: skip
    run = {"out": "out", "trust_remote_code": True, **run}
    (folder / "paths.toml").write_text(toml({**run, **sections}))
    return folder / "paths.toml"


def write_coco(folder):
    """A bus, and two dogs before a crowd, with two captions; image 5 has a caption and nothing in it."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for name, colour in {"bus.png": "red", "dogs.png": "brown"}.items():
        Image.new("RGB", (8, 8), colour).save(folder / "images" / name)
    captions = [(9, 4, " A dog. "), (2, 5, "A bus."), (9, 3, "Two dogs."), (5, 1, "Nothing.")]
    boxes = [(2, 6, [50, 0, 50, 50]), (9, 18, [25, 50, 25, 50]), (9, 18, [0, 0, 200, 100])]
    crowd = {"image_id": 9, "category_id": 18, "bbox": [0, 0, 100, 200], "iscrowd": 1}
    return write_json(
        folder / "captions.json",
        {"annotations": [dict(zip(("image_id", "id", "caption"), one, strict=True)) for one in captions]},
    ), write_json(
        folder / "instances.json",
        {
            "images": [
                {"id": 2, "width": 100, "height": 100, "file_name": "bus.png"},
                {"id": 9, "width": 100, "height": 200, "file_name": "dogs.png"},
                {"id": 5, "width": 10, "height": 10, "file_name": "none.png"},
            ],
            "categories": [{"id": 6, "name": "bus"}, {"id": 18, "name": "dog"}],
            "annotations": [
                *(dict(zip(("image_id", "category_id", "bbox"), one, strict=True)) for one in boxes),
                crowd,
            ],
        },
    )


def _image(name, boxes, kinds, hois):
    annotations = [{"bbox": box, "category_id": kind} for box, kind in zip(boxes, kinds, strict=True)]
    hoi = [{"subject_id": s, "object_id": o, "category_id": v} for s, o, v in hois]
    return {"file_name": f"{name}.jpg", "img_id": 1, "annotations": annotations, "hoi_annotation": hoi}


def detections(*pairs):
    """One image's detections, as FGAHOI's: of each pair a person's and an object's box, label and scores."""
    count = len(pairs)
    scores = torch.zeros(count, 117)
    for i, (*_, verbs) in enumerate(pairs):
        for verb, score in verbs.items():
            scores[i, verb - 1] = score
    boxes = [person for person, *_ in pairs] + [thing for _, thing, *_ in pairs]
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(2 * count, 4),
        "labels": torch.tensor([0] * count + [label for _, _, label, _ in pairs], dtype=torch.long),
        "verb_scores": scores,
        "sub_ids": torch.arange(count),
        "obj_ids": torch.arange(count, 2 * count),
    }
