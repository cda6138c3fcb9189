"""Scenes and renders: known areas and colours, frequencies, a golden picture, one seed one scene."""

import math
from pathlib import Path

import pytest
import torch
from matplotlib.image import imread
from scenes import hand_made

from amdm.shapes.world import (
    BACKGROUND,
    BOX_SIDES,
    CELL,
    COLOURS,
    KIND_WEIGHTS,
    LINK_PROBABILITY,
    MAX_WORDS,
    PALETTE,
    SHAPES,
    STYLES,
    TEST,
    TRAIN,
    VALIDATION,
    VOCABULARY,
    Scenes,
    captions,
    grain,
    link_matrix,
    render,
    sample_scenes,
    words,
)

GOLDEN = Path(__file__).with_name("golden.png")


@pytest.fixture(scope="module")
def many():
    return sample_scenes(range(5000))


def share(picked):
    """A frequency and four standard deviations of it."""
    return picked.float().mean().item(), 4 * 0.5 / math.sqrt(picked.numel())


def pixel(colour):
    return 2 * torch.tensor(colour) - 1


def test_a_scene_depends_on_its_seed_alone():
    together = sample_scenes([7, 3, 11], uniform_kinds=True)
    images = render(together)
    for k, seed in enumerate([7, 3, 11]):
        alone = sample_scenes([seed], uniform_kinds=True)
        assert all(torch.equal(a[0], b[k]) for a, b in zip(alone, together, strict=True))
        torch.testing.assert_close(render(alone)[0], images[k], atol=1e-6, rtol=0)


def test_renders_match_the_golden_picture():
    """Kinds, shapes and styles of seeds 0 to 7; any change of the world shows here."""
    images = render(sample_scenes(range(8), uniform_kinds=True))
    golden = torch.from_numpy(imread(GOLDEN))[..., :3]
    golden = golden.unflatten(1, (8, 32)).permute(1, 3, 0, 2)
    torch.testing.assert_close(images, 2 * golden - 1, atol=1.1 / 255, rtol=0)


def test_renders_lie_in_range(many):
    images = render(Scenes(*(field[:500] for field in many)))
    assert images.shape == (500, 3, 32, 32) and images.dtype == torch.float32
    assert images.min() >= -1 and images.max() <= 1


