"""COCO-MIG's verdicts on hand-made images with known answers, and the real detectors from end to end."""

import colorsys

import numpy as np
import pytest
import tiny_judges
import torch
from PIL import Image

from amdm.command_line.arguments import Expected
from benchmarks.real import coco_mig, measuring
from benchmarks.real.coco_mig import Detections, colour_share, hsv, overlap
from benchmarks.real.mig_bench import COLOURS
from benchmarks.real.prompts import Instance, Prompt

# One pixel per line: RGB, and OpenCV's HSV of it (cv2.cvtColor, which rounds by integer tables).
KNOWN = [
    ((0, 0, 0), (0, 0, 0)),
    ((255, 255, 255), (0, 0, 255)),
    ((255, 0, 0), (0, 255, 255)),
    ((255, 0, 1), (0, 255, 255)),
    ((255, 0, 5), (179, 255, 255)),
    ((0, 255, 0), (60, 255, 255)),
    ((0, 0, 255), (120, 255, 255)),
    ((12, 200, 77), (70, 240, 200)),
    ((128, 127, 129), (135, 4, 129)),
    ((90, 30, 10), (8, 227, 90)),
]


def test_hsv_is_opencvs():
    rgb, known = (np.array(side, dtype=np.uint8) for side in zip(*KNOWN, strict=True))
    np.testing.assert_array_equal(hsv(rgb), known)
    steps = np.arange(0, 256, 15, dtype=np.uint8)
    every = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(-1, 3)
    exact = np.array([colorsys.rgb_to_hsv(*pixel) for pixel in every / 255]) * (180, 255, 255)
    away = np.abs(hsv(every) - exact)
    assert np.minimum(away[:, 0], 180 - away[:, 0]).max() < 0.55  # tables of 12 bits, and hues are a circle
    assert away[:, 1:].max() < 0.55


# Every limit: hue, saturation and value just inside, and those just outside.
EDGES = {
    "red": ([(0, 50, 70), (9, 255, 255), (159, 50, 70), (179, 255, 255)], [(10, 90, 90), (158, 90, 90)]),
    "brown": ([(6, 43, 35), (25, 255, 255)], [(5, 90, 90), (26, 90, 90), (15, 42, 90), (15, 90, 34)]),
    "yellow": ([(25, 50, 70), (35, 255, 255)], [(24, 90, 90), (36, 90, 90), (30, 49, 90), (30, 90, 69)]),
    "green": ([(36, 50, 70), (89, 255, 255)], [(35, 90, 90), (90, 90, 90), (60, 49, 90), (60, 90, 69)]),
    "blue": ([(90, 50, 70), (128, 255, 255)], [(89, 90, 90), (129, 90, 90), (99, 49, 90), (99, 90, 69)]),
    "black": ([(0, 0, 0), (179, 255, 30)], [(0, 0, 31), (90, 200, 31)]),
    "white": ([(0, 0, 221), (179, 43, 255)], [(0, 0, 220), (90, 44, 230)]),
}


def test_colours_have_their_limits(monkeypatch):
    monkeypatch.setattr(coco_mig, "hsv", lambda pixels: pixels)  # not every HSV is that of an RGB
    assert set(EDGES) == set(COLOURS) == set(coco_mig.LIMITS)
    for colour, sides in EDGES.items():
        for share, pixels in zip((1.0, 0.0), sides, strict=True):
            for pixel in pixels:
                assert colour_share(np.array([pixel], dtype=np.uint8), colour) == share, (colour, pixel)


SOLID = {
    "red": (200, 20, 30), "brown": (120, 70, 30), "yellow": (230, 220, 40), "green": (30, 160, 60),
    "blue": (40, 70, 220), "black": (10, 20, 15), "white": (240, 245, 238),
}  # fmt: skip


def test_solid_colours_are_told_apart():
    seen = {a: {b for b in SOLID if colour_share(np.array([SOLID[a]], np.uint8), b)} for a in SOLID}
    assert seen == {colour: {colour} for colour in SOLID}
    assert colour_share(np.zeros((0, 3), np.uint8), "red") == 0  # an empty mask


