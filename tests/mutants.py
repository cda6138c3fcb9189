"""Mutation testing of `amdm/`: `make mutants`, or `python tests/mutants.py [--count 150] [--workers 2]`.

Cosmic Ray lists and makes the mutants: one operator, number, condition or decorator changed in one place.
A fixed sample of them is tested, each in a copy of the last commit, against the tests that execute the
mutated line. The quickest tests run first, and the first failure ends a mutant. Everything is kept in
`out/mutants/<commit>`, and a run that was stopped goes on from there: `coverage.sqlite` and `tests.log`
(which test executes which line, and how long it takes), `results.jsonl` (a line for each mutant),
`survivors.md`.
"""

import argparse
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from itertools import islice
from pathlib import Path

from cosmic_ray.commands import init
from cosmic_ray.mutating import mutate_and_test, mutate_code
from cosmic_ray.plugins import get_operator
from cosmic_ray.work_db import WorkDB
from cosmic_ray.work_item import MutationSpec
from coverage import CoverageData
from tqdm import tqdm

ROOT = Path(__file__).parents[1]
PYTEST = [sys.executable, "-m", "pytest", "-p", "no:randomly", "-p", "no:cacheprovider"]
# Bit operators: `|` stands in annotations, and put in place of arithmetic they only raise a TypeError.
LEFT_OUT = re.compile(r"Bit(Or|And|Xor)|[LR]Shift")
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def key_of(mutant: MutationSpec) -> str:
    """The name of a mutant: file, operator and occurrence."""
    options = "".join(f" {name}={value}" for name, value in sorted(mutant.operator_args.items()))
    return f"{mutant.module_path} {mutant.operator_name}{options} {mutant.occurrence}"


def is_a_program(mutant: MutationSpec) -> bool:
    """Return whether the mutated file compiles: Cosmic Ray also multiplies with the `*` of a signature."""
    operator = get_operator(mutant.operator_name)(**mutant.operator_args)
    code = mutate_code((ROOT / mutant.module_path).read_text(), operator, mutant.occurrence)
    try:
        compile(code, str(mutant.module_path), "exec")
    except SyntaxError:
        return False
    return True


def sample(count: int) -> list[MutationSpec]:
    """Return the `count` mutants whose names have the smallest hashes: an edit exchanges few of them."""
    modules = sorted(path.relative_to(ROOT) for path in (ROOT / "amdm").rglob("*.py"))
    with tempfile.TemporaryDirectory() as folder:
        listed = WorkDB(Path(folder) / "mutants.sqlite", WorkDB.Mode.create)
        init(modules, listed, {})
        mutants = [item.mutations[0] for item in listed.work_items]
        listed.close()
    mutants = [mutant for mutant in mutants if not LEFT_OUT.search(mutant.operator_name)]
    mutants.sort(key=lambda mutant: hashlib.sha256(key_of(mutant).encode()).digest())
    return list(islice(filter(is_a_program, mutants), count))


def copy_of_the_commit(folder: Path) -> None:
    """Write the files of the last commit into `folder`."""
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(folder, filter="data")


def record_coverage(folder: Path, workers: int) -> None:
    """Run all tests once and write which lines each executes, and its seconds."""
    if (folder / "coverage.sqlite").exists():
        return
    with tempfile.TemporaryDirectory() as copy:
        copy_of_the_commit(Path(copy))
        Path(copy, ".coveragerc").write_text("[run]\nrelative_files = true\n")
        options = [
            "--cov=amdm",
            "--cov-context=test",
            "--cov-report=",
            "--durations=0",
            "-vv",
            "-n",
            str(workers),
        ]
        with (folder / "tests.log").open("w") as log:
            subprocess.run([*PYTEST, *options], cwd=copy, env=os.environ | ONE_THREAD, stdout=log, check=True)
        Path(copy, ".coverage").replace(folder / "coverage.sqlite")