def test_boxes_lie_in_their_own_cells(many):
    x0, y0, x1, y1 = many.boxes.unbind(-1)
    column, row = (x0 // CELL).long(), (y0 // CELL).long()
    assert torch.equal((2 * row + column).sort(1).values, torch.arange(4).expand(len(x0), 4))
    assert (x0 >= CELL * column + 1).all() and (x1 <= CELL * (column + 1) - 1).all()
    assert (y0 >= CELL * row + 1).all() and (y1 <= CELL * (row + 1) - 1).all()
    torch.testing.assert_close(x1 - x0, y1 - y0, atol=1e-5, rtol=0)
    assert (x1 - x0).min() >= BOX_SIDES[0] - 1e-5 and (x1 - x0).max() <= BOX_SIDES[1] + 1e-5


def test_links_join_two_present_objects_each_linked_once(many):
    matrix = link_matrix(many)
    linked = matrix > 0
    assert (linked.sum(1) + linked.sum(2)).max() == 1
    assert not (linked & ~(many.present[:, :, None] & many.present[:, None, :])).any()
    assert not linked.diagonal(dim1=1, dim2=2).any()


@pytest.mark.parametrize("uniform", [False, True])
def test_kinds_are_as_frequent_as_said(uniform):
    scenes = sample_scenes(range(5000), uniform_kinds=uniform)
    kinds = scenes.links[..., 0]
    possible = torch.stack([torch.ones(5000, dtype=torch.bool), scenes.present.all(1)], dim=1)
    frequency, margin = share(kinds[possible] > 0)
    assert abs(frequency - LINK_PROBABILITY) < margin
    for kind, weight in enumerate(KIND_WEIGHTS, start=1):
        frequency, margin = share(kinds[kinds > 0] == kind)
        assert abs(frequency - (0.25 if uniform else weight)) < margin


def test_numbers_shapes_colours_and_styles_are_equally_frequent(many):
    here = many.present
    for values, classes in [
        (here.sum(1) - 2, 3),
        (many.shapes[here], len(SHAPES)),
        (many.colours[here], len(COLOURS)),
        (many.styles, len(STYLES)),
    ]:
        for k in range(classes):
            frequency, margin = share(values == k)
            assert abs(frequency - 1 / classes) < margin


def test_splits_share_no_seed():
    assert TRAIN.stop == VALIDATION.start and VALIDATION.stop == TEST.start
    assert len(TRAIN) == 10_000_000 and len(VALIDATION) == len(TEST) == 1_000_000


@pytest.mark.parametrize("seeds", [[], [-1], [0, 2**63]])
def test_bad_seeds_are_refused(seeds):
    with pytest.raises(ValueError, match="seeds must be"):
        sample_scenes(seeds)


@pytest.mark.parametrize("side", [9.5, 10.3, 11.0, 12.5])
def test_a_disc_covers_its_area(side):
    image = render(hand_made([("disc", "red")], side=side))
    red, ground = pixel(PALETTE[0])[0], pixel(BACKGROUND)[0]
    area = ((image[0, 0] - ground) / (red - ground)).sum().item()
    assert area == pytest.approx(math.pi * (side / 2) ** 2, rel=0.01)


@pytest.mark.parametrize("colour", COLOURS)
def test_a_flat_square_has_its_colour_inside_and_the_ground_outside(colour):
    image = render(hand_made([("square", colour)]))[0]
    expected = pixel(PALETTE[COLOURS.index(colour)])
    torch.testing.assert_close(image[:, 4:12, 4:12].mean((1, 2)), expected, atol=1e-5, rtol=0)
    outside = image.clone()
    outside[:, 2:14, 2:14] = pixel(BACKGROUND)[:, None, None]
    torch.testing.assert_close(
        outside, pixel(BACKGROUND)[:, None, None].expand_as(outside), atol=1e-5, rtol=0
    )


def test_a_squares_area_is_that_of_its_sides():
    image = render(hand_made([("square", "red")]))
    red, ground = pixel(PALETTE[0])[0], pixel(BACKGROUND)[0]
    area = ((image[0, 0] - ground) / (red - ground)).sum().item()
    assert area == pytest.approx((0.9 * 11) ** 2, rel=0.01)


def test_styles_keep_the_hue_and_change_the_brightness():
    flat = render(hand_made([("square", "green")]))[0, :, 4:12, 4:12] + 1
    for style in STYLES[1:]:
        other = render(hand_made([("square", "green")], style=style))[0, :, 4:12, 4:12] + 1
        factor = other / flat
        torch.testing.assert_close(factor, factor[:1].expand_as(factor), atol=1e-4, rtol=0)
        assert factor.min() >= 0.29 and factor.max() <= 1 + 1e-5 and factor.std() > 0.1


def test_grain_is_uniform_and_differs_between_seeds():
    grains = (grain(torch.arange(200)) - 0.3) / 0.7
    assert grains.min() >= 0 and grains.max() < 1
    assert abs(grains.mean() - 0.5) < 0.005 and abs(grains.var() - 1 / 12) < 0.002
    correlations = torch.corrcoef(grains.flatten(1)) - torch.eye(200)
    assert correlations.abs().max() < 6 / 32  # 6 standard deviations: one over the root of 1024 pixels
    assert torch.corrcoef(torch.stack([grains[:, :, 1:].flatten(), grains[:, :, :-1].flatten()]))[0, 1] < 0.01


def test_a_mark_changes_when_it_is_turned_round():
    pair = [("disc", "red"), ("disc", "red")]
    for kind in ["holding", "pointing", "wearing", "chained"]:
        forth, back = (render(hand_made(pair, [(kind, *ends)])) for ends in [(0, 1), (1, 0)])
        assert (forth - back).square().sum() > 5
        # What is turned round is the other's mirror image.
        torch.testing.assert_close(forth, back.flip(3), atol=1e-5, rtol=0)


def test_a_caption_is_the_set_of_words():
    scene = hand_made(
        [("disc", "red"), ("disc", "blue"), ("cross", "red")], [("wearing", 2, 0)], style="striped"
    )
    ids = captions(scene)
    assert words(ids[0]) == {"disc", "cross", "red", "blue", "wearing", "striped"}
    assert ids.shape == (1, MAX_WORDS) and (ids[0, 6:] == 0).all()
    assert (ids[0, :6].diff() > 0).all()


def test_captions_forget_who_is_what():
    one = hand_made([("disc", "red"), ("cross", "blue")], [("pointing", 0, 1)])
    other = hand_made([("cross", "red"), ("disc", "blue")], [("pointing", 0, 1)])
    assert torch.equal(captions(one), captions(other))


def test_captions_of_many_scenes_hold_every_word(many):
    ids = captions(many)
    assert set(ids.unique().tolist()) == set(range(len(VOCABULARY)))
    for k in range(50):
        here = many.present[k]
        shapes = {SHAPES[i] for i in many.shapes[k][here].tolist()}
        assert shapes == words(ids[k]) & set(SHAPES)
