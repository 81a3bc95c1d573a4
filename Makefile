# Everything works from nothing: Python >= 3.10 is all that a machine needs.
PYTHON ?= python3
VENV ?= .venv
# A fixed version: an open range may pull gigabytes of CUDA onto a machine without a GPU.
TORCH ?= torch==2.13.0
JOBS ?= 2

BIN := $(VENV)/bin
READY := $(VENV)/.ready
# one thread a process: two processes with two threads each fight for two cores
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n $(JOBS)

.PHONY: demo test test-all lint types setup clean

setup: $(READY)

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet "$(TORCH)"
	$(BIN)/pip install --quiet -e ".[dev,rtx]"
	touch $(READY)

demo: setup  ## the main job on embedded real data, in a few minutes
	$(BIN)/edgedense demo

test: setup  ## all tests that need no further data
	$(PYTEST) -m "not shared and not slow"

test-all: setup  ## also the slow ones, and (EDGEDENSE_SHARED names their folder) those on a checkpoint
	$(PYTEST)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

clean:
	rm -rf $(VENV) engines/demo
