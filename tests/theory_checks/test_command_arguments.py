"""Commands look at where they write and compute before they work."""

import importlib
import sys
from pathlib import Path

import pytest
import torch

from amdm.command_line.arguments import Expected, check_device, check_out

COMMANDS = {
    "amdm.shapes.two_models": "draw",
    "examples.digits": "World",
    "theory_checks.__main__": "tqdm",
    "amdm.shapes.training": "train",
}


def stopped(command, monkeypatch, capsys, *given):
    """What a command says of its arguments; nothing of its work is begun."""
    module = importlib.import_module(command)
    monkeypatch.setattr(module, COMMANDS[command], lambda *args, **kwargs: pytest.fail("the work was begun"))
    monkeypatch.setattr(sys, "argv", ["command", *map(str, given)])
    with pytest.raises(SystemExit):
        module.main()
    return capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("command", ["amdm.shapes.two_models", "examples.digits", "theory_checks.__main__"])
def test_out_must_be_writable_before_the_work(command, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "inside", Path("/proc/out")):
        line = stopped(command, monkeypatch, capsys, "--out", out)
        assert f"error: argument --out: is {out}, expected a folder that can be written to: " in line


@pytest.mark.parametrize(
    ("command", "given"), [("theory_checks.__main__", []), ("amdm.shapes.training", ["layout"])]
)
@pytest.mark.parametrize("device", ["bogus", "meta", "privateuseone"])
def test_a_device_that_is_not_here_is_one_line(command, given, device, monkeypatch, capsys):
    line = stopped(command, monkeypatch, capsys, *given, "--device", device)
    assert f"error: argument --device: is {device}, expected a device that is here: " in line


def test_a_folder_is_made_and_left_empty(tmp_path):
    check_out(tmp_path / "new" / "folder")
    assert list((tmp_path / "new" / "folder").iterdir()) == []


def test_devices_that_are_here():
    check_device("cpu")
    if not torch.cuda.is_available():
        with pytest.raises(Expected, match="a device that is here: "):
            check_device("cuda")
