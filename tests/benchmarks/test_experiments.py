"""Every experiment as a whole, on images that need no model: what it draws, its picture, its section."""

import re
from importlib import import_module

import matplotlib
import pytest
import torch

from amdm.shapes import world
from benchmarks import (
    best_length,
    measures,
    overview,
    paper,
    report,
    stages,
    table1_2,
    table3,
    table4,
    table10,
    tables,
)
from benchmarks.__main__ import EXPERIMENTS, HERE, SIZES, WITHOUT_IMAGES, main, modules, parse
from benchmarks.methods import Method
from benchmarks.runner import held_out, settings

SCENES = held_out(0, 20)
WITH_IMAGES = [name for name in EXPERIMENTS if name not in WITHOUT_IMAGES]


@pytest.fixture(scope="module")
def flawless():
    return world.render(SCENES)


@pytest.fixture(scope="module")
def estimates(flawless):
    found = measures.measure(flawless, SCENES)
    return found | {"KID above renders": found["KID"] - found["KID"]}


@pytest.mark.slow
@pytest.mark.parametrize("name", WITH_IMAGES)
def test_every_experiment_has_a_picture_and_a_section(name, flawless, estimates, tmp_path):
    module = import_module(f"benchmarks.{name}")
    plan = module.experiment("full")
    if plan.measure is not measures.measure:
        estimates = plan.measure(flawless, SCENES, next(iter(plan.rows.values())))
    table = {row: tables.row_of(estimates, 20, 1, method.calls.total()) for row, method in plan.rows.items()}
    nothing = tables.row_of(measures.difference(estimates, estimates), 20, 1)
    differences = {f"{one} - {other}": nothing for one, other in plan.pairs}
    module.figure(table, dict.fromkeys(plan.rows, flawless), SCENES).savefig(tmp_path / "picture.png")
    text = report.text(name, module, table, differences, {})
    assert text.startswith(f"## {module.TITLE}") and "nan" not in text
    found = [part for part in text.split("\n\n") if "\n---|" in part]
    assert len(found) <= 1
    for part in found:
        (width,) = {line.count("|") for line in part.splitlines()}
        assert width < 8 and "" not in [line.split(" | ")[0] for line in part.splitlines()]


@pytest.mark.parametrize("name", WITH_IMAGES)
def test_experiments_compare_rows_that_they_have_and_draw_none_twice(name):
    plan = import_module(f"benchmarks.{name}").experiment("full")
    assert {row for pair in plan.pairs for row in pair} <= set(plan.rows)
    assert len({str(settings(method)) for method in plan.rows.values()}) == len(plan.rows)
    assert plan.scenes % measures.GROUPS == 0 or plan.measure is not measures.measure


def test_the_quick_size_is_tables_1_and_2_on_500_scenes():
    assert SIZES["quick"] == ("table1_2",) and set(SIZES["quick"]) < set(SIZES["full"])
    plan = import_module("benchmarks.table1_2").experiment("quick")
    assert (plan.scenes, plan.seeds) == (500, 1)
    assert [method.calls.total() for method in plan.rows.values()] == [50, 70, 50, 70]
    assert plan.rows["layout(+attribute)"] == Method(("layout", "attribute"))


def test_the_papers_tables_have_as_many_numbers_as_columns():
    tables_of = [getattr(paper, name) for name in dir(paper) if name.startswith("TABLE_")]
    assert len(tables_of) == 9
    numbers = list(paper.numbers())
    assert len(numbers) == sum(len(row) for rows in tables_of for row in list(rows.values())[1:])
    assert ("table 1", "MIGC", "FID", 30.53) in numbers
    for rows in tables_of:
        assert {len(row) for row in rows.values()} == {len(rows["columns"])}
    # The averages are of instances: a level of k has k of them, and there are as many scenes of every level.
    for rows in (paper.TABLE_2, paper.TABLE_10):
        for name, row in rows.items():
            if name != "columns" and (rows, name) != (paper.TABLE_10, "InteractDiffusion(+MIGC)"):
                for levels in (row[:6], row[6:12]):
                    mean = sum(k * value for k, value in zip(range(2, 7), levels, strict=False)) / 20
                    assert mean == pytest.approx(levels[5], abs=1.5), (name, levels)


OURS = {"Default Full": "mAP default full", "Default Rare": "mAP default rare", "FID": "KID"}


