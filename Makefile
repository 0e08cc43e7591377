# Two commands do everything on a fresh machine:  make demo  and  make test
PY ?= python3
VENV ?= .venv
VENV_FLAGS ?=
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTEST_FLAGS ?= -n 2 --dist loadfile

.PHONY: demo setup test lint format completions bench fuzz results kill-test soak clean

demo: $(STAMP)  ## install, train three methods on the built-in digits, print the table
	$(BIN)/ltk demo

setup: $(STAMP)

$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PY) -m venv $(VENV_FLAGS) $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=23"
	$(BIN)/python -m pip install --quiet -e ".[dev]"
	touch $(STAMP)

test: $(STAMP)  ## the whole suite; one thread per process: tiny networks are slower with more
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PYTEST_FLAGS) --ignore=tests/distributed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/distributed  # processes that wait for each other want both cores

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

completions: $(STAMP)  ## write the shell completion scripts
	$(BIN)/ltk completions bash > completions/ltk.bash
	$(BIN)/ltk completions zsh > completions/_ltk
	$(BIN)/ltk completions fish > completions/ltk.fish

bench: $(STAMP)  ## every benchmark against a plain rendering of the official codes, in one table
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/performance.py

fuzz: $(STAMP)  ## an hour of damaged checkpoints against the reader
	$(BIN)/python tests/fuzz_reader.py --seconds 3600

kill-test: $(STAMP)  ## 200 random kill -9 over 20 runs: every run ends with the bytes of one left in peace
	LTK_KILLS=200 LTK_KILL_RUNS=20 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -s tests/reliability/test_kill.py

soak: $(STAMP)  ## 1,000 epochs: memory and open files stay as they were
	LTK_SOAK_EPOCHS=1000 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -s tests/reliability/test_soak.py

results: $(STAMP)  ## train the digits runs that are missing and write docs/results.md
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/results.py --digits

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache
