"""A whole table on tiny random pipelines, as its command draws it in processes of their own."""

import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny_judges
from real_data import write_paths
from real_models import write_models

ROOT = Path(__file__).parents[2]
COMMAND = ("-m", "benchmarks.real", "8", "--quiet", "--paths")


def environment(folder):
    """The tests' own path, one thread, and a place where diffusers copies code to."""
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "HF_MODULES_CACHE": str(folder / "modules"),
        "HF_HUB_OFFLINE": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }


def run(*words, folder):
    done = subprocess.run(
        [sys.executable, *map(str, words)], env=environment(folder), cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Table 8, drawn by one process: the folder and what was printed."""
    folder = tmp_path_factory.mktemp("real")
    models, clip = write_models(folder / "models"), tiny_judges.clip(folder / "clip")
    paths = write_paths(folder, models=models, measures={"clip": str(clip)}, negative_prompt="fog")
    return folder, run(*COMMAND, paths, folder=folder)


def pictures(out):
    return {
        path.relative_to(out): path.read_bytes()
        for path in sorted(out.rglob("*.png"))
        if "results" not in path.parts
    }


@pytest.mark.slow
def test_a_table_from_its_paths_to_its_files(drawn):
    folder, said = drawn
    assert "2 images, 2 to draw, each 10 of InteractDiffusion + 5 of IP-Adapter: 30 evaluations" in said
    assert len(pictures(folder / "out")) == 6
    lines = list(csv.DictReader((folder / "out" / "results" / "table8.csv").read_text().splitlines()))
    assert {(line["row"], line["column"]): line["paper"] for line in lines} == {
        ("InteractDiffusion", "CLIP"): "0.5330",
        ("InteractDiffusion", "CLIP-I"): "",
        ("InteractDiffusion(+IP-Adapter)", "CLIP"): "0.5810",
        ("InteractDiffusion(+IP-Adapter)", "CLIP-I"): "",
        ("IP-Adapter", "CLIP"): "0.5880",
        ("IP-Adapter", "CLIP-I"): "",
    }
    assert all(float(line["low"]) <= float(line["ours"]) <= float(line["high"]) for line in lines)
    how = json.loads((folder / "out" / "results" / "table8.json").read_text())
    assert [one["number"] for one in how["images"]] == [2, 2, 2]
    assert how["images"][1]["drawn"][0]["images"] == 2
    assert (folder / "out" / "results" / "table8.png").stat().st_size > 5000
    again = run(*COMMAND, folder / "paths.toml", "--dry-run", folder=folder)
    assert "2 images, 0 to draw" in again and "2 to draw" not in again


@pytest.mark.slow
def test_killed_and_resumed_by_two_processes(drawn):
    """The bytes are those of one process: each prompt has its own seed."""
    folder, _ = drawn
    paths, out = folder / "resumed.toml", folder / "resumed"
    paths.write_text((folder / "paths.toml").read_text().replace('out = "out"', 'out = "resumed"'))
    first = subprocess.Popen(
        [sys.executable, *COMMAND, paths], env=environment(folder), cwd=ROOT,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while not list(out.rglob("*_*.json")):
        assert first.poll() is None
        time.sleep(0.02)
    first.kill()
    first.wait()
    before = len(pictures(out))
    assert 1 <= before < 6
    words = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", 2, *COMMAND, paths)
    run(*words, folder=folder)
    assert pictures(out) == pictures(folder / "out")
    lines = [json.loads(line) for line in (out / "coco" / "drawn.jsonl").read_text().splitlines()]
    assert sum(line["images"] for line in lines) >= 6 - before
