# `make run` and `make test` set up whatever they need; `make help` lists the rest.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PEERS := build/bench/site/.installed
PIP := $(BIN)/python -m pip install -c constraints.txt

# An index of torch builds, where the choice below is not yours: for a driver older than the CUDA
# of PyPI's build, say, make install TORCH_INDEX=https://download.pytorch.org/whl/cu126
TORCH_INDEX ?=
TORCH_CPU_INDEX := https://download.pytorch.org/whl/cpu

.DEFAULT_GOAL := help
.PHONY: help install run test test-slow test-gpu lint format bench train contact-sheet clean distclean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(STAMP) ## the environment in .venv (done by every target that needs it)

run: install ## the service on DIT_HOST:DIT_PORT; more flags through ARGS="..."
	@exec $(BIN)/python -m service $(ARGS)

# OpenMP threads that wait sleep, as the service has it: spinning ones starve a busy machine. And the
# quick tests' models are too small to gain from a second thread.
test test-slow test-gpu: export OMP_WAIT_POLICY ?= passive
test: export OMP_NUM_THREADS ?= 1

test: install ## the quick tests; a selection through ARGS="-k name"
	@$(BIN)/python -m pytest -m "not slow" $(ARGS)

test-slow: install ## the tests that take minutes
	@$(BIN)/python -m pytest -m slow $(ARGS)

test-gpu: install ## the tests that need a CUDA device
	@$(BIN)/python -m pytest -m gpu $(ARGS)

lint: install ## style, types, layering, Dockerfile and compose file
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/hadolint Dockerfile
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml

format: install ## rewrite the code in the project's style
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: install $(PEERS) ## docs/benchmarks.md measured anew; a part of it through ARGS="alone --quick"
	@$(BIN)/python -m bench $(ARGS)

train: install ## train a model of your own: ARGS="--data PHOTOGRAPHS --out FOLDER"
	@$(BIN)/python -m model.train $(ARGS)

contact-sheet: install ## docs/contact-sheet.png: every class of DIT_MODEL, through the service
	$(BIN)/python docs/contact_sheet.py docs/contact-sheet.png

clean: ## remove caches and build leftovers
	rm -rf build dist ./*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis \
		.import_linter_cache .grimp_cache
	find model service tests bench -name __pycache__ -prune -exec rm -rf {} +

distclean: clean ## and the environment
	rm -rf $(VENV)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
		"Python 3.11 or newer is needed, for instance: make PYTHON=python3.12 $(MAKECMDGOALS)")'
	@echo "== making $(VENV) (once; a few minutes)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) --quiet pip
	@$(install-torch)
	@$(PIP) --editable . --group dev
	@touch $@

# LitServe's packages lie beside the environment: uvloop and httptools in it would serve us too.
$(PEERS): pyproject.toml constraints.txt
	@$(PIP) --quiet --upgrade --target $(@D) --group bench
	@touch $@

# torch comes first and alone. On Linux, PyPI's build brings gigabytes of CUDA along: right where
# there is an NVIDIA GPU, a waste elsewhere. There a build that pip already has at hand is taken
# (find-links), or else the CPU build from PyTorch's own index; where that cannot be reached, the
# next step installs PyPI's. macOS has one build, PyPI's.
define install-torch
if [ -n "$(TORCH_INDEX)" ]; then \
	$(PIP) --no-deps --index-url "$(TORCH_INDEX)" torch; \
elif [ "$$(uname -s)" = Linux ] && ! nvidia-smi -L >/dev/null 2>&1; then \
	$(PIP) --no-deps --no-index torch >/dev/null 2>&1 \
	|| { $(reach-torch-index) && $(PIP) --no-deps --index-url "$(TORCH_CPU_INDEX)" torch; } \
	|| echo "== no CPU build of torch within reach: taking PyPI's"; \
fi
endef
reach-torch-index = $(BIN)/python -c 'from urllib.request import urlopen; \
	urlopen("$(TORCH_CPU_INDEX)/torch/", timeout=10)' 2>/dev/null
