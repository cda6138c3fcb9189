# `make demo` and `make test` work from a fresh clone with Python 3.11 or newer and nothing installed.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-slow check mutants benchmarks speed clean

demo: .venv/installed
	$(BIN)/python examples/two_models.py --out out/demo

# One worker for each core, one thread each (tests/conftest.py); random order, whose seed is printed.
PYTEST := $(BIN)/python -m pytest -n logical --dist worksteal

test: .venv/installed
	$(PYTEST) -m "not slow"

# Statistics and whole programs.
test-slow: .venv/installed
	$(PYTEST) -m slow

check: .venv/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# One place of amdm/ changed at a time, 150 times: which changes do the tests not notice? Hours; it resumes.
mutants: .venv/installed
	$(BIN)/python tests/mutants.py

benchmarks: .venv/installed
	$(BIN)/python -m benchmarks --size quick

speed: .venv/installed
	$(BIN)/python -m benchmarks.speed.aggregation
	$(BIN)/python -m benchmarks.speed.overhead
	$(BIN)/python -m benchmarks.speed.import_time
	$(BIN)/python -m benchmarks.speed.hops

# One environment for everything; made again when what it needs changes.
.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf .venv out build dist
