"""The notebooks run from top to bottom, and what is committed shows what they printed."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

# What makes a notebook small beside NOTEBOOK_SIZE, which those read that have sizes of their own.
FEWER_STEPS = {
    "quickstart": {"sigmas(50)": "sigmas(8)", "told), 20)": "told), 3)"},
    "spherical_vs_linear": {"sigmas(50)": "sigmas(8)", "(1, 20)": "(1, 4)"},
}
NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_committed_and_small(path):
    assert path.stat().st_size < 2**20
    cells = [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert any("image/png" in output.get("data", {}) for cell in cells for output in cell.outputs)
    assert not any(output.output_type == "error" for cell in cells for output in cell.outputs)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run(path, monkeypatch):
    monkeypatch.setenv("NOTEBOOK_SIZE", "small")
    text = path.read_text()
    for steps, fewer in FEWER_STEPS.get(path.stem, {}).items():
        assert text.count(steps) == 1
        text = text.replace(steps, fewer)
    client = NotebookClient(
        nbformat.reads(text, 4), timeout=300, resources={"metadata": {"path": path.parent}}
    )
    made = client.execute()  # an error in a cell is raised
    assert all(cell.execution_count for cell in made.cells if cell.cell_type == "code")
