"""Batches in the cache: what survives, who draws what, and that it makes no difference."""

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from benchmarks import runner
from benchmarks.methods import Method
from benchmarks.runner import batches, draw_all, estimate, path_of, read_or_draw, settings

TINY = Path(__file__).parent / "tiny.py"
KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from benchmarks.runner import batches, draw_all
from test_runner import Painted
draw_all(batches(Painted(level=0.5, dies_at=100), [0], 200), quiet=True)
"""


@dataclass(frozen=True)
class Painted:
    """Draws every scene in one grey, and may die."""

    level: float
    dies_at: int | None = None

    @property
    def calls(self):
        return Counter({"layout": 7})

    def draw(self, scenes, seed, device):
        if self.dies_at is not None and scenes.seeds[0] - 11_000_000 >= self.dies_at:
            os.kill(os.getpid(), 9)
        return torch.full((len(scenes.seeds), 3, 32, 32), self.level + 0.1 * seed, device=device)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("AMDM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "images"


def drawn_by(monkeypatch):
    """Which batches are drawn from now on, not read."""
    drawn = []
    draw = Painted.draw

    def noted(self, scenes, seed, device):
        drawn.append(int(scenes.seeds[0]))
        return draw(self, scenes, seed, device)

    monkeypatch.setattr(Painted, "draw", noted)
    return drawn


def test_scenes_fall_into_batches_for_every_seed():
    todo = batches(Painted(0.0), [0, 1], 120)
    assert [(batch.seed, batch.first, batch.size) for batch in todo] == [
        (seed, first, size) for seed in (0, 1) for first, size in ((0, 50), (50, 50), (100, 20))
    ]


def test_what_was_drawn_is_read(monkeypatch):
    drawn = drawn_by(monkeypatch)
    todo = batches(Painted(0.2), [0, 1], 60)
    first, again = (draw_all(todo, quiet=True) for _ in range(2))
    assert len(drawn) == 4
    for one, other in zip(first, again, strict=True):
        assert torch.equal(one.images, other.images) and one[1:] == other[1:]
    assert [batch.images[0, 0, 0, 0].item() for batch in first] == [153, 153, 166, 166]


@pytest.mark.slow
def test_a_run_that_was_killed_loses_no_finished_batch(monkeypatch):
    """Killed in the third of four batches; the method itself is then one that does not die."""
    here = Path(__file__).parent
    env = os.environ | {"PYTHONPATH": str(here.parents[1])}
    done = subprocess.run([sys.executable, "-c", KILLED, str(here)], env=env, capture_output=True, text=True)
    assert done.returncode == -9, done.stderr
    mortal = batches(Painted(0.5, dies_at=100), [0], 200)
    assert [path_of(batch).exists() for batch in mortal] == [True, True, False, False]
    drawn = drawn_by(monkeypatch)
    monkeypatch.setattr(os, "kill", lambda *_: None)
    draw_all(mortal, quiet=True)
    assert [seed - 11_000_000 for seed in drawn] == [100, 150]


def test_half_a_file_is_no_batch(cache, monkeypatch):
    """What a process was writing when it was killed has another name."""
    batch = batches(Painted(0.5), [0], 10)[0]
    path_of(batch).parent.mkdir(parents=True)
    path_of(batch).with_suffix(".123").write_bytes(b"half")
    read_or_draw(batch, "cpu")
    assert path_of(batch).exists()


def stored(path, images, method=None, **more):
    """Write a file as a batch's."""
    how = json.dumps({"seconds": 1.0, "commit": "x", "device": "cpu"})
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({"images": images}, path, {"how": how, "method": json.dumps(method), **more})


PIXELS = torch.zeros(10, 3, 32, 32, dtype=torch.uint8)
OWN = {"kind": "Painted", "level": 0.5}
DAMAGED = {
    "garbage": (lambda path: path.write_bytes(b"garbage"), "is damaged"),
    "empty": (lambda path: path.write_bytes(b""), "is damaged"),
    "cut short": (lambda path: path.write_bytes(path.read_bytes()[:-100]), "is damaged"),
    "no metadata": (lambda path: save_file({"images": PIXELS}, path), "is damaged"),
    "other metadata": (
        lambda path: save_file({"images": PIXELS}, path, {"how": "[]", "method": "{"}),
        "damaged",
    ),
    "no images": (lambda path: save_file({"x": PIXELS}, path, {"how": "{}", "method": "{}"}), "is damaged"),
    "three images": (
        lambda path: stored(path, PIXELS[:3], OWN),
        r"the shape \(3, 3, 32, 32\), expected \(10,",
    ),
    "small images": (
        lambda path: stored(path, PIXELS[..., :16].contiguous(), OWN),
        r"the shape \(10, 3, 32, 16\)",
    ),
    "floats": (
        lambda path: stored(path, PIXELS.float(), OWN),
        "the dtype torch.float32, expected torch.uint8",
    ),
    "another method": (
        lambda path: stored(path, PIXELS, {**OWN, "level": 0.4}),
        "has the method .*0.4.*expected",
    ),
    "other bytes": (
        lambda path: stored(path, PIXELS, OWN, digest="0" * 12),
        "the digest 000000000000, expected",
    ),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGED.values(), ids=DAMAGED)
