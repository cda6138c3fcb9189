"""Metrics of rows: flawless images, intervals, differences."""

import numpy as np
import pytest
import torch

from amdm.shapes import quality, scores, world
from amdm.shapes.features import features
from amdm.shapes.scores import Counts
from benchmarks import measures, report, tables
from benchmarks.measures import Estimate, difference, measure, share
from benchmarks.runner import from_bytes, held_out, to_bytes
from benchmarks.tables import Cell, Row


@pytest.fixture(scope="module")
def renders():
    scenes = held_out(0, 100)
    return world.render(scenes), scenes


def test_flawless_images_are_right_in_everything(renders):
    found = measure(*renders)
    for name in ("shapes", "colours", "interactions", "style", "scene right", "ISR avg", "ISR L3", "caption"):
        assert found[name].value > 0.98, name
    assert found["mIoU avg"].value > 0.9 and found["mAP default full"].value > 0.95
    low, high = found["KID"].interval
    assert low < 0 < high
    assert "FID" not in found


def test_images_of_other_scenes_are_not(renders):
    images, scenes = renders
    found = measure(images.roll(1, 0), scenes)
    assert found["ISR avg"].value < 0.2 and found["mAP default full"].value < 0.1


@pytest.mark.slow
def test_seeds_are_of_the_same_scenes(renders):
    """Two seeds, one flawless and one of other scenes: shares are means, and draws are of scenes."""
    images, scenes = renders
    good, bad = measure(images, scenes), measure(images.roll(1, 0), scenes)
    both = measure(torch.cat([images, images.roll(1, 0)]), scenes)
    for name in ("shapes", "ISR avg", "mIoU avg", "caption"):
        assert both[name].value == pytest.approx((good[name].value + bad[name].value) / 2, rel=0.02)
        assert len(both[name].spread) == 1000


def test_quality_is_of_every_seed_by_itself(renders):
    """The same images as two seeds look as they do as one: they are no more alike."""
    images, _ = renders
    once, twice = (measures.looks(features(torch.cat([images] * seeds)), seeds) for seeds in (1, 2))
    for name in ("KID", "precision", "recall"):
        assert twice[name].value == pytest.approx(once[name].value, rel=1e-5), name
    assert twice["KID"].interval == pytest.approx(once["KID"].interval, rel=1e-5)


def test_a_share_and_its_interval_are_those_of_scores():
    generator = np.random.default_rng(0)
    whole = generator.integers(1, 5, 400)
    counts = Counts(torch.tensor(generator.binomial(whole, 0.3)), torch.tensor(whole))
    mine = share(*counts)
    value, low, high = scores.rate(counts)
    assert mine.value == pytest.approx(value)
    assert mine.interval == pytest.approx((low, high), abs=0.004)


def test_nothing_to_resample_is_the_rule_of_three():
    mine = share(torch.ones(300), torch.ones(300))
    assert mine.interval == pytest.approx((0.99, 1.0))


def test_differences_are_paired():
    generator = np.random.default_rng(0)
    base = generator.binomial(1, 0.5, 500).astype(float)
    better = np.maximum(base, generator.binomial(1, 0.1, 500))
    one, other = (share(torch.tensor(some), torch.ones(500)) for some in (better, base))
    gap = difference({"m": one}, {"m": other})["m"]
    assert gap.value == pytest.approx((better - base).mean())
    low, high = gap.interval
    unpaired = one.interval[1] - one.interval[0]
    assert high - low < 0.6 * unpaired and low > 0


def test_the_interval_of_a_mean_over_groups_is_students():
    groups = np.array([1.0, 2, 3, 4, 5])
    low, high = Estimate(3.0, groups, "groups").interval
    assert (low, high) == pytest.approx((3 - 2.7764 * 0.7071, 3 + 2.7764 * 0.7071), abs=1e-3)


def test_images_survive_their_bytes(renders):
    images, _ = renders
    assert (from_bytes(to_bytes(images)) - images).abs().max() <= 1 / 255 + 1e-6
    assert torch.equal(from_bytes(to_bytes(3 * images)), from_bytes(to_bytes((3 * images).clamp(-1, 1))))


