"""Mean average precision on cases made by hand."""

import numpy as np
import pytest
import torch
from scenes import hand_made

from amdm.shapes import world
from amdm.shapes.interaction_ap import CATEGORIES, RARE, Judged, average_precision, judge, mean_ap
from amdm.shapes.reading import Read, read
from amdm.shapes.world import KINDS, SHAPES, Scenes, render, sample_scenes

OBJECTS = [("disc", "red"), ("square", "yellow"), ("cross", "cyan"), ("triangle", "green")]


def category(right, confidence_order=None, wanted=(1,), known=None):
    """A category whose i-th detection, by falling confidence, is in image i."""
    images = np.arange(len(right)) if confidence_order is None else np.array(confidence_order)
    known = np.ones(len(wanted), dtype=bool) if known is None else np.array(known)
    return Judged(images, np.array(right, dtype=bool), np.array(wanted), known)


def ap(case, weights=None):
    weights = np.ones((1, len(case.wanted))) if weights is None else np.array([weights], dtype=float)
    return average_precision(case, weights)[0]


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        (category([True], wanted=[1]), 1.0),
        (category([False], wanted=[1]), 0.0),
        (category([], wanted=[1]), 0.0),
        # One of two wanted is found: precision 1 up to recall 0.5, that is at 6 of the 11 recalls.
        (category([True], wanted=[1, 1]), 6 / 11),
        # A wrong one first: precision is 1/2 at every recall.
        (category([False, True], wanted=[0, 1]), 0.5),
        (category([True, False], wanted=[1, 0]), 1.0),
        # Right, wrong, right of two: 1 up to recall 0.5, then 2/3 at 5 recalls.
        (category([True, False, True], wanted=[1, 0, 1]), (6 + 5 * 2 / 3) / 11),
    ],
)
def test_average_precision_by_hand(case, expected):
    assert ap(case) == pytest.approx(expected)


def test_nothing_wanted_is_not_a_number():
    assert np.isnan(ap(category([False], wanted=[0])))


def test_recalls_of_tenths_are_reached_in_spite_of_rounding():
    assert ap(category([True] * 3, wanted=[1] * 10)) == pytest.approx(4 / 11)


def test_weights_repeat_images():
    case = category([True, False, True], wanted=[1, 0, 1])
    # The wrong one three times: precisions 1, 2/5.
    assert ap(case, [1, 3, 1]) == pytest.approx((6 + 5 * 2 / 5) / 11)
    assert ap(case, [1, 0, 1]) == 1
    # The first image five times: 5 of 6 are found before the wrong one.
    assert ap(case, [5, 1, 1]) == pytest.approx((9 + 2 * 6 / 7) / 11)


def of_kind(name, shape):
    return CATEGORIES.index((KINDS.index(name), SHAPES.index(shape)))


def test_a_perfect_image_has_its_categories_right_and_no_others():
    scene = hand_made(OBJECTS, [("holding", 0, 2), ("chained", 3, 1)])
    judged = judge(read(render(scene)), scene)
    for name, shape in (("holding", "cross"), ("chained", "square")):
        one = judged[of_kind(name, shape)]
        assert one.right.tolist() == [True] and one.wanted.tolist() == [1]
    assert sum(int(one.wanted.sum()) + len(one.images) for one in judged) == 4
    assert mean_ap(judged, np.ones((1, 1)))[0] == 1


def test_the_direction_counts():
    scene, other = (hand_made(OBJECTS, [("pointing", *ends)]) for ends in ((0, 2), (2, 0)))
    judged = judge(read(render(other)), scene)
    assert not any(one.right.any() for one in judged)
    assert judged[of_kind("pointing", "disc")].images.tolist() == [0]
    assert mean_ap(judged, np.ones((1, 1)))[0] == 0


def test_both_boxes_must_overlap():
    scene = hand_made(OBJECTS, [("holding", 0, 2)])
    seen = read(render(scene))
    for index in (0, 2):
        boxes = seen.boxes.clone()
        boxes[0, index] += torch.tensor([6.0, 0, 6, 0])
        assert not any(one.right.any() for one in judge(seen._replace(boxes=boxes), scene))


def test_the_subjects_shape_does_not_count_and_the_objects_does():
    scene = hand_made(OBJECTS, [("holding", 0, 2)])
    seen = read(render(scene))
    shapes = seen.shapes.clone()
    shapes[0, 0] = SHAPES.index("triangle")
    assert judge(seen._replace(shapes=shapes), scene)[of_kind("holding", "cross")].right.tolist() == [True]
    shapes[0, 2] = SHAPES.index("triangle")
    judged = judge(seen._replace(shapes=shapes), scene)
    assert judged[of_kind("holding", "triangle")].right.tolist() == [False]
    assert judged[of_kind("holding", "cross")].images.tolist() == []


def twice(seen: Read) -> Read:
    """The first object seen a second time, in the place of the fourth."""
    copy = {name: getattr(seen, name).clone() for name in ("boxes", "shapes", "interactions", "confidences")}
    for name in ("boxes", "shapes"):
        copy[name][0, 3] = copy[name][0, 0]
    copy["interactions"][0, 3, 2] = copy["interactions"][0, 0, 2]
    copy["confidences"][0, 3, 2] = 0.6
    return seen._replace(**copy)


def test_a_second_detection_of_one_interaction_is_wrong():
    scene = hand_made(OBJECTS, [("holding", 0, 2)])
    one = judge(twice(read(render(scene))), scene)[of_kind("holding", "cross")]
    assert one.right.tolist() == [True, False]


def test_known_object_counts_images_with_the_shape_alone():
    scenes = [hand_made(OBJECTS, [("holding", 0, 2)]), hand_made([("disc", "red"), ("square", "blue")])]
    both = Scenes(*(torch.cat(pair) for pair in zip(*scenes, strict=True)))
    false_alarm = hand_made([("disc", "red"), ("cross", "blue")], [("holding", 0, 1)])
    images = torch.cat([render(scenes[0]), render(false_alarm)])
    seen = read(images)
    seen.confidences[1] *= 2  # the false alarm is the surer one
    one = judge(seen, both)[of_kind("holding", "cross")]
    assert one.images.tolist() == [1, 0] and one.known.tolist() == [True, False]
    judged = judge(seen, both)
    assert mean_ap(judged, np.ones((1, 2)))[0] == pytest.approx(0.5)
    assert mean_ap(judged, np.ones((1, 2)), known=True)[0] == 1


def test_rare_categories_are_those_of_the_kinds_that_training_seldom_shows():
    scenes = sample_scenes(range(4000))
    shares = torch.bincount(world.link_matrix(scenes).flatten(), minlength=len(KINDS))[1:].float()
    shares /= shares.sum()
    seldom = {kind for kind, share in enumerate(shares.tolist(), start=1) if share < 0.1}
    assert {CATEGORIES[i][0] for i in RARE} == seldom
    judged = [category([i in RARE], wanted=[1]) for i in range(len(CATEGORIES))]
    ones = np.ones((1, 1))
    assert mean_ap(judged, ones, rare=True)[0] == 1
    assert mean_ap(judged, ones)[0] == len(RARE) / len(CATEGORIES)


@pytest.mark.slow
def test_renders_are_right_but_for_few():
    scenes = sample_scenes(world.TEST[:500], uniform_kinds=True)
    judged = judge(read(render(scenes)), scenes)
    assert mean_ap(judged, np.ones((1, 500)))[0] > 0.98
