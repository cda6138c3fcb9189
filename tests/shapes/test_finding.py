"""Objects are found by their pixels."""

import pytest
import torch

from amdm.shapes import world
from amdm.shapes.detectors import detect_styles
from amdm.shapes.finding import find_objects

SCENES = world.sample_scenes(world.VALIDATION[:300])


def by_cell(scenes):
    """The boxes in the order of their cells, and where there is one."""
    cells = (scenes.boxes[..., 0] >= 16).long() + 2 * (scenes.boxes[..., 1] >= 16).long()
    order = cells.argsort(1)
    boxes = scenes.boxes.gather(1, order[..., None].expand(-1, -1, 4))
    return boxes, scenes.present.gather(1, order)


@pytest.mark.parametrize("noise", [0.0, 0.05, 0.1])
def test_every_object_is_found_and_nothing_else(noise, rng):
    images = world.render(SCENES)
    boxes, present = find_objects(images + noise * torch.randn(images.shape, generator=rng))
    expected, there = by_cell(SCENES)
    assert torch.equal(present, there)
    # Sides and places are half a pixel apart, stripes and grain may hide an edge.
    away = (boxes - expected)[there].abs()
    assert away.mean() < 0.35 and away.quantile(0.99) < 1.3


def test_marks_alone_are_nothing():
    linked = SCENES.links[..., 0].any(1)
    bare = SCENES._replace(links=torch.zeros_like(SCENES.links))
    marks = world.render(SCENES) - world.render(bare)
    ground = world.to_pixels([world.BACKGROUND], torch.device("cpu"))[0, :, None, None]
    image = torch.maximum(ground.expand_as(marks), torch.where(marks.amin(1, keepdim=True) > 0.9, 1.0, -1.0))
    assert linked.any() and not find_objects(image)[1].any()
    assert (detect_styles(image) == -1).all()


def test_a_style_is_the_objects_wherever_they_are():
    moved = SCENES._replace(boxes=SCENES.boxes[:, [3, 2, 1, 0]])
    assert torch.equal(detect_styles(world.render(moved)), SCENES.styles)
    assert torch.equal(detect_styles(world.render(SCENES)), SCENES.styles)