def test_overlaps_by_hand():
    boxes = np.array([[0.0, 0, 2, 2], [1, 1, 3, 3], [2, 0, 4, 2], [-2, 0, 4, 2]])
    np.testing.assert_allclose(overlap(boxes[0], boxes), [1, 1 / 7, 0, 1 / 3], rtol=1e-15)


def test_a_box_that_overlaps_a_better_one_by_more_than_four_fifths_does_not_count():
    boxes = np.array([[0.0, 0, 10, 8], [0, 0, 10, 10], [0, 0, 10, 7.9], [50, 50, 60, 60]])
    found = Detections(boxes, np.array([0.5, 0.9, 0.7, 0.3]))
    # Of 10 x 10 the first is 0.8 exactly, and stays; beside the third it goes: 7.9 of 8.
    np.testing.assert_array_equal(coco_mig.distinct(found), boxes[[1, 2, 3]])
    np.testing.assert_array_equal(coco_mig.distinct(Detections(boxes[:2], found.scores[:2])), boxes[[1, 0]])


QUARTER = (0.25, 0.25, 0.75, 0.75)  # 256 x 256 pixels


def found(*boxes):
    """A detector that sees these boxes, in pixels, whatever it is asked for."""
    each = Detections(np.array(boxes, dtype=float).reshape(-1, 4), np.linspace(0.9, 0.5, len(boxes)))
    return lambda pictures, names: [each] * len(pictures)


def masked(rows=256, columns=256):
    """A segmenter that draws the upper left part of each box."""

    def draw(picture, boxes):
        masks = np.zeros((len(boxes), 512, 512), dtype=bool)
        for mask, (x0, y0, _, _) in zip(masks, boxes.astype(int), strict=True):
            mask[y0 : y0 + rows, x0 : x0 + columns] = True
        return masks

    return draw


def judged(tmp_path, picture, detector, segmenter, phrases=("a red sheep",), boxes=(QUARTER,)):
    picture.save(tmp_path / "it.png")
    instances = tuple(Instance(*one) for one in zip(phrases, boxes, strict=True))
    (record,) = coco_mig.measure(
        [Prompt("it", "", instances)], [tmp_path / "it.png"], detector, segmenter, quiet=True
    )
    return record


def painted(pixels=0, colour="red"):
    """A gray picture with so many pixels of a colour, from the upper left of the quarter on, row by row."""
    values = np.full((256, 256, 3), 127, np.uint8)
    values.reshape(-1, 3)[:pixels] = SOLID[colour]
    whole = np.full((512, 512, 3), 127, np.uint8)
    whole[128:384, 128:384] = values
    return Image.fromarray(whole)


@pytest.mark.parametrize(("pixels", "success"), [(1999, False), (2000, True), (2001, True)])
def test_a_fifth_of_the_mask_is_enough(tmp_path, pixels, success):
    picture = painted(256 * 8)  # rows that are red; the mask has 10000 pixels of the others
    values = np.array(picture)
    values[128:384, 128:384] = 127
    values[128:228, 128:228].reshape(-1, 3)[:] = 127
    flat = values[128:228, 128:228].reshape(-1, 3).copy()
    flat[:pixels] = SOLID["red"]
    values[128:228, 128:228] = flat.reshape(100, 100, 3)
    record = judged(tmp_path, Image.fromarray(values), found((128, 128, 384, 384)), masked(100, 100))
    (one,) = record["instances"]
    assert one == {
        "phrase": "a red sheep",
        "overlap": 1.0,
        "colour_share": pixels / 10000,
        "success": success,
        "iou": float(success),
    }
    assert record["success"] is success


