# Two commands do all the set-up: `make foundation` and `make test`.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
ARGS ?=
# Files of tests run side by side.
JOBS ?= 2
PYTEST := $(BIN)/python -m pytest -n $(JOBS) --dist loadfile

# What a submission runs under: an interpreter of the challenge's versions, for its tests.
PYTHON310 ?= $(firstword $(wildcard $(HOME)/.pyenv/versions/3.10.*/bin/python) python3.10)
TORCH22 := .venv-torch22

.PHONY: help install foundation test slow torch22 lint types imports viz clean

help:
	@echo "make foundation   install, then run the whole pipeline on the simulated release"
	@echo "make test         install, then run the tests (make slow: the long ones)"
	@echo "make torch22      install Python 3.10 with torch 2.2, which the tests then run a submission with"
	@echo "make viz          show the lineage of the last run in a browser"
	@echo "make lint types imports   what continuous integration checks besides"

install: $(INSTALLED)

$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; name one with make PYTHON=python3.12"; exit 1; }
	@echo "Installing into $(VENV), once; it takes a minute or two"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet -e ".[dev]"
	@touch $@

foundation: $(INSTALLED)
	$(BIN)/kedro run --pipeline foundation $(ARGS)
	@echo "For further commands, enter the environment once per shell: source $(BIN)/activate"

test: $(INSTALLED)
	$(PYTEST) -m "not slow" $(ARGS)

slow: $(INSTALLED)
	$(PYTEST) -m slow $(ARGS)

torch22: $(TORCH22)/.installed

$(TORCH22)/.installed:
	$(PYTHON310) -m venv $(TORCH22)
	$(TORCH22)/bin/python -m pip install --quiet torch==2.2.2
	@touch $@

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED)
	$(BIN)/mypy src

imports: $(INSTALLED)
	$(BIN)/lint-imports

viz: $(INSTALLED)
	PYTHONWARNINGS=ignore $(BIN)/kedro viz run --pipeline foundation $(ARGS)

clean:
	find data -mindepth 1 -maxdepth 1 ! -name README.md -exec rm -rf {} +
	rm -rf build runs logs local_score .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
