"""Parts of pictures: artists have the tables' numbers, and pictures are redrawn from tables."""

import shutil
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from amdm import plots
from amdm.shapes import world
from benchmarks import pictures, redraw
from benchmarks.__main__ import HERE
from benchmarks.experiment import Experiment
from benchmarks.runner import held_out
from benchmarks.tables import Cell, Row

TABLE = {
    "layout": Row(20, 1, 50, {"ISR avg": Cell(40.0, 35.0, 46.0), "KID": Cell(9.0, -3.0, 20.0)}),
    "layout(+attribute)": Row(20, 1, 70, {"ISR avg": Cell(90.0, 88.0, 95.0), "KID": Cell(5.0, 1.0, 8.0)}),
}


def test_every_row_is_a_dot_with_its_interval_in_the_methods_colour():
    figure = plots.empty()
    pictures.dots(figure, TABLE, ["ISR avg", "KID"], (2, 1))
    share, kid = figure.axes
    ends = [line.get_segments()[0][:, 0].tolist() for line in share.collections]
    assert ends == [[35.0, 46.0], [88.0, 95.0]] and share.get_xlim() == (0, 100)
    assert [line.get_xdata().tolist() for line in kid.lines] == [[9.0], [5.0]]
    assert [line.get_color() for line in kid.lines] == [plots.COLOURS["black"], plots.COLOURS["blue"]]
    assert [text.get_text() for text in kid.texts] == ["9", "5"]
    assert [label.get_text() for label in share.get_yticklabels()] == list(TABLE)


def test_curves_have_colours_of_their_own():
    axes = plots.empty().subplots()
    for name in "ab":
        pictures.curve(axes, [1.0, 2.0], TABLE, list(TABLE), "ISR avg", name)
    assert [list(line.get_ydata()) for line in axes.lines] == [[40.0, 90.0]] * 2
    assert len({line.get_color() for line in axes.lines}) == 2


@pytest.mark.parametrize("columns", [2, 6])
def test_images_fill_the_width_without_gaps(columns):
    scenes = held_out(0, 8)
    names = [f"method {k}" for k in range(columns)]
    table = dict.fromkeys(names, TABLE["layout"])
    images = dict.fromkeys(names, world.render(scenes))
    figure = pictures.sheet(table, images, scenes, metrics=["ISR avg", "KID"])
    figure.draw_without_rendering()
    shown = [axes for axes in figure.findobj(lambda artist: getattr(artist, "images", [])) if axes.images]
    boxes = [axes.get_window_extent() for axes in shown[:2] + shown[columns + 1 : columns + 2]]
    gaps = boxes[1].x0 - boxes[0].x1, boxes[0].y0 - boxes[2].y1
    assert max(gaps) < 0.12 * boxes[0].width and boxes[0].width > 70


def test_pictures_are_redrawn_from_their_tables(tmp_path):
    shutil.copy(HERE / "results" / "best_length.csv", tmp_path)
    redraw.main(["best_length", "--results", str(tmp_path)])
    with Image.open(tmp_path / "best_length.png") as picture:
        assert picture.width == round(200 * plots.WIDTH)


def test_images_are_drawn_when_they_are_asked_for():
    asked = []
    drawer = SimpleNamespace(draw=lambda scenes, seed, device: asked.append((len(scenes.seeds), seed)))
    images = redraw.Shown(Experiment({"one": drawer, "two": drawer}, scenes=20))
    assert list(images) == ["one", "two"] and len(images) == 2 and not asked
    assert images["two"] is None and asked == [(redraw.SCENES, 0)]
    assert torch.equal(images.scenes.seeds, held_out(0, redraw.SCENES).seeds)
