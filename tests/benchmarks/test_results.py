"""The committed results: the report and the README say what the tables say."""

from importlib import import_module
from pathlib import Path

import pytest

from benchmarks import report, tables
from benchmarks.__main__ import FULL, HERE

SUMMARY = ("mAP default full", "ISR avg", "scene right", "KID above renders")
README = Path(__file__).parents[2] / "README.md"
RESULTS = sorted(path.stem for path in (HERE / "results").glob("*.csv") if "differences" not in path.stem)


def test_the_readmes_summary_is_that_of_tables_1_and_2():
    table = tables.read(HERE / "results" / "table1_2.csv")
    lines = README.read_text().splitlines()
    for name, row in list(table.items())[1:]:
        cells = " | ".join(str(row.cells[metric]) for metric in SUMMARY)
        assert f"| `{name}` | {cells} | {row.evaluations} |" in lines


def test_the_report_is_made_from_the_tables(tmp_path):
    (tmp_path / "results").symlink_to(HERE / "results")
    made = report.write(tmp_path, {name: import_module(f"benchmarks.{name}") for name in FULL})
    assert made.read_text() == (HERE / "REPORT.md").read_text()


@pytest.mark.parametrize("name", RESULTS)
def test_every_table_has_a_picture_and_a_manifest_and_knows_its_commit(name):
    assert (HERE / "results" / f"{name}.png").exists()
    manifest = (HERE / "results" / f"{name}.json").read_text()
    assert '"measured by"' in manifest and "+changes" not in manifest
