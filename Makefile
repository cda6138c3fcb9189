# `make demo` and `make test` work from a fresh clone with Python 3.11 or newer and nothing installed.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo page test test-page test-slow check docs fuzz mutants benchmarks speed speed-gpu speed-gpu-bundle \
	lock clean

demo: .venv/installed
	$(BIN)/amdm demo

# In the browser, on this machine only; the address is printed.
page: .venv-page/installed
	.venv-page/bin/amdm page $(if $(PORT),--port $(PORT))

# One worker for each core, one thread each (tests/conftest.py); random order, whose seed is printed.
PYTEST := $(BIN)/python -m pytest -n logical --dist worksteal

test: .venv/installed
	$(PYTEST) -m "not slow"

# Statistics and whole programs.
test-slow: .venv/installed
	$(PYTEST) -m slow

# The page in a real browser: chromium, which must be installed; playwright is not let fetch one.
test-page: .venv-page/tested
	.venv-page/bin/python -m pytest tests/page

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

# Where torch finds a GPU: four minutes. ARGS=--tiny runs it with few channels on any machine.
speed-gpu: .venv/installed
	$(BIN)/python -m benchmarks.speed.gpu $(ARGS)

# The same for a machine that has torch and no internet: copy build/speed_gpu there, and `python gpu.py`.
# What the machine has of these packages, it uses; compiled ones are for its version of Python.
GPU_PYTHON ?= 3.12
GPU_PLATFORMS := manylinux_2_28_x86_64 manylinux_2_27_x86_64 manylinux_2_17_x86_64 manylinux2014_x86_64 \
	manylinux_2_12_x86_64 manylinux2010_x86_64
GPU_WHEELS := accelerate certifi charset-normalizer diffusers h11 httpcore2 httpx2 huggingface-hub idna jaxtyping \
	numpy packaging peft pillow psutil pyyaml regex requests safetensors tokenizers tqdm transformers truststore \
	urllib3 wadler-lindig
speed-gpu-bundle: .venv/installed
	rm -rf build/speed_gpu && mkdir -p build/speed_gpu
	$(BIN)/python -m pip download -q --disable-pip-version-check --no-deps --only-binary :all: -c constraints.txt \
		--python-version $(GPU_PYTHON) $(GPU_PLATFORMS:%=--platform %) -d build/speed_gpu/wheels $(GPU_WHEELS)
	git ls-files 'amdm/*.py' benchmarks/__init__.py benchmarks/provenance.py benchmarks/speed/__init__.py \
		benchmarks/speed/gpu.py benchmarks/speed/unets.py | tar -c -T - | tar -x -C build/speed_gpu
	cp benchmarks/speed/bare.py build/speed_gpu/gpu.py
	git rev-parse --short HEAD >build/speed_gpu/benchmarks/speed/COMMIT

# One environment for everything; made again when what it needs changes.
.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

# An environment of its own: gradio takes no pillow from 13 on. The lock, as a variable, takes the place of constraints
# that pip is configured with, which may ask for another.
.venv-page/installed: pyproject.toml constraints-page.txt
	$(PYTHON) -m venv .venv-page
	PIP_CONSTRAINT=constraints-page.txt .venv-page/bin/python -m pip install --disable-pip-version-check -e '.[page]'
	touch $@

.venv-page/tested: .venv-page/installed
	PIP_CONSTRAINT=constraints-page.txt .venv-page/bin/python -m pip install --disable-pip-version-check \
		-e '.[test-page]'
	touch $@

# constraints.txt from pyproject.toml, by uv from an environment of its own; versions stay unless ARGS=--upgrade.
lock:
	$(PYTHON) -m venv build/uv
	build/uv/bin/pip install -q uv
	grep '^#' constraints.txt >build/head
	echo "numpy>=2.1; python_version >= '3.13'" | build/uv/bin/uv pip compile pyproject.toml - -q \
		--extra dev --universal --python-version 3.11 --no-annotate --no-header $(ARGS) -o constraints.txt
	cat build/head constraints.txt >build/lock && mv build/lock constraints.txt
	grep '^#' constraints-page.txt >build/head
	grep -v '^pillow' constraints.txt >build/same
	echo "numpy>=2.1; python_version >= '3.13'" | build/uv/bin/uv pip compile pyproject.toml - -q -c build/same \
		--extra test-page --universal --python-version 3.11 --no-annotate --no-header $(ARGS) -o constraints-page.txt
	cat build/head constraints-page.txt >build/lock && mv build/lock constraints-page.txt

clean:
	rm -rf .venv .venv-page out build dist
