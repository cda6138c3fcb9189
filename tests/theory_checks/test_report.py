"""The report: statements grouped, verdicts counted, exit statuses, files that can be read."""

import json
import math
from dataclasses import replace
from functools import partial

import pytest

from theory_checks import chord
from theory_checks.__main__ import main
from theory_checks.record import Record
from theory_checks.report import picture, ratio, rows, span, table, write_json


def record(statement="A", **numbers):
    return Record(statement=statement, claim="p <= 0.05", assumptions="none", **numbers)


HOLDS = record(claimed=0.05, measured=0.01, low=0.0, high=0.02, bound=2.0, trivial=math.inf)
FAILS = record("B", claimed=0.05, measured=0.2, low=0.1, high=0.3)
NOT_OURS = record("B", claimed=0.05, measured=0.2, low=0.1, high=0.3, ours=False)
EXACT = record("C", claimed=1.0, measured=1.0, low=1.0, high=1.0, sense="equal")


def test_statements_keep_their_order_and_their_records():
    grouped = rows([FAILS, HOLDS, FAILS, EXACT])
    assert [(row.statement, len(row.records)) for row in grouped] == [("B", 2), ("A", 1), ("C", 1)]
    assert grouped[0].verdict == "fails" and "red" in grouped[0].colour
    mixed = rows([HOLDS, record(claimed=0.05, low=0.1, high=0.2)])[0]
    assert mixed.verdict == "holds: 1, fails: 1"
    assert rows([NOT_OURS])[0].verdict == "fails (not our claim)"
    assert "red" not in rows([NOT_OURS])[0].colour


def test_spans():
    assert span([math.nan, 0.5, 0.25, math.inf]) == "0.25 .. 0.5"
    assert span([0.5, 0.5]) == "0.5" and span([math.nan]) == ""


def test_json_is_strict_and_keeps_every_number(tmp_path):
    write_json([HOLDS, EXACT], tmp_path / "t.json")
    one, other = json.loads((tmp_path / "t.json").read_text(), parse_constant=pytest.fail)
    assert one["measured"] == 0.01 and one["trivial"] == "inf" and one["verdict"] == "holds"
    assert one["exact"] is None and other["high"] == 1.0


def test_the_table_names_every_statement():
    lines = table([HOLDS, FAILS, EXACT])
    assert list(lines.columns[0].cells) == ["A", "B", "C"]


def test_the_picture_has_a_dot_per_setting_and_no_empty_lines(tmp_path):
    bound = replace(HOLDS, tightness=0.25)
    zero = record("D", claimed=0.0, measured=1e-16, low=0.0, high=0.0, sense="equal", tolerance=1e-9)
    figure = picture([bound, FAILS, replace(FAILS, measured=0.01), EXACT, zero])
    figure.savefig(tmp_path / "t.png")
    bounds, others = figure.axes
    (dot,) = bounds.collections
    assert dot.get_offsets()[:, 0].tolist() == [0.25]
    placed = [dots.get_offsets()[:, 0].tolist() for dots in others.collections]
    assert placed[:2] == [[2.0, pytest.approx(0.2)], [1.0]]
    assert [text.get_text() for text in others.texts] == ["claimed 0, measured 1e-16 at most"]
    assert [label.get_text() for label in others.get_yticklabels()] == ["B", "C", "D"]


def test_a_picture_without_bounds_has_one_panel():
    assert len(picture([EXACT]).axes) == 1


def test_ratios():
    assert ratio(HOLDS) == pytest.approx(0.2) and ratio(FAILS) == 2 and math.isnan(ratio(record(claimed=0.0)))


def command(monkeypatch, tmp_path, *given):
    monkeypatch.setattr("sys.argv", ["x", "--size", "small", "--quiet", "--out", str(tmp_path), *given])
    return main()


def test_the_command_runs_a_module_and_leaves_its_files(tmp_path, monkeypatch, capsys):
    assert command(monkeypatch, tmp_path, "--only", "lemma_a1") == 0
    assert "Lemma A.1, Chernoff below" in capsys.readouterr().out
    assert len(json.loads((tmp_path / "theory.json").read_text())) > 10
    assert (tmp_path / "theory.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("records", "status"), [([HOLDS, NOT_OURS], 0), ([HOLDS, FAILS], 1), ([NOT_OURS], 0)]
)
def test_the_exit_status_says_whether_our_claims_hold(records, status, tmp_path, monkeypatch):
    monkeypatch.setattr(chord, "checks", lambda *_: [partial(replace, record) for record in records])
    assert command(monkeypatch, tmp_path, "--only", "chord") == status