def as_the_paper_has_it(names, *papers):
    """Differences of all pairs of rows, by our names, as the paper's tables give them, without doubt."""
    cells = {}
    for rows in papers:
        for theirs, ours in names.items():
            values = zip(rows["columns"], rows[theirs], strict=True)
            cells.setdefault(ours, {}).update({OURS.get(name, name): value for name, value in values})
    differences = {}
    for one in cells:
        for other in cells:
            gaps = {name: cells[one][name] - cells[other][name] for name in cells[one]}
            gaps["colours"] = gaps.get("ISR avg", 0.0)
            gaps["interactions"] = gaps.get("mAP default full", 0.0)
            exact = {name: tables.Cell(gap, gap - 1e-9, gap + 1e-9) for name, gap in gaps.items()}
            differences[f"{one} - {other}"] = tables.Row(500, 1, None, exact)
    return differences


def roles(module):
    """Which of our rows play the paper's."""
    if module is table1_2:
        alone = {"InteractDiffusion": module.A, "MIGC": module.B}
        joined = {"InteractDiffusion(+MIGC)": module.AB, "MIGC(+InteractDiffusion)": module.BA}
        return [(alone | joined, paper.TABLE_1, paper.TABLE_2)]
    if module is table3:
        return [({f"{x:g}": row for row, x in module.PAPER.items()}, paper.TABLE_3)]
    if module is table4:
        read_both_ways = {window: window for window in module.WINDOWS}
        from_the_lead = {window: f"{window}{module.LEAD}" for window in module.WINDOWS}
        return [(read_both_ways, paper.TABLE_4), (from_the_lead, paper.TABLE_4)]
    return [({"InteractDiffusion": module.A, "InteractDiffusion(+MIGC)": module.BY_INDEX}, paper.TABLE_10)]


# A gain does not refute these.
TOLERANT = ("with minor losses", "looks no worse")


@pytest.mark.parametrize("module", [table1_2, table3, table4, table10], ids=lambda module: module.__name__)
@pytest.mark.parametrize("sign", [1, -1])
def test_the_papers_own_numbers_reproduce_its_claims_and_their_negatives_do_not(module, sign):
    """Of the claims that have numbers of the paper, and whose metrics the paper gives."""
    plan = module.experiment("full")
    unknown = {name: tables.Cell(0.0, -99.0, 99.0) for name in OURS.values()}
    shares = ("ISR avg", "mIoU avg", "colours", "interactions", "scene right")
    unknown |= dict.fromkeys(shares, tables.Cell(0.0, -99.0, 99.0))
    differences = {f"{one} - {other}": tables.Row(500, 1, None, dict(unknown)) for one, other in plan.pairs}
    for names, *papers in roles(module):
        known = {k: v for k, v in as_the_paper_has_it(names, *papers).items() if k in differences}
        for pair, row in known.items():
            for metric, cell in row.cells.items():
                gap = sign * cell.value
                differences[pair].cells[metric] = tables.Cell(gap, gap - 1e-9, gap + 1e-9)
    claims = [claim for claim in module.section({}, differences).claims if claim.paper[0] != "("]
    decided = [claim for claim in claims if claim.verdict != "undecided"]
    assert decided
    expected = "reproduces" if sign == 1 else "does not reproduce"
    for claim in decided:
        if sign == 1 or not any(words in claim.claim for words in TOLERANT):
            assert claim.verdict == expected, claim


def test_what_was_told_last_shows_where_nothing_was_decided(flawless):
    """Images of what was told first are right in that, and of what was told then in that."""
    method = stages.Exchanged("layout", "attributes", 10)
    then = stages.other(SCENES, "attributes")
    for images, right, wrong in ((flawless, "first", "then"), (world.render(then), "then", "first")):
        found = stages.measure(images, SCENES, method)
        for name in ("shapes", "colours", "interactions", "style", "places"):
            assert found[f"{name} told {right}"].value > 0.95, name
            assert found[f"{name} told {wrong}"].value < 0.1, name


def test_mirrored_boxes_show_in_the_places(flawless):
    """What is right before is wrong after, but where a scene is its own mirror image."""
    method = stages.Exchanged("layout", "boxes", 10)
    mirrored = stages.other(SCENES, "boxes")
    for images, right, wrong in ((flawless, "first", "then"), (world.render(mirrored), "then", "first")):
        found = stages.measure(images, SCENES, method)
        assert found[f"places told {right}"].value > 0.95
        assert found[f"places told {wrong}"].value < 0.4
        gap = found["places, gap"]
        assert gap.interval[0] <= gap.value <= gap.interval[1] and abs(gap.value) > 0.6
        assert (gap.value > 0) == (right == "first")


