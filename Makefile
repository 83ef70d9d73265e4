# `make run` and `make test` install what they need; `make help` lists all targets.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PEERS := build/bench/site/.installed
PIP := $(BIN)/python -m pip install -c constraints.txt

# Index to install torch from, overriding the automatic choice below. For example, if the driver is too
# old for the CUDA version of PyPI's build: make install TORCH_INDEX=https://download.pytorch.org/whl/cu126
TORCH_INDEX ?=
TORCH_CPU_INDEX := https://download.pytorch.org/whl/cpu

.DEFAULT_GOAL := help
.PHONY: help install run test test-slow test-gpu lint format bench train contact-sheet clean distclean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(STAMP) ## create the environment in .venv (other targets do this when needed)

run: install ## run the service on DIT_HOST:DIT_PORT; flags in ARGS="..."
	@exec $(BIN)/python -m service $(ARGS)

# Waiting OpenMP threads sleep, as they do in the service: spinning threads starve a busy machine. The
# models of the quick tests are too small to benefit from a second thread.
test test-slow test-gpu: export OMP_WAIT_POLICY ?= passive
test: export OMP_NUM_THREADS ?= 1

test: install ## run the quick tests; select some with ARGS="-k name"
	@$(BIN)/python -m pytest -m "not slow" $(ARGS)

test-slow: install ## run the tests that take minutes
	@$(BIN)/python -m pytest -m slow $(ARGS)

test-gpu: install ## run the tests that need a CUDA device
	@$(BIN)/python -m pytest -m gpu $(ARGS)

lint: install ## check style, types, imports, Dockerfile and compose file
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/hadolint Dockerfile
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml

format: install ## format the code and fix what ruff can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: install $(PEERS) ## measure and rewrite docs/benchmarks.md; a part with ARGS="alone --quick"
	@$(BIN)/python -m bench $(ARGS)

train: install ## train a model: ARGS="--data PHOTOGRAPHS --out FOLDER"
	@$(BIN)/python -m model.train $(ARGS)

contact-sheet: install ## draw docs/contact-sheet.png: every class of DIT_MODEL, from the service
	$(BIN)/python -m docs.contact_sheet docs/contact-sheet.png

clean: ## remove caches and build output
	rm -rf build dist ./*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis \
		.import_linter_cache .grimp_cache
	find model service tests bench -name __pycache__ -prune -exec rm -rf {} +

distclean: clean ## also remove the environment
	rm -rf $(VENV)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
		"Python 3.11 or newer is needed, for instance: make PYTHON=python3.12 $(MAKECMDGOALS)")'
	@echo "== creating $(VENV) (once; takes a few minutes)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) --quiet pip
	@$(install-torch)
	@$(PIP) --editable . --group dev
	@touch $@

# LitServe is installed outside the environment: otherwise our service would use its uvloop and httptools.
$(PEERS): pyproject.toml constraints.txt
	@$(PIP) --quiet --upgrade --target $(@D) --group bench
	@touch $@

# torch is installed first and alone. On Linux, PyPI's build includes gigabytes of CUDA, which only
# machines with an NVIDIA GPU need. Other machines use a build that pip finds locally (find-links), or
# else the CPU build from PyTorch's index; if that cannot be reached, the next step installs PyPI's
# build. macOS has only PyPI's build.
define install-torch
if [ -n "$(TORCH_INDEX)" ]; then \
	$(PIP) --no-deps --index-url "$(TORCH_INDEX)" torch; \
elif [ "$$(uname -s)" = Linux ] && ! nvidia-smi -L >/dev/null 2>&1; then \
	$(PIP) --no-deps --no-index torch >/dev/null 2>&1 \
	|| { $(reach-torch-index) && $(PIP) --no-deps --index-url "$(TORCH_CPU_INDEX)" torch; } \
	|| echo "== no CPU build of torch can be reached: installing PyPI's"; \
fi
endef
reach-torch-index = $(BIN)/python -c 'from urllib.request import urlopen; \
	urlopen("$(TORCH_CPU_INDEX)/torch/", timeout=10)' 2>/dev/null