class Tests:
    """The tests that execute a line, the quickest first."""

    def __init__(self, folder: Path) -> None:
        self._data = CoverageData(str(folder / "coverage.sqlite"))
        self._data.read()
        log = (folder / "tests.log").read_text()
        parts = re.findall(r"^([\d.]+)s (?:call|setup|teardown) +(.+)$", log, flags=re.MULTILINE)
        self.seconds: dict[str, float] = {}
        for seconds, test in parts:
            self.seconds[test] = self.seconds.get(test, 0.0) + float(seconds)

    def of(self, mutant: MutationSpec) -> list[str]:
        """Return the tests of a mutant; those of its whole file for what runs at import alone."""
        file = next(f for f in self._data.measured_files() if f.endswith(str(mutant.module_path)))
        contexts = self._data.contexts_by_lineno(file)
        span = range(mutant.start_pos[0], mutant.end_pos[0] + 1)
        found = {test.rpartition("|")[0] for line in span for test in contexts.get(line, [])} - {""}
        if not found and any(contexts.get(line) for line in span):
            found = {test.rpartition("|")[0] for tests in contexts.values() for test in tests} - {""}
        return sorted(found, key=lambda test: (self.seconds.get(test, 0.0), test))


_copies: list[tempfile.TemporaryDirectory] = []


def _enter_a_copy() -> None:
    """Give this worker a copy of the commit of its own, since mutants are written into files."""
    _copies.append(tempfile.TemporaryDirectory())
    copy_of_the_commit(Path(_copies[0].name))
    os.chdir(_copies[0].name)
    os.environ.update(ONE_THREAD)


def outcome(mutant: MutationSpec, tests: list[str], seconds: float) -> dict[str, object]:
    """Test one mutant in this worker's copy."""
    given = {"mutant": key_of(mutant), "definition": mutant.definition_name, "line": mutant.start_pos[0]}
    if not tests:
        return {**given, "outcome": "survived", "tests": 0, "diff": "", "by": "no test executes the line"}
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as listed:
        listed.write("\n".join(tests))
        listed.flush()
        command = " ".join([*PYTEST, "-x", "-q", "--no-header", f"@{listed.name}"])
        result = mutate_and_test([mutant], command, timeout=120 + 5 * seconds)
    failed = re.search(r"^(?:FAILED|ERROR) (\S+)", result.output or "", flags=re.MULTILINE)
    return {
        **given,
        "outcome": result.test_outcome.value if result.test_outcome else result.worker_outcome.value,
        "tests": len(tests),
        "diff": result.diff or "",
        "by": failed[1] if failed else (result.output or "")[-300:],
    }


def run(folder: Path, mutants: list[MutationSpec], tests: Tests, workers: int) -> Iterator[dict[str, object]]:
    """Yield the outcome of every mutant, those of an earlier run first."""
    file = folder / "results.jsonl"
    done = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    known = {result["mutant"] for result in done}
    yield from done
    with ProcessPoolExecutor(workers, initializer=_enter_a_copy) as pool, file.open("a") as log:
        jobs = []
        for mutant in mutants:
            if key_of(mutant) not in known:
                chosen = tests.of(mutant)
                jobs.append(
                    pool.submit(outcome, mutant, chosen, sum(tests.seconds.get(test, 0.0) for test in chosen))
                )
        for job in as_completed(jobs):
            log.write(json.dumps(job.result()) + "\n")
            log.flush()
            yield job.result()


def survivors(results: list[dict[str, object]]) -> str:
    """Return the survivors as Markdown, by file, with their differences."""
    alive = [result for result in results if result["outcome"] != "killed"]
    lines = [f"{len(results) - len(alive)} of {len(results)} mutants were killed."]
    for result in sorted(alive, key=lambda result: (str(result["mutant"]), str(result["line"]))):
        changed = [line for line in str(result["diff"]).splitlines() if re.match(r"[-+](?![-+])", line)]
        lines += [
            "",
            f"- {result['mutant']}: {result['definition']}, line {result['line']}, {result['tests']} tests",
            *(f"      {line}" for line in changed),
        ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=150, help="size of the sample")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    given = parser.parse_args()
    os.chdir(ROOT)
    commit = subprocess.run(
        ["git", "rev-parse", "--short=12", "HEAD"], check=True, capture_output=True, text=True
    )
    folder = ROOT / "out" / "mutants" / commit.stdout.strip()
    folder.mkdir(parents=True, exist_ok=True)
    record_coverage(folder, given.workers)
    mutants = sample(given.count)
    results = run(folder, mutants, Tests(folder), given.workers)
    text = survivors(list(tqdm(results, total=len(mutants), desc="mutants", disable=given.quiet)))
    (folder / "survivors.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