def test_the_step_of_decision_is_where_the_curves_cross():
    def cell(step):
        gap = 10 * (step - 13.5)
        return tables.Row(10, 1, None, {"shapes, gap": tables.Cell(gap, gap - 10, gap + 15)})

    table = {stages.label("layout", "attributes", step, "ddim"): cell(step) for step in stages.STEPS}
    assert stages.decided(table, "layout", "attributes", "shapes", "ddim") == [13.5, 12, 14.5]


def test_no_correction_a_part_of_the_way_and_all_of_it_on_mixtures(monkeypatch):
    """At weight 1/2 without correction some samples have both attributes; deviations are lengths."""
    monkeypatch.setattr(best_length, "SAMPLES", 50)
    right, deviation = best_length.sample(64, 4.0, 0.0, "part")
    assert right.shape == (50,) and right.sum() > 0 and deviation > 0
    length_right, _ = best_length.sample(64, 4.0, 0.0, "length")
    assert torch.equal(right, length_right)
    all_the_way = best_length.sample(64, 4.0, 1.0, "part")[0]
    assert torch.equal(all_the_way, best_length.sample(64, 4.0, 1e9, "length")[0])


def test_both_attributes_is_the_mode_that_both_models_have():
    models = best_length.attribute_pair((64,), 4.0)
    first, second = (model.means for model in models)
    assert best_length.has_both(first, first, second).tolist() == [True, False, False, False]
    assert best_length.has_both(second, first, second).tolist() == [True, False, False, False]
    assert not best_length.has_both(first[1:] + second[1:] - first[0], first, second).any()


def test_the_mixtures_table_has_a_picture_and_a_section(tmp_path):
    cells = {best_length.BOTH: tables.Cell(50.0, 45.0, 55.0), best_length.GAIN: tables.Cell(0.0, -1.0, 1.0)}
    cells[best_length.DEVIATION] = tables.Cell(1.0)
    table = {
        best_length.label(radius, n, how): tables.Row(500, 1, 70, cells)
        for radius in best_length.RADII
        for n in best_length.DIMENSIONS
        for how in best_length.HOW
    }
    best_length.figure(table).savefig(tmp_path / "picture.png")
    text = report.text("best_length", best_length, table, {}, {})
    assert text.count("\nn = ") == 4 and text.count("| none") == 9  # the head has one


@pytest.mark.slow
def test_a_report_has_the_sections_that_have_tables(tmp_path, estimates):
    module = import_module("benchmarks.table1_2")
    plan = module.experiment("quick")
    (tmp_path / "results").mkdir()
    row = tables.row_of(estimates, 20, 1, 50)
    tables.write(tmp_path / "results" / "table1_2.csv", dict.fromkeys(plan.rows, row))
    nothing = tables.row_of(measures.difference(estimates, estimates), 20, 1)
    differences = {f"{one} - {other}": nothing for one, other in plan.pairs}
    tables.write(tmp_path / "results" / "table1_2_differences.csv", differences)
    (tmp_path / "results" / "table1_2.json").write_text("{}")
    every = modules()
    text = report.write(tmp_path, every).read_text()
    assert re.findall(r"^## (.*)$", text, re.M) == ["How to read this", overview.TITLE, module.TITLE]
    assert "(results/table1_2.png)" in text and "undecided" in text


@pytest.mark.parametrize("argv", [["table5"], ["--scenes", "25"], ["--scenes", "10"]])
def test_arguments_that_make_no_sense_are_refused(argv, capsys):
    with pytest.raises(SystemExit):
        parse(argv)
    assert "error: " in capsys.readouterr().err


def test_the_report_alone_is_of_the_tables_that_are_there(tmp_path, capsys):
    main(["--report", "--out", str(tmp_path)])
    assert report.HEAD in (tmp_path / "REPORT.md").read_text()
    assert parse(["--report"]).out == HERE


def test_trials_do_not_overwrite_the_results():
    assert matplotlib.get_backend()  # figures need no display
    assert parse(["--size", "full"]).out.name == "benchmarks"
    assert parse(["--size", "full", "--scenes", "20"]).out.parts[0] == "out"
    assert parse([]).out.parts[0] == "out"
