"""What is found in images without being told where."""

import pytest
import torch
from scenes import hand_made

from amdm.shapes import world
from amdm.shapes.instances import box_iou
from amdm.shapes.reading import Read, read, said
from amdm.shapes.world import COLOURS, KINDS, SHAPES, STYLES, TEST, VOCABULARY, render, sample_scenes


def words(row):
    return {word for word, spoken in zip(VOCABULARY[1:], row.tolist(), strict=True) if spoken}


def test_a_hand_made_scene_is_read_to_the_last_word():
    scene = hand_made(
        [("disc", "red"), ("cross", "cyan"), ("disc", "blue")], [("pointing", 2, 1)], style="striped"
    )
    seen = read(render(scene))
    assert seen.present.tolist() == [[True, True, True, False]]
    assert seen.shapes[0, :3].tolist() == scene.shapes[0, :3].tolist()
    assert seen.colours[0, :3].tolist() == scene.colours[0, :3].tolist()
    assert seen.interactions.nonzero().tolist() == [[0, 2, 1]]
    assert seen.interactions[0, 2, 1] == KINDS.index("pointing")
    assert seen.confidences[0, 2, 1] == pytest.approx(1, abs=0.1) and seen.confidences.count_nonzero() == 1
    assert STYLES[seen.styles[0]] == "striped"
    assert words(said(seen)[0]) == {"disc", "cross", "red", "cyan", "blue", "pointing", "striped"}


@pytest.mark.slow
def test_captions_as_seen_are_the_captions_of_500_scenes():
    scenes = sample_scenes(TEST[:500], uniform_kinds=True)
    spoken = said(read(render(scenes)))
    alike = [words(row) == world.words(ids) for row, ids in zip(spoken, world.captions(scenes), strict=True)]
    assert sum(alike) >= 495


@pytest.mark.slow
def test_boxes_are_where_the_objects_are():
    scenes = sample_scenes(TEST[:500])
    seen = read(render(scenes))
    overlap = (box_iou(scenes.boxes, seen.boxes) * seen.present[:, None, :]).amax(2)
    assert overlap[scenes.present].mean() > 0.9
    assert torch.equal(seen.present.sum(1), scenes.present.sum(1))


def test_an_empty_image_says_nothing():
    empty = hand_made([("disc", "red")])._replace(present=torch.zeros(1, 4, dtype=torch.bool))
    seen = read(render(empty))
    assert not seen.present.any() and seen.styles.tolist() == [-1] and not said(seen).any()


@pytest.mark.parametrize("kept", range(4))
def test_what_is_read_does_not_depend_on_the_batch(kept):
    scenes = sample_scenes(TEST[:4], uniform_kinds=True)
    images = render(scenes)
    whole = Read(*(field[kept] for field in read(images)))
    part = Read(*(field[0] for field in read(images[kept : kept + 1])))
    there = whole.present
    assert torch.equal(there, part.present) and bool(there.any())
    for field in (
        "boxes",
        "shapes",
        "colours",
    ):  # what is not there has any box: all fit nothing equally well
        assert torch.equal(getattr(whole, field)[there], getattr(part, field)[there])
    for field in ("interactions", "confidences", "styles"):
        assert torch.equal(getattr(whole, field), getattr(part, field))


def test_words_are_those_of_the_vocabulary():
    assert VOCABULARY[1:] == (*SHAPES, *COLOURS, *KINDS[1:], *STYLES)