def test_a_file_that_is_not_the_batch_is_named_and_drawn_anew(damage, message):
    batch = batches(Painted(0.5), [0], 10)[0]
    whole = read_or_draw(batch, "cpu")
    path = path_of(batch)
    damage(path)
    assert estimate([batch])[0] == 10
    with pytest.warns(UserWarning, match=rf"^{path} .*{message}.*: drawn anew"):
        again = read_or_draw(batch, "cpu")
    assert torch.equal(again.images, whole.images)
    assert torch.equal(read_or_draw(batch, "cpu").images, whole.images)


def test_a_file_of_before_digests_is_read():
    batch = batches(Painted(0.5), [0], 10)[0]
    stored(path_of(batch), PIXELS, OWN)
    assert torch.equal(read_or_draw(batch, "cpu").images, PIXELS)


@pytest.mark.parametrize("named", ["", None])
def test_no_cache_is_written_beside_the_caller(named, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("AMDM_CACHE") if named is None else monkeypatch.setenv("AMDM_CACHE", named)
    assert path_of(batches(Painted(0.5), [0], 10)[0]).is_relative_to(tmp_path / ".cache" / "amdm" / "images")


def test_a_batch_says_how_it_was_drawn():
    batch = batches(Painted(0.5), [3], 10)[0]
    drawn = read_or_draw(batch, "cpu")
    with safe_open(path_of(batch), "pt") as file:
        assert json.loads(file.metadata()["method"]) == {"kind": "Painted", "level": 0.5}
        assert json.loads(file.metadata()["how"]) == {
            "seconds": drawn.seconds,
            "commit": drawn.commit,
            "device": "cpu",
        }


def test_a_name_changes_with_settings_and_weights_only(monkeypatch):
    method = Method(("layout", "attribute"))
    path = path_of(batches(method, [0], 10)[0])
    assert settings(method) == {"kind": "Method", "models": ("layout", "attribute")}
    assert path_of(batches(replace(method, window=0.4), [0], 10)[0]) == path
    changed = [replace(method, weights=0.4), replace(method, models=("attribute", "layout"))]
    assert len({path, *(path_of(batches(other, [0], 10)[0]) for other in changed)}) == 3
    monkeypatch.setattr(runner, "weights_digest", lambda name: "other")
    assert path_of(batches(method, [0], 10)[0]) != path


def test_the_estimate_counts_what_is_missing(monkeypatch):
    monkeypatch.setattr(runner, "seconds_per_call", lambda name, device: 0.6)
    todo = batches(Painted(0.5), [0], 100)
    assert estimate(todo) == (100, pytest.approx(100 * 7 * 0.6 / 60))
    read_or_draw(todo[0], "cpu")
    assert estimate(todo) == (50, pytest.approx(50 * 7 * 0.6 / 60))


@pytest.mark.slow
def test_two_processes_give_the_table_that_one_gives(tmp_path):
    """Row for row, with one thread each: how a convolution is split over threads may change its last bits."""
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(TINY.parents[2])}
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    commands = {"one": [sys.executable], "two": launch}
    for name, command in commands.items():
        cached = env | {"AMDM_CACHE": str(tmp_path / f"{name}_cache")}
        out = tmp_path / name
        done = subprocess.run([*command, str(TINY), str(out)], env=cached, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    for table in ("tiny.csv", "tiny_differences.csv"):
        one, two = ((tmp_path / name / "results" / table).read_text() for name in commands)
        assert one == two and one.count("\n") > 4
    manifests = [json.loads((tmp_path / name / "results" / "tiny.json").read_text()) for name in commands]
    assert manifests[0]["scenes"] == manifests[1]["scenes"]
    assert (tmp_path / "two" / "results" / "tiny.png").stat().st_size > 1000
    assert len(list((tmp_path / "two_cache").rglob("*.safetensors"))) == 12
