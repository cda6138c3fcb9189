"""What each model can do alone: the table's numbers, the command, and what is published."""

import csv
import sys

import pytest
import torch

from amdm.shapes import competence, denoisers, scores, world

HEADER = competence.COLUMNS


def parsed(rows):
    return {(row[0], row[1]): [float(value) if value else None for value in row[2:]] for row in rows}


@pytest.fixture(scope="module")
def scenes():
    return world.sample_scenes(world.VALIDATION[:100])


@pytest.mark.slow
def test_renders_are_right_and_other_scenes_renders_are_by_chance(scenes):
    rows = parsed(competence.table("renders", world.render(scenes), scenes))
    assert [rows["renders", what][1] for what in scores.ATTRIBUTES] == [1, 1, 1, 1]
    for what in scores.ATTRIBUTES[:3]:
        wanted, _, _, _, *chances = rows["renders", what]
        assert wanted > 50 and 0.1 < chances[0] < 0.6
        # What is there put at random: of the caption and of flawless images it is the same.
        assert chances[:3] == pytest.approx(chances[3:], abs=0.02)
    assert rows["renders", "style"][4:] == [None] * 6


@pytest.mark.slow
def test_objects_exchanged_among_their_boxes_score_what_random_says(scenes):
    present = scenes.present.sum(1)
    # The first two objects of every scene change places, links stay with the objects.
    swapped = scenes._replace(boxes=scenes.boxes[:, [1, 0, 2, 3]])
    rows = parsed(competence.table("swapped", world.render(swapped), scenes))
    alike = (scenes.shapes[:, 0] == scenes.shapes[:, 1]).long()
    expected = (present - 2 + 2 * alike).sum() / present.sum()
    assert rows["swapped", "shapes"][1] == pytest.approx(expected.item(), abs=0.01)


@pytest.mark.slow
def test_the_command(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(competence, "BATCH", 7)
    levels = denoisers.sigmas(3)
    monkeypatch.setattr(denoisers, "sigmas", lambda steps: levels)
    arguments = ["layout", "--scenes", "10", "--validation", "--quiet", "--out", str(tmp_path / "a")]
    monkeypatch.setattr(sys, "argv", ["competence", *arguments])
    competence.main()
    printed = capsys.readouterr()
    assert printed.err == "" and "layout" in printed.out
    with (tmp_path / "a" / "competence.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == HEADER and [row[0] for row in rows] == ["renders"] * 4 + ["layout"] * 4
    assert (tmp_path / "a" / "competence.png").read_bytes().startswith(b"\x89PNG")


def test_every_scene_has_its_own_start(monkeypatch):
    scenes = world.sample_scenes(world.VALIDATION[:4])
    levels = denoisers.sigmas(2)
    monkeypatch.setattr(denoisers, "sigmas", lambda steps: levels)
    monkeypatch.setattr(competence, "BATCH", 3)
    bar = competence.tqdm(disable=True)
    together = competence.draw("base", scenes, bar)
    [last] = world.split(world.sample_scenes([world.VALIDATION[3]]), 1)
    torch.testing.assert_close(competence.draw("base", last, bar)[0], together[3], atol=1e-3, rtol=0)


def test_the_published_table_has_the_competence_that_aggregation_needs():
    with (competence.OUT / "competence.csv").open(newline="") as file:
        header, *lines = csv.reader(file)
    assert header == HEADER
    rows = parsed(lines)
    rates = {key: row[1] for key, row in rows.items()}
    assert all(rows[name, "style"][0] == 1000 for name in ("layout", "attribute", "style"))
    assert rates["layout", "shapes"] >= 0.9 and rates["layout", "interactions"] >= 0.85
    assert rates["attribute", "colours"] >= 0.9 and rates["attribute_edm", "colours"] >= 0.9
    assert rates["style", "style"] >= 0.9