@pytest.mark.parametrize(("width", "placed"), [(127, False), (128, True), (129, True)])
def test_half_an_overlap_is_enough_and_a_lesser_one_counts_as_it_is(tmp_path, width, placed):
    box = (128, 128, 128 + width, 384)
    for colour in ("red", "blue"):
        (one,) = judged(tmp_path, painted(256 * 256, colour), found(box), masked())["instances"]
        success = placed and colour == "red"
        assert one["overlap"] == width / 256
        assert one["colour_share"] == (None if not placed else float(colour == "red"))
        assert one["iou"] == (width / 256 if success or not placed else 0.0)
        assert one["success"] is success


def test_nothing_found_is_nothing(tmp_path):
    (one,) = judged(tmp_path, painted(256 * 256), found(), masked())["instances"]
    assert (one["overlap"], one["colour_share"], one["success"], one["iou"]) == (0, None, False, 0)


def test_an_empty_mask_has_no_colour(tmp_path):
    (one,) = judged(tmp_path, painted(256 * 256), found((128, 128, 384, 384)), masked(0))["instances"]
    assert (one["colour_share"], one["success"], one["iou"]) == (0, False, 0)


def test_the_mask_is_drawn_for_the_wanted_box_and_names_are_asked_for_once(tmp_path):
    asked = {}

    def detector(pictures, names):
        asked["names"] = list(names)
        return found((120, 130, 380, 390))(pictures, names)

    def segmenter(picture, boxes):
        asked["boxes"] = boxes.tolist()
        return masked()(picture, boxes)

    phrases = ("a red polar bear", "a blue polar bear", "a red cup")
    boxes = (QUARTER, QUARTER, (0.0, 0.0, 0.125, 0.125))
    record = judged(tmp_path, painted(256 * 256), detector, segmenter, phrases, boxes)
    assert asked == {"names": ["polar bear", "cup"], "boxes": [[128, 128, 384, 384]] * 2}
    assert record["level"] == 3 and not record["success"]
    assert [one["success"] for one in record["instances"]] == [True, False, False]