def test_tables_are_read_as_they_were_written(tmp_path, renders):
    found = measure(*renders)
    table = {"a": tables.row_of(found, 100, 1, 50), "b": Row(100, 2, None, {"KID": Cell(1.25, 1.0, 1.5)})}
    tables.write(tmp_path / "t.csv", table)
    back = tables.read(tmp_path / "t.csv")
    assert list(back) == ["a", "b"] and back["b"] == table["b"]
    assert back["a"][:3] == (100, 1, 50)
    for name, cell in table["a"].cells.items():
        assert back["a"].cells[name] == pytest.approx(cell, abs=1e-4), name
    assert back["a"].cells["precision"].low is None


@pytest.mark.parametrize(
    ("name", "cell", "expected", "found"),
    [
        ("ISR avg", Cell(2.0, 1.0, 3.0), "more", True),
        ("ISR avg", Cell(2.0, 1.0, 3.0), "less", False),
        ("ISR avg", Cell(1.0, -1.0, 3.0), "more", None),
        ("ISR avg", Cell(0.0, 0.0, 0.0), "more", None),
        ("ISR avg", Cell(-2.0, -3.0, -1.0), "less", True),
        ("ISR avg", Cell(1.0, 0.0, 2.0), "alike", True),
        ("ISR avg", Cell(1.0, -1.0, 4.0), "alike", None),
        ("ISR avg", Cell(5.0, 4.0, 6.0), "alike", False),
        ("ISR avg", Cell(50.0, 40.0, 60.0), "not less", True),
        ("ISR avg", Cell(0.0, -10.0, 10.0), "not less", None),
        ("ISR avg", Cell(-10.0, -11.0, -9.0), "not less", False),
        ("KID", Cell(80.0, -1.0, 161.0), "not more", None),
        ("KID", Cell(5.0, -1.0, 11.0), "not more", True),
        ("KID", Cell(40.0, 30.0, 50.0), "not more", False),
        ("colours", Cell(-60.0, -62.0, -58.0), "little less", False),
        ("colours", Cell(-0.6, -0.9, -0.4), "little less", True),
        ("colours", Cell(0.2, -0.1, 0.5), "little less", True),
        ("colours", Cell(-5.0, -8.0, -2.0), "little less", None),
    ],
)
def test_which_way_a_difference_goes(name, cell, expected, found):
    assert report.goes(name, cell, expected) is found


def test_a_claim_needs_all_its_metrics():
    row = Row(10, 1, None, {"a": Cell(2.0, 1.0, 3.0), "b": Cell(0.5, -1.0, 2.0), "c": Cell(-2.0, -3.0, -1.0)})
    for paper, yes, no in (("1 to 2", "reproduces", "does not reproduce"), ("", "supported", "refuted")):
        claims = [
            report.compare("", paper, row, dict.fromkeys(names, "more"))
            for names in ("a", "ab", "bc", "c", "ac", "abc")
        ]
        assert [claim.verdict for claim in claims] == [yes, "undecided", no, no, "mixed", "mixed"]


CELLS = [
    Cell(value, value - low, value + high)
    for value in (-4.0, -0.5, 0.5, 2.0, 3.5)
    for low, high in ((1, 2), (2, 1), (0, 0), (5, 5))
]


@pytest.mark.parametrize("name", ["ISR avg", "KID"])
@pytest.mark.parametrize("expected", ["more", "less", "not more", "not less", "alike", "little less"])
def test_a_p_value_is_small_where_the_interval_decides(name, expected):
    for cell in CELLS:
        decided = report.goes(name, cell, expected) is not None
        assert (report.p_value(name, cell, expected) < 0.05) == decided, cell


