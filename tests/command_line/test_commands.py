"""The command `amdm`, started as a user starts it."""

import subprocess
import sys
from pathlib import Path

import pytest

import amdm
from amdm.command_line import main as command
from amdm.command_line.main import COMMANDS


def run(*arguments):
    """The command in a fresh process."""
    code = "import sys; from amdm.command_line.main import main; sys.exit(main())"
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)


def test_the_installed_command_prints_the_version():
    script = Path(sys.executable).parent / "amdm"
    told = subprocess.run([str(script), "--version"], capture_output=True, text=True, check=True).stdout
    assert told == f"{amdm.__version__}\n"


def test_help_names_every_command():
    told = run("--help").stdout
    for name, each in COMMANDS.items():
        assert f"  {name:12} {each.does}\n" in told


def test_it_loads_no_extra_before_a_command_needs_it():
    extras = "{'diffusers', 'matplotlib', 'sklearn'}"
    code = f"import amdm.command_line.main, sys; print(*{extras} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "\n"


@pytest.mark.parametrize("arguments", [[], ["paint"], ["--paint", "demo"]])
def test_a_wrong_command_is_one_line(arguments):
    done = run(*arguments)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.splitlines()[-1].startswith("amdm: error: ")


def test_arguments_and_status_are_those_of_the_command(monkeypatch, capsys):
    monkeypatch.setattr(command, "missing", lambda *packages: [])  # help needs no extra
    for name in COMMANDS:
        with pytest.raises(SystemExit) as stopped:
            command.main([name, "--help"])
        assert stopped.value.code == 0
        assert capsys.readouterr().out.startswith(f"usage: amdm {name} [-h]")
        with pytest.raises(SystemExit) as stopped:
            command.main([name, "--nonsense"])
        assert stopped.value.code == 2
        assert f"amdm {name}: error: " in capsys.readouterr().err


def test_a_missing_extra_is_one_sentence(monkeypatch, capsys):
    monkeypatch.setattr(command, "missing", lambda *packages: [*packages][:1])
    assert command.main(["demo"]) == 2
    needed = "the extra demo, in a clone: pip install '.[demo]'"
    assert capsys.readouterr().err == f"amdm demo: diffusers not found, expected {needed}\n"
    monkeypatch.undo()
    monkeypatch.setattr(command, "missing", lambda *packages: [])
    assert command.main(["environment"]) is None