def test_other_sizes_are_stretched_as_opencv_does():
    """Half the size is the mean of each four pixels; the small picture was stretched by cv2.resize."""
    pixels = np.random.default_rng(0).integers(0, 256, (1024, 1024, 3), dtype=np.uint8)
    half = np.array(measuring.resized(Image.fromarray(pixels), 512))
    sums = pixels.reshape(512, 2, 512, 2, 3).astype(int).sum((1, 3))
    np.testing.assert_array_equal(half, (sums + 2) // 4)
    small = np.array([[0, 255, 17], [200, 31, 99]], dtype=np.uint8)
    large = measuring.resized(Image.fromarray(small).convert("RGB"), 5)
    known = [[0, 102, 255, 112, 17], [20, 105, 232, 108, 25], [100, 117, 143, 92, 58]]
    known += [[180, 129, 53, 76, 91], [200, 132, 31, 72, 99]]
    np.testing.assert_array_equal(np.asarray(large)[..., 1], known)


def test_levels_are_means_over_instances():
    def record(level, successes, ious):
        each = [{"success": s, "iou": i} for s, i in zip(successes, ious, strict=True)]
        return {"level": level, "success": all(successes), "instances": each}

    records = [record(2, (True, True), (0.8, 0.6)), record(2, (True, False), (0.5, 0.0))]
    records += [record(3, (False, False, True), (0.1, 0.0, 0.7))]
    estimates = coco_mig.summary(records)
    values = {name: one.value for name, one in estimates.items()}
    assert values == pytest.approx(
        {
            "ISR L2": 3 / 4, "mIoU L2": 1.9 / 4, "image success L2": 1 / 2,
            "ISR L3": 1 / 3, "mIoU L3": 0.8 / 3, "image success L3": 0,
            "ISR avg": 4 / 7, "mIoU avg": 2.7 / 7, "image success avg": 1 / 3,
        },
        abs=1e-15,
    )  # fmt: skip
    low, high = estimates["ISR avg"].interval
    assert 1 / 3 <= low < 4 / 7 < high <= 1
    shown = measuring.with_intervals(estimates)["ISR avg"]
    assert shown == {"value": 4 / 7, "low": low, "high": high}


def test_the_real_classes_from_end_to_end(tmp_path):
    """GroundingDINO and SAM of transformers, from folders, with random weights: boxes and masks are noise."""
    detector = coco_mig.GroundingDino.load(tiny_judges.grounding_dino(tmp_path / "dino"))
    segmenter = coco_mig.Sam.load(tiny_judges.sam(tmp_path / "sam"))
    noise = np.random.default_rng(0).integers(0, 256, (2, 512, 512, 3), dtype=np.uint8)
    pictures = [Image.fromarray(one) for one in noise]
    both = detector(pictures, ["cat", "Polar Bear"])
    (alone,) = detector(pictures[:1], ["cat"])
    assert len(alone.scores) > 1 and (alone.scores > 0.25).all()
    np.testing.assert_allclose(both[0].boxes, alone.boxes, atol=1e-3)  # the padding of names changes nothing
    phrases = detector.processor.post_process_grounded_object_detection
    inputs = detector.processor(images=pictures[:1], text=["cat."], return_tensors="pt")
    (same,) = phrases(detector.model(**inputs), inputs["input_ids"], 0.25, 0.25, [(512, 512)])
    np.testing.assert_allclose(same["boxes"].numpy(), alone.boxes)

    boxes = np.array([[0.0, 0, 100, 100], [20, 30, 400, 500], [1, 2, 3, 4]])
    masks = segmenter(pictures[0], boxes)
    assert masks.shape == (3, 512, 512) and masks.dtype == bool and 0 < masks.mean() < 1
    np.testing.assert_array_equal(segmenter(pictures[0], boxes[1:2])[0], masks[1])

    files = [tmp_path / f"{i}.png" for i in range(2)]
    for picture, file in zip(pictures, files, strict=True):
        picture.save(file)
    everywhere = Instance("a red cat", tuple((alone.boxes[0] / 512).clip(0, 1)))  # one is found just there
    prompts = [
        Prompt("0", "", (everywhere, Instance("a black cup", QUARTER))),
        Prompt("1", "", (everywhere,) * 3),
    ]
    records = coco_mig.measure(prompts, files, detector, segmenter, batch=2, quiet=True)
    assert records[0]["instances"][0]["overlap"] > 0.99
    assert records[0]["instances"][0]["colour_share"] is not None
    assert [record["level"] for record in records] == [2, 3]
    measuring.write(tmp_path / "records.jsonl", records)
    assert measuring.read(tmp_path / "records.jsonl") == records

    half = coco_mig.GroundingDino.load(tmp_path / "dino", dtype=torch.float16)(pictures[:1], ["cat"])[0]
    assert half.scores.dtype == half.boxes.dtype == np.float64
    assert coco_mig.Sam.load(tmp_path / "sam", dtype=torch.float16)(pictures[0], boxes).shape == masks.shape
    with pytest.raises(Expected, match="a folder of a SamModel, found GroundingDinoForObjectDetection"):
        coco_mig.Sam.load(tmp_path / "dino")


def test_a_wrong_folder_is_one_line(tmp_path):
    needed = (
        r"^a folder of a model as transformers saves it, with config.json, preprocessor_config.json or "
        r"processor_config.json, \*.safetensors or \*.bin$"
    )
    with pytest.raises(Expected, match=needed):
        coco_mig.GroundingDino.load(tmp_path / "nowhere")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(Expected, match="with preprocessor"):
        coco_mig.Sam.load(tmp_path)


def test_as_many_files_as_prompts(tmp_path):
    with pytest.raises(
        ValueError, match=r"^got 1 prompts, 0 files, expected one or more, and of each as many$"
    ):
        coco_mig.measure([Prompt("it", "", ())], [], found(), masked())
    (tmp_path / "it.png").write_text("no picture")
    with pytest.raises(Expected, match=r"it\.png to be a picture"):
        coco_mig.measure([Prompt("it", "", ())], [tmp_path / "it.png"], found(), masked(), quiet=True)
