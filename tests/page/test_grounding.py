"""Boxes on the canvas against the pipelines' own conventions for boxes."""

import numpy as np
import pytest
import torch
from adapters import test_paper_systems as paper
from adapters import tiny_diffusers as tiny

from amdm.command_line.arguments import Expected
from amdm.page.grounding import Instance, Interaction, instances_of, scene_of

CANVAS = np.zeros((64, 128, 3), np.uint8)


def box(label, *corners):
    return {
        **dict(zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True)),
        "label": label,
        "color": (1, 2, 3),
    }


def test_boxes_are_shares_of_the_canvas_and_the_last_drawn_comes_first_there():
    drawn = {"image": CANVAS, "boxes": [box("a mat", 128, 64, 64, 0), box(" a cat ", 32, 16, 96, 64)]}
    assert instances_of(drawn) == [
        Instance("a cat", (0.25, 0.25, 0.75, 1.0)),
        Instance("a mat", (0.5, 0.0, 1.0, 1.0)),
    ]


def test_a_box_that_leaves_the_canvas_ends_at_its_edge():
    drawn = {"image": CANVAS, "boxes": [box("a cat", -30, 32, 64, 90)]}
    assert instances_of(drawn) == [Instance("a cat", (0.0, 0.5, 0.5, 1.0))]


@pytest.mark.parametrize("drawn", [None, {"image": CANVAS, "boxes": []}, {"image": CANVAS}])
def test_an_empty_canvas_has_no_instances(drawn):
    assert instances_of(drawn) == []


@pytest.mark.parametrize(
    ("drawn", "message"),
    [
        (box("", 0, 0, 64, 64), "a phrase for box 1"),
        (box(None, 0, 0, 64, 64), "a phrase for box 1"),
        ({k: v for k, v in box("", 0, 0, 64, 64).items() if k != "label"}, "a phrase for box 1"),
        (box("a cat", 20, 20, 21, 60), r"a larger box 1 \(a cat\)"),
        (box("a cat", 200, 0, 300, 60), r"a larger box 1 \(a cat\)"),  # outside
    ],
)
def test_a_bad_box_is_named(drawn, message):
    with pytest.raises(Expected, match=message):
        instances_of({"image": CANVAS, "boxes": [drawn]})


def test_the_drawn_pixels_are_those_that_gligen_means():
    """Its pipeline draws masks of its boxes: of a square, since it exchanges the sides of others."""
    side, corners = 64, (8, 16, 40, 64)
    drawn = {"image": np.zeros((side, side, 3), np.uint8), "boxes": [box("a cat", *corners)]}
    pipe, _ = tiny.sd_gligen(tiny.ddim())
    mask = pipe.draw_inpaint_mask_from_boxes([each.box for each in instances_of(drawn)], (side, side))
    wanted = torch.ones(side, side)
    wanted[corners[1] : corners[3], corners[0] : corners[2]] = 0
    assert torch.equal(mask, wanted)


def test_the_drawn_pixels_are_those_that_migc_means():
    drawn = {"image": CANVAS, "boxes": [box("a cat", 16, 8, 80, 64)]}
    (cat,) = instances_of(drawn)
    inside = paper.module("MIGC", "migc.migc_pipeline").MIGCProcessor.inside
    wanted = torch.zeros(64, 64)
    wanted[8:64, 8:40] = 1  # of a square: both sides of the canvas are shares
    assert torch.equal(inside(cat.box, 64 * 64, 64, 64).reshape(64, 64), wanted)


PERSON, CAT = Instance("person", (0.0, 0.1, 0.4, 0.9)), Instance("cat", (0.3, 0.5, 0.7, 0.8))


def test_interactions_name_drawn_boxes_by_their_numbers():
    scene = scene_of("a person feeds a cat", "fog", [PERSON, CAT], [Interaction(1, " feeding ", 2)])
    assert scene == {
        "caption": "a person feeds a cat",
        "negative": "fog",
        "interactions": [
            {
                "subject": "person",
                "action": "feeding",
                "object": "cat",
                "subject_box": [0.0, 0.1, 0.4, 0.9],
                "object_box": [0.3, 0.5, 0.7, 0.8],
            }
        ],
        "instances": [
            {"phrase": "person", "box": [0.0, 0.1, 0.4, 0.9]},
            {"phrase": "cat", "box": [0.3, 0.5, 0.7, 0.8]},
        ],
    }


@pytest.mark.parametrize(
    ("interaction", "message"),
    [
        (Interaction(1, " ", 2), "an action for interaction 1"),
        (Interaction(1, "feeding", 3), "a box 3 for interaction 1: 2 are drawn"),
        (Interaction(0, "feeding", 2), "a box 0 for interaction 1"),
        (Interaction(2, "feeding", 2), "two different boxes for interaction 1"),
    ],
)
def test_a_bad_interaction_is_named(interaction, message):
    with pytest.raises(Expected, match=message):
        scene_of("a scene", "", [PERSON, CAT], [interaction])
