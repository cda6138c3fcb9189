"""Boxes on the page's canvas as scenes of the world."""

import itertools

import pytest
import torch

from amdm.page import scene
from amdm.page.scene import CANVAS, CELLS, LABELS, Link, drawn, first_boxes, scene_of
from amdm.shapes import world

FOUR = [
    drawn(label, 16.0 * (k % 2) + 2, 16.0 * (k // 2) + 3, 16.0 * (k % 2) + 12, 16.0 * (k // 2) + 13)
    for k, label in enumerate(("red disc", "blue cross", "yellow square", "cyan triangle"))
]


def test_a_box_that_the_world_could_have_stays_where_it_is():
    found = scene_of(FOUR)
    assert found.boxes[0].tolist() == [[2, 3, 12, 13], [18, 3, 28, 13], [2, 19, 12, 29], [18, 19, 28, 29]]
    assert [world.SHAPES[k] for k in found.shapes[0]] == ["disc", "cross", "square", "triangle"]
    assert [world.COLOURS[k] for k in found.colours[0]] == ["red", "blue", "yellow", "cyan"]
    assert found.present.all() and (found.links[..., 0] == 0).all()


def test_scenes_are_as_the_world_has_them():
    """The same dtypes and shapes as of sampled scenes; each box in a cell of its own, of an allowed side."""
    like = world.sample_scenes([world.TEST[0]])
    rng = torch.Generator().manual_seed(1)
    for _ in range(50):
        corners = torch.rand(3, 2, 2, generator=rng).sort(1).values * CANVAS
        boxes = [
            {"xmin": a[0], "ymin": a[1], "xmax": b[0] + 1, "ymax": b[1] + 1, "label": label}
            for (a, b), label in zip(corners.tolist(), LABELS, strict=False)
        ]
        found = scene_of(boxes)
        assert [(x.dtype, x.shape) for x in found] == [(x.dtype, x.shape) for x in like]
        squares = found.boxes[0, :3]
        side = squares[:, 2:] - squares[:, :2]
        torch.testing.assert_close(side[:, 0], side[:, 1])
        assert (side > world.BOX_SIDES[0] - 0.01).all() and (side < world.BOX_SIDES[1] + 0.01).all()
        cells = (squares[:, :2] // world.CELL).tolist()
        assert len(set(map(tuple, cells))) == 3
        inside = squares % world.CELL
        assert (inside > world.MARGIN - 0.02).all() and (inside < world.CELL - world.MARGIN + 0.02).all()


def test_boxes_in_one_cell_are_moved_as_little_as_need_be():
    """Two boxes in the upper left: the one further to the right goes to the upper right."""
    low, high = drawn("red disc", 2.0, 2.0, 12.0, 12.0), drawn("blue disc", 4.0, 2.0, 14.0, 12.0)
    found = scene_of([high, low])
    assert [world.COLOURS[k] for k in found.colours[0, :2]] == ["red", "blue"]
    assert found.boxes[0, :2, :2].tolist() == [[2, 2], [17.5, 2]]


def test_the_order_of_the_boxes_does_not_matter():
    link = Link("holding", "bottom right", "top left")
    first = scene_of(FOUR, link, "striped")
    for order in itertools.permutations(FOUR):
        assert all((a == b).all() for a, b in zip(first, scene_of(order, link, "striped"), strict=True))


@pytest.mark.parametrize(("subject", "target"), itertools.permutations(CELLS, 2))
def test_an_interaction_joins_the_boxes_at_two_places(subject, target):
    found = scene_of(FOUR, Link("pointing", subject, target))
    kind, one, other = found.links[0, 0].tolist()
    assert (world.KINDS[kind], CELLS[one], CELLS[other]) == ("pointing", subject, target)
    assert sorted(found.links[0, :, 1:].flatten().tolist()) == [0, 1, 2, 3]
    assert world.link_matrix(found).sum() == kind


def test_boxes_that_are_not_there_have_no_number():
    """With boxes at two places the interaction's ends are objects 0 and 1, wherever they are."""
    found = scene_of([FOUR[1], FOUR[2]], Link("wearing", "bottom left", "top right"))
    assert found.present.tolist() == [[True, True, False, False]]
    assert found.links[0, 0].tolist() == [world.KINDS.index("wearing"), 1, 0]


@pytest.mark.parametrize(
    ("boxes", "options", "says"),
    [
        ([], {}, "There are 0 boxes: draw two to four."),
        (FOUR[:1], {}, "There are 1 boxes"),
        ([*FOUR, FOUR[0]], {}, "There are 5 boxes"),
        ([FOUR[0], FOUR[1] | {"label": ""}], {}, "A box has no label"),
        ([FOUR[0], {k: v for k, v in FOUR[1].items() if k != "label"}], {}, "A box has no label"),
        ([FOUR[0], FOUR[1] | {"label": "pink dog"}], {}, "A box is labelled 'pink dog': double-click it"),
        ([FOUR[0], FOUR[1] | {"xmax": FOUR[1]["xmin"]}], {}, "A box has no area"),
        (
            FOUR,
            {"link": Link("pointing", CELLS[0], CELLS[0])},
            "The box at the top left cannot interact with",
        ),
        (FOUR[:2], {"link": Link("pointing", CELLS[0], CELLS[3])}, "There is no box at the bottom right"),
        (FOUR, {"link": Link("biting")}, "The interaction is 'biting': choose one of none, holding,"),
        (FOUR, {"style": "oil"}, "The style is 'oil': choose one of flat, outlined,"),
    ],
)
def test_what_is_wrong_is_one_sentence(boxes, options, says):
    with pytest.raises(ValueError, match=f"^{says}"):
        scene_of(boxes, **options)


def test_the_page_opens_with_a_scene_on_its_canvas():
    found = scene_of(first_boxes(), Link("pointing"))
    assert found.present.sum() == 3 and found.links[0, 0].tolist() == [2, 0, 1]
    assert scene.blank().shape == (CANVAS, CANVAS, 3)
    for box in first_boxes():
        assert 0 <= box["xmin"] < box["xmax"] <= CANVAS and box["label"] in LABELS
