# Everything below sets itself up: `make demo` and `make test` work on a fresh machine with Python 3.11 or newer.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test check docs-commands bench clean

help:
	@echo "make demo    audit the packaged model organism (sets itself up; a few minutes on two cores)"
	@echo "make test    run the tests (sets itself up)"
	@echo "make check   lint, format, types and import contracts"
	@echo "make bench   side-by-side speed ratios"

$(VENV)/.run: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) torch
	$(PIP) -e .
	@touch $@

$(VENV)/.test: $(VENV)/.run
	$(PIP) -e '.[test]'
	@touch $@

$(VENV)/.check: $(VENV)/.test
	$(PIP) -e '.[test,check]'
	@touch $@

demo: $(VENV)/.run
	$(BIN)/bures audit organism --config recipes/demo.toml

test: $(VENV)/.test
	$(BIN)/python -m pytest -q -n 2

check: $(VENV)/.check
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

docs-commands: $(VENV)/.run
	$(BIN)/python tests/readme_commands.py

bench: $(VENV)/.test
	$(BIN)/python benchmarks/generation.py

clean:
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .hypothesis
