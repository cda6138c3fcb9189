"""Instance success and overlap on cases made by hand."""

import pytest
import torch
from scenes import hand_made

from amdm.shapes.instances import box_iou, instances
from amdm.shapes.reading import read
from amdm.shapes.world import render

OBJECTS = [("disc", "red"), ("cross", "cyan")]


def test_overlaps_by_hand():
    one = torch.tensor([[[0.0, 0, 2, 2]]])
    other = torch.tensor([[[1.0, 0, 3, 2], [0, 0, 2, 2], [5, 5, 6, 6], [0, 0, 1, 1]]])
    assert box_iou(one, other)[0, 0].tolist() == pytest.approx([1 / 3, 1, 0, 0.25])


def found(objects, wanted=OBJECTS, **options):
    scene = hand_made(wanted)
    result = instances(read(render(hand_made(objects))), scene, **options)
    return result.iou[0].tolist(), result.success[0].tolist()


def test_all_there():
    iou, success = found(OBJECTS)
    assert min(iou[:2]) > 0.9 and iou[2:] == [0, 0]
    assert success == [True, True, False, False]


def test_a_wrong_colour_counts_nothing_unless_only_shapes_do():
    changed = [("disc", "blue"), ("cross", "cyan")]
    iou, success = found(changed)
    assert iou[0] == 0 and iou[1] > 0.9 and success[:2] == [False, True]
    iou, success = found(changed, colours=False)
    assert iou[0] > 0.9 and success[:2] == [True, True]


def test_a_wrong_shape_is_not_there():
    iou, success = found([("square", "red"), ("cross", "cyan")])
    assert iou[0] == 0 and success[:2] == [False, True]


def test_the_right_object_in_the_wrong_place_does_not_overlap():
    iou, success = found([("cross", "cyan"), ("disc", "red")])
    assert iou[:2] == [0, 0] and success[:2] == [False, False]


def test_objects_too_many_do_no_harm():
    iou, success = found([*OBJECTS, ("disc", "red"), ("disc", "blue")])
    assert min(iou[:2]) > 0.9 and success[:2] == [True, True]


def test_half_an_overlap_is_what_it_takes():
    scene = hand_made(OBJECTS)
    seen = read(render(scene))
    for shift, success in ((3.0, True), (4.5, False)):
        moved = seen._replace(boxes=seen.boxes + shift * torch.tensor([1.0, 0, 1, 0]))
        assert instances(moved, scene).success[0, :2].tolist() == [success] * 2
