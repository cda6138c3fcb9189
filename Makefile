# `make demo` and `make test` work from a fresh clone with Python 3.11 or newer and nothing installed.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-slow check docs fuzz mutants benchmarks speed lock clean

demo: .venv/installed
	$(BIN)/amdm demo

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

# build/docs/index.html. A warning is an error; nothing is fetched, and no page loads from another host.
docs: .venv/installed
	rm -rf build/docs
	$(BIN)/sphinx-build -q -n -W --keep-going -d build/doctrees docs build/docs
	$(BIN)/python docs/check.py build/docs

# 100,000 calls of the public functions, right and wrong ones: minutes. SEED=n repeats the one call n.
fuzz: .venv/installed
	PYTHONPATH=tests $(BIN)/python -m fuzz $(if $(SEED),--first $(SEED) --calls 1)

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

# constraints.txt from pyproject.toml, by uv from an environment of its own; versions stay unless ARGS=--upgrade.
lock:
	$(PYTHON) -m venv build/uv
	build/uv/bin/pip install -q uv
	grep '^#' constraints.txt >build/head
	echo "numpy>=2.1; python_version >= '3.13'" | build/uv/bin/uv pip compile pyproject.toml - -q \
		--extra dev --universal --python-version 3.11 --no-annotate --no-header $(ARGS) -o constraints.txt
	cat build/head constraints.txt >build/lock && mv build/lock constraints.txt

clean:
	rm -rf .venv out build dist