def test_p_values_are_those_of_the_law():
    """1.96 errors from 0 is 5%, 3.29 errors 0.1%; of Student's with 9 degrees of freedom 2.262 and 4.781."""
    for name, at_5, at_01 in (("ISR avg", 1.959964, 3.290527), ("KID", 2.262157, 4.780913)):
        cell = Cell(at_01, at_01 - at_5, at_01 + 99)
        assert report.p_value(name, cell, "more") == pytest.approx(0.001, rel=1e-4)
        margin = report.MARGIN.get(name, report.POINTS)
        shifted = Cell(at_01 - margin, at_01 - margin - at_5, at_01 - margin + 99)
        assert report.p_value(name, shifted, "not less") == pytest.approx(0.001, rel=1e-4)


def test_the_correction_is_benjamini_and_hochbergs():
    """The largest p that is at most its rank's share of 5%: 0.012 is, of rank 2 of 5, the third is not."""
    assert report.cutoff_of([0.9, 0.012, 0.031, 0.2, 0.001]) == 0.012
    assert report.cutoff_of([0.9, 0.5]) == 0.0 and report.cutoff_of([]) == 0.0


def test_a_cell_in_short_has_the_longer_side_of_its_interval():
    assert Cell(2.0, 1.0, 4.0).short() == "2.0±2.0" and Cell(2.0).short() == "2.0"
    assert Cell(2.0, -1.5, 4.0).short("+.2f") == "+2.00±3.50"


def test_what_a_correction_leaves_of_a_verdict():
    row = Row(10, 1, None, {"a": Cell(2.0, 0.01, 4.0), "b": Cell(20.0, 19.0, 21.0)})
    claim = report.compare("", "1 to 2", row, {"a": "more", "b": "more"})
    assert (claim.verdict, claim.at(0.05), claim.at(0.01)) == ("reproduces", "reproduces", "undecided")
    only = report.compare("", "1 to 2", row, {"b": "less"})
    assert only.at(0.01) == only.verdict == "does not reproduce"
    assert report.corrected(report.Claim("", "", "", "supported"), 0.01) == "not tested"


def test_two_rows_that_never_differ_differ_by_the_rule_of_three_at_most():
    one, other = (share(torch.ones(300), torch.ones(300)) for _ in range(2))
    assert (one - other).interval == pytest.approx((-0.01, 0.01))


def row_with(low, high):
    return Row(10, 1, None, {"m": Cell((low + high) / 2, low, high)})


@pytest.mark.parametrize(
    ("here", "otherwise", "verdict"),
    [
        ((1, 3), (-3, -1), "reproduces"),
        ((-3, -1), (1, 3), "reproduces under a condition: other"),
        ((-3, -1), (-1, 3), "does not reproduce"),
        ((-1, 3), (1, 3), "reproduces under a condition: other"),
        ((-1, 3), (-3, -1), "undecided"),
    ],
)
def test_a_claim_that_fails_is_looked_at_under_conditions(here, otherwise, verdict):
    claim = report.compare("c", "p", row_with(*here), {"m": "more"}, {"other": row_with(*otherwise)})
    assert claim.verdict == verdict
    assert ("other: m" in claim.ours) == (verdict != "reproduces")


@pytest.mark.slow
def test_interactions_of_several_seeds_are_those_of_one_if_the_images_are_the_same(renders):
    """Half the images are another scene's: detections of both seeds are ranked together."""
    images, scenes = renders
    half = torch.cat([images[:50], images[50:].roll(1, 0)])
    once, twice = (measure(torch.cat([half] * seeds), scenes) for seeds in (1, 2))
    for name in ("mAP default full", "mAP known rare"):
        assert 0.2 < once[name].value < 0.9
        assert twice[name].value == pytest.approx(once[name].value, abs=0.02), name


def test_fid_is_there_from_a_number_of_images_on(renders, monkeypatch):
    images, _ = renders
    monkeypatch.setattr(quality, "FID_FROM", 100)
    good, bad = (measures.looks(features(x), 1) for x in (images, images.flip(1)))
    assert good["FID"].value < bad["FID"].value and good["FID"].interval is None
    assert measures.looks(features(torch.cat([images] * 2)), 2)["FID"].value == pytest.approx(
        good["FID"].value, rel=1e-4
    )
