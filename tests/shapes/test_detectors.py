"""Detectors on scenes made by hand, and their rates on random ones."""

import itertools
import subprocess
import sys

import pytest
import torch
from scenes import hand_made
from tqdm.auto import tqdm

from amdm.shapes.confusion import chance, count, links_of, measure, rate, tables_of, worst
from amdm.shapes.detectors import (
    colours_of,
    detect_interactions,
    detect_styles,
    fit,
    shapes_of,
)
from amdm.shapes.finding import whiteness
from amdm.shapes.world import COLOURS, KINDS, SHAPES, STYLES, TEST, link_matrix, render, sample_scenes

CONDITIONS = [(0.0, 0.99), (0.05, 0.95), (0.1, 0.95)]


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("colour", COLOURS)
def test_shapes_colours_and_style_of_hand_made_scenes(style, colour):
    scene = hand_made([(shape, colour) for shape in SHAPES], style=style)
    image = render(scene)
    fitted = fit(image, scene.boxes)
    assert shapes_of(fitted).tolist() == [[0, 1, 2, 3]]
    assert colours_of(fitted).tolist() == [[COLOURS.index(colour)] * 4]
    assert detect_styles(image).tolist() == [STYLES.index(style)]


@pytest.mark.parametrize("kind", KINDS[1:])
@pytest.mark.parametrize("ends", list(itertools.permutations(range(4), 2)))
def test_every_interaction_of_every_pair_is_found_and_no_other(kind, ends):
    objects = [("disc", "red"), ("square", "yellow"), ("cross", "cyan"), ("triangle", "green")]
    scene = hand_made(objects, [(kind, *ends)])
    found = detect_interactions(render(scene), scene.boxes)
    assert torch.equal(found, link_matrix(scene))
    assert found[0, ends[0], ends[1]] == KINDS.index(kind) and found.count_nonzero() == 1


@pytest.mark.parametrize("kinds", list(itertools.product(KINDS[1:], repeat=2)))
def test_two_crossing_interactions_are_found(kinds):
    scene = hand_made([("disc", "red")] * 4, [(kinds[0], 0, 3), (kinds[1], 2, 1)])
    assert torch.equal(detect_interactions(render(scene), scene.boxes), link_matrix(scene))


def test_detectors_see_only_what_is_in_the_box():
    """Everything outside the boxes of an image without marks may change."""
    scene = hand_made([("disc", "red"), ("cross", "cyan"), ("triangle", "green"), ("square", "blue")])
    image = render(scene)
    noise = torch.rand(image.shape, generator=torch.Generator().manual_seed(0)) - 1
    x = torch.arange(32)
    free = ((x % 16 < 2) | (x % 16 > 13))[:, None] | ((x % 16 < 2) | (x % 16 > 13))[None, :]
    changed = torch.where(free, noise, image)
    fitted = fit(changed, scene.boxes)
    assert shapes_of(fitted).tolist() == scene.shapes.tolist()
    assert colours_of(fitted).tolist() == scene.colours.tolist()


def test_only_marks_are_white():
    scenes = sample_scenes(range(500))
    bare = scenes._replace(links=torch.zeros_like(scenes.links))
    assert whiteness(render(bare)).max() < 0.1
    marked = scenes.links[..., 0].any(1)
    assert (whiteness(render(scenes))[marked].amax((1, 2)) > 0.99).all()


def test_answers_do_not_depend_on_the_batch():
    scenes = sample_scenes(range(20))
    images = render(scenes)
    shapes = shapes_of(fit(images, scenes.boxes))
    interactions = detect_interactions(images, scenes.boxes)
    for k in range(20):
        one = images[k : k + 1], scenes.boxes[k : k + 1]
        assert torch.equal(shapes_of(fit(*one))[0], shapes[k])
        assert torch.equal(detect_interactions(*one)[0], interactions[k])


@pytest.mark.slow
@pytest.mark.parametrize(("sigma", "least"), CONDITIONS)
def test_rates_on_500_scenes(sigma, least):
    scenes = sample_scenes(TEST[:500], uniform_kinds=True)
    noise = torch.randn(500, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for name, table in tables_of(render(scenes) + sigma * noise, scenes).items():
        assert rate(table) >= least, name
        assert worst(table) >= least, name


@pytest.mark.slow
def test_another_scenes_boxes_leave_chance():
    for table in measure("shuffled", TEST[:1000], tqdm(disable=True)).values():
        assert abs(rate(table) - chance(table)) < 4 * 0.5 / int(table.sum()) ** 0.5


def test_rates_of_a_known_table():
    table = count(torch.tensor([0, 0, 0, 1]), torch.tensor([0, 0, 1, 1]), 2)
    assert table.tolist() == [[2, 1], [0, 1]]
    assert rate(table) == 0.75 and worst(table) == pytest.approx(2 / 3)
    assert chance(table) == pytest.approx(0.75 * 0.5 + 0.25 * 0.5)


def test_classes_of_pairs_tell_the_direction():
    matrix = torch.zeros(1, 4, 4, dtype=torch.long)
    matrix[0, 0, 1], matrix[0, 3, 2] = 2, 4
    assert links_of(matrix).tolist() == [[2, 0, 0, 0, 0, 8]]


@pytest.mark.slow
def test_the_command_writes_tables_and_a_picture(tmp_path):
    command = [
        sys.executable,
        "-m",
        "amdm.shapes.confusion",
        "--scenes",
        "20",
        "--quiet",
        "--out",
        str(tmp_path),
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stderr == "" and len(result.stdout.splitlines()) == 17
    assert len(list(tmp_path.glob("*.csv"))) == 17 and (tmp_path / "confusion.png").exists()
