"""The script for GPUs: real architectures by their known sizes, and the whole of it with few channels."""

import ast
import csv
import gc
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from zipfile import ZipFile

import pytest
import torch

from amdm.shapes.imports import import_beside_torchvision
from benchmarks.speed import gpu
from benchmarks.speed.unets import Kind, weights_of

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")


@pytest.mark.parametrize(("name", "parameters"), [("sd15", 859_520_964), ("sdxl", 2_567_463_684)])
def test_the_networks_have_the_sizes_of_the_published_ones(name, parameters):
    network = Kind(name, torch.device("meta"), torch.float16).network()
    assert sum(each.numel() for each in network.parameters()) == parameters
    assert weights_of([network, network]) == 2 * parameters
    assert torch.get_default_dtype() == torch.float32


@pytest.mark.parametrize("name", ["sd15", "sdxl"])
def test_loras_in_one_batch_are_those_one_after_the_other(name):
    kind, loras = Kind(name, CPU, torch.float64, tiny=True), ["a", "b", "c"]
    network = kind.network(loras)
    assert {(each.dtype, each.device) for each in network.parameters()} == {(torch.float64, CPU)}
    xs, sigma = [x.double() for x in kind.latents(3)], torch.tensor([2.0], dtype=torch.float64)
    one_by_one = [model(x, sigma) for model, x in zip(kind.models_of_loras(network, loras), xs, strict=True)]
    together = kind.model_of_all_loras(network, loras)(torch.cat(xs), sigma.expand(3)).split(1)
    for one, other in zip(one_by_one, together, strict=True):
        torch.testing.assert_close(one, other)
    other = kind.models_of_loras(network, loras[1:])[0]
    assert not torch.allclose(one_by_one[0], other(xs[0], sigma), atol=0.01)
    assert not any(layer._forward_pre_hooks for layer in network.modules())


def here(arguments, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    gpu.main(arguments)
    gc.unfreeze()


def in_a_fresh_process(arguments, monkeypatch):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "benchmarks.speed.gpu", *arguments]
    subprocess.run(command, check=True, capture_output=True, env=environment)


@pytest.mark.parametrize("run", [here, pytest.param(in_a_fresh_process, marks=pytest.mark.slow)])
def test_the_whole_script(run, tmp_path, monkeypatch):
    run(["--tiny", "--models", "2", "--out", str(tmp_path)], monkeypatch)
    found = json.loads((tmp_path / "gpu.json").read_text())
    with (tmp_path / "gpu.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [(line["network"], line["case"]) for line in lines] == [
        (row["network"], row["case"]) for row in found["rows"]
    ]
    for name in ("sd15", "sdxl"):
        rows = {row["case"]: row for row in found["rows"] if row["network"] == name}
        unmeasured = {case for case, row in rows.items() if row["seconds"] is None}
        assert len(rows) == 8
        assert unmeasured == {gpu.TWO_GPUS, gpu.COMPILED}
        assert all(rows[case]["note"].startswith("left out") for case in unmeasured)
        assert found["seconds_per_evaluation"][name] == rows[gpu.ONE]["seconds"] > 0
        apart, shared = (
            rows[case]["weights_mib"]
            for case in ("networks, one after the other", "LoRAs on one network, one after the other")
        )
        assert apart == pytest.approx(2 * rows[gpu.ONE]["weights_mib"], abs=0.002)
        assert shared < apart
    assert (tmp_path / "gpu.png").exists()


def test_rows_without_numbers_say_why():
    kind = Kind("sd15", CPU, torch.float32, tiny=True)
    rows = list(gpu.measure([kind], [2], limit=0, arguments=[]))
    assert len(rows) == 8
    assert {row.note for row in rows} == {"left out: the limit of 0 s"}

    def fails():
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried")

    assert gpu.measured(rows[0], fails, gpus=0, budget=1).note == "CUDA out of memory."
    assert gpu.measured_apart(rows[0], [], seconds=0.01).note == "left out: not compiled within 0 s"


@pytest.mark.slow
def test_the_compiled_row_comes_from_a_process_of_its_own(monkeypatch):
    monkeypatch.setenv("TORCHDYNAMO_DISABLE", "1")  # it compiles for minutes on a CPU
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    row = gpu.Row(network="sdxl", latent="16x16x4", case=gpu.COMPILED, models=1)
    found = gpu.measured_apart(row, ["--tiny"], seconds=300)
    assert found.note == ""
    assert found.seconds > 0
    assert found == replace(
        row, **{name: getattr(found, name) for name in ("seconds", "calls", "weights_mib")}
    )


def test_a_step_on_several_devices_joins_on_the_first():
    kind = Kind("sd15", CPU, torch.float32, tiny=True)
    with torch.no_grad():
        joined = gpu.step_on([kind, kind]).run()
    assert len(joined.xs) == 2
    assert joined.merged.shape == (1, 4, 8, 8)


def test_a_bundle_unpacks_its_wheels(tmp_path):
    shutil.copy(ROOT / "benchmarks/speed/bare.py", tmp_path / "gpu.py")
    script = tmp_path / "benchmarks/speed/gpu.py"
    script.parent.mkdir(parents=True)
    for package in script.parents[:2]:
        (package / "__init__.py").touch()
    script.write_text("import sys, in_a_wheel\nprint(in_a_wheel.WORD, *sys.argv[1:])\n")
    (tmp_path / "wheels").mkdir()
    with ZipFile(tmp_path / "wheels/in_a_wheel-1-py3-none-any.whl", "w") as file:
        file.writestr("in_a_wheel.py", "WORD = 'unpacked'")
    command = [sys.executable, tmp_path / "gpu.py", "--tiny"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    told = subprocess.run(command, env=environment, check=True, capture_output=True, text=True, cwd=tmp_path)
    assert told.stdout == "unpacked --tiny\n"


def test_a_bundle_has_what_the_script_imports_from_here():
    listed = (
        (ROOT / "Makefile").read_text().split("git ls-files", 1)[1].split("|")[0].replace("\\", "").split()
    )
    files = [ROOT / name for name in listed if name.startswith("benchmarks/")]
    trees = [ast.parse(path.read_text()) for path in files]
    needed = {
        node.module.replace(".", "/") + ".py"
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("benchmarks.")
    }
    assert needed == {"benchmarks/provenance.py", "benchmarks/speed/unets.py"}
    assert needed <= set(listed)


def test_diffusers_is_imported_where_there_is_no_torchvision(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    assert import_beside_torchvision("json") is json
