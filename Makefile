# `make run` and `make test` install what they need; `make help` lists all targets.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# What is installed so far: the service; what training adds; the client; the tools of tests and checks.
STAMP := $(VENV)/.installed
TRAIN := $(VENV)/.installed-train
CLIENT := $(VENV)/.installed-client
DEV := $(VENV)/.installed-dev
BROWSER := $(VENV)/.installed-browser
RAY := $(VENV)/.installed-ray
PEERS := build/bench/site/.installed
PROMETHEUS := build/prometheus
DEBIAN := build/debian
APT := apt-get -qq -o Dir::State=$(CURDIR)/$(DEBIAN)/state -o Dir::Cache=$(CURDIR)/$(DEBIAN)/cache \
	-o APT::Sandbox::User=root -o APT::Update::Error-Mode=any -o Acquire::Retries=2 -o Acquire::http::Timeout=20
PIP := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt
PIP_LOG := $(VENV)/pip.log

# A GPU host without network has Python 3.12 and torch; the rest comes from the wheels in this folder.
# Where there are none, gpu-check uses the environment.
GPU_WHEELS := build/gpu-wheels
GPU_SITE := build/gpu-site
ifneq ($(wildcard $(GPU_WHEELS)/*.whl),)
GPU_READY := $(GPU_SITE)/.installed
GPU_PYTHON := PYTHONPATH=$(CURDIR)/$(GPU_SITE) $(PYTHON)
else
GPU_READY := $(DEV)
GPU_PYTHON := $(BIN)/python
endif
# pip compares these tags with a wheel's own one by one, so older ones have to be named too.
GPU_PLATFORMS := manylinux_2_28_x86_64 manylinux_2_27_x86_64 manylinux_2_24_x86_64 \
	manylinux_2_17_x86_64 manylinux2014_x86_64 manylinux_2_5_x86_64 manylinux1_x86_64
PIP-DOWNLOAD = $(BIN)/python -m pip download --quiet --constraint constraints.txt \
	--only-binary=:all: --implementation cp --python-version 3.12 \
	$(addprefix --platform ,$(GPU_PLATFORMS))

# Index to install torch from, overriding the automatic choice below. For example, if the driver is too
# old for the CUDA version of PyPI's build: make install TORCH_INDEX=https://download.pytorch.org/whl/cu126
TORCH_INDEX ?=
TORCH_CPU_INDEX := https://download.pytorch.org/whl/cpu
# An index that is named replaces the torch that is there, once.
ifneq ($(TORCH_INDEX),)
ifneq ($(TORCH_INDEX),$(shell cat $(VENV)/.torch-index 2>/dev/null))
$(STAMP): FORCE
endif
endif

.DEFAULT_GOAL := help
.PHONY: FORCE help install run client test test-slow test-browser test-kernels test-gpu test-ray drill lint format \
	bench gpu-check gpu-wheels train solver contact-sheet screenshot dashboard lock sbom audit image-check prometheus \
	debian-lists clean distclean manifests schemas

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(STAMP) ## install the service into .venv; other targets do this, and add what they need

run: install ## run the service on DIT_HOST:DIT_PORT; flags in ARGS="..."
	@exec $(BIN)/python -m service $(ARGS)

client: $(CLIENT) ## install the Python client and its command line, .venv/bin/dit

# Waiting OpenMP threads sleep, as they do in the service: spinning threads starve a busy machine. The
# models of the quick tests are too small to benefit from a second thread.
test test-slow test-browser test-gpu test-ray drill: export OMP_WAIT_POLICY ?= passive
test test-browser: export OMP_NUM_THREADS ?= 1

test: $(DEV) ## run the quick tests; select some with ARGS="-k name"
	@$(BIN)/python -m pytest -m "not slow and not browser and not drill and not ray" $(ARGS)

test-slow: $(DEV) ## run the tests that take minutes
	@$(BIN)/python -m pytest -m slow $(ARGS)

test-browser: $(BROWSER) ## run the tests of the playground in Chromium, which has to be installed
	@$(BIN)/python -m pytest -m browser $(ARGS)

test-kernels: $(DEV) ## run the tests of the Triton kernels without a GPU; installs Triton (720 MB)
	@$(PIP) --quiet --group kernels
	@$(BIN)/python -m pytest tests/model/backends/test_cuda.py $(ARGS)

test-gpu: $(DEV) ## run the tests that need a CUDA device
	@$(BIN)/python -m pytest -m gpu $(ARGS)

test-ray: $(RAY) ## run the tests and drills with Ray Serve; installs it (500 MB)
	@$(BIN)/python -m pytest -m ray $(ARGS)

drill: $(DEV) ## run the drills' long forms, and put their figures into docs/reliability.md
	@$(BIN)/python -m pytest -m drill $(ARGS)
	@$(BIN)/python -m tests.drills.report

lint: $(DEV) ## check style, types, imports, Dockerfile and compose file
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/hadolint Dockerfile
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml

format: $(DEV) ## format the code and fix what ruff can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(DEV) $(PEERS) ## measure and rewrite docs/benchmarks.md; a part with ARGS="alone --quick"
	@$(BIN)/python -m bench $(ARGS)

gpu-check: $(GPU_READY) ## check a GPU host; STEP=device, tests, sdpa, tick, alone or serving runs one step
	@$(GPU_PYTHON) -m bench.check $(STEP)

gpu-wheels: install ## fetch what gpu-check needs on a host without network into build/gpu-wheels
	@rm -rf $(GPU_WHEELS)
	@mkdir -p $(GPU_WHEELS)
	@$(list-gpu-requirements) > $(GPU_WHEELS)/requirements.txt
	@$(PIP-DOWNLOAD) --dest $(GPU_WHEELS) --requirement $(GPU_WHEELS)/requirements.txt
	@du -sh $(GPU_WHEELS)

train: $(TRAIN) ## train a model: ARGS="--data PHOTOGRAPHS --out FOLDER"
	@$(BIN)/python -m model.train $(ARGS)

solver: $(TRAIN) ## fit a solver of few steps to a model: ARGS="--model FOLDER --steps 6"
	@$(BIN)/python -m model.train.solver $(ARGS)

contact-sheet: $(DEV) ## draw docs/contact-sheet.png: every class of DIT_MODEL, from the service
	$(BIN)/python -m docs.contact_sheet docs/contact-sheet.png

screenshot: $(BROWSER) ## draw docs/images/playground.png: the playground after some use
	$(BIN)/python -m docs.playground_screenshot docs/images/playground.png

dashboard: $(DEV) ## write the dashboard's JSON, and draw docs/dashboard.png from a service under load
	$(BIN)/python -m deploy.dashboard
	$(BIN)/python -m deploy.dashboard.picture docs/dashboard.png

lock: $(DEV) ## resolve the packages of the image anew into deploy/lock
	@$(PIP) --quiet --group lock
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m deploy.lock

sbom: $(DEV) ## write build/sbom.json: the Python packages of the image, as CycloneDX
	@$(PIP) --quiet --group audit
	@mkdir -p build
	cat deploy/lock/base.txt deploy/lock/cuda.txt | $(BIN)/cyclonedx-py requirements \
		--pyproject pyproject.toml --output-reproducible --output-file build/sbom.json -

audit: $(DEV) ## look the packages of the image up among the known vulnerabilities
	@$(PIP) --quiet --group audit
	$(BIN)/pip-audit --strict --disable-pip --require-hashes \
		--requirement deploy/lock/base.txt --requirement deploy/lock/cuda.txt

image-check: $(DEV) ## build the image with buildah, as root, and try it; ARGS=--keep keeps it, --ray has Ray in it
	@$(BIN)/python -m deploy.image_check $(ARGS)

manifests: $(DEV) ## write the manifests' alerts and check all against their schemas; CRDS=FOLDER adds a cluster's
	@$(BIN)/python -m deploy.manifests $(if $(CRDS),--crds $(CRDS))

schemas: $(DEV) ## take the schemas of Kubernetes that the manifests need from a package (22 MB)
	@$(PIP) --quiet --group schemas
	@$(BIN)/python -m deploy.manifests.extract

prometheus: $(PROMETHEUS)/usr/bin/promtool ## fetch Debian's Prometheus and Alertmanager for the tests of the alerts

clean: ## remove caches and build output
	rm -rf build dist ./*.egg-info client/build client/*.egg-info .pytest_cache .mypy_cache .ruff_cache \
		.hypothesis .import_linter_cache .grimp_cache
	find model service client tests bench -name __pycache__ -prune -exec rm -rf {} +

distclean: clean ## also remove the environment
	rm -rf $(VENV)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
		"Python 3.11 or newer is needed, for instance: make PYTHON=python3.12 $(MAKECMDGOALS)")'
	@echo "== setting up $(VENV) (once; takes a few minutes)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) --quiet pip
	@echo "== 1 of 2: torch, the largest part"
	@$(install-torch)
	@echo "== 2 of 2: the service and its other packages"
	@$(call install-quietly,--editable .)
	@echo "$(TORCH_INDEX)" > $(VENV)/.torch-index
	@touch $@

$(TRAIN): $(STAMP)
	@echo "== adding what training needs (once)"
	@$(call install-quietly,--editable .[train])
	@touch $@

$(CLIENT): $(STAMP) client/pyproject.toml
	@echo "== adding the client (once)"
	@$(call install-quietly,--editable ./client)
	@touch $@

$(DEV): $(CLIENT)
	@echo "== adding what tests and checks need (once)"
	@$(call install-quietly,--group dev)
	@touch $@

$(BROWSER): $(DEV)
	@echo "== adding what tests in a browser need (once)"
	@$(call install-quietly,--group browser)
	@touch $@

$(RAY): $(DEV)
	@echo "== adding Ray Serve (once)"
	@$(call install-quietly,--editable .[ray])
	@touch $@

# LitServe is installed outside the environment: otherwise our service would use its uvloop and httptools.
$(PEERS): pyproject.toml constraints.txt
	@$(PIP) --quiet --upgrade --target $(@D) --group bench
	@touch $@

# Unpacked, not installed: no daemon is started. If the host has no package lists, or old ones, ours are
# fetched into build, which needs no root.
$(PROMETHEUS)/usr/bin/promtool:
	@rm -rf $(PROMETHEUS)
	@mkdir -p $(PROMETHEUS)
	@cd $(PROMETHEUS) && { apt-get -qq $(download-prometheus) 2>/dev/null \
		|| { $(MAKE) --silent -C $(CURDIR) debian-lists && $(APT) $(download-prometheus); }; } \
		&& for package in *.deb; do dpkg-deb --extract "$$package" . || exit; done && rm -- *.deb
download-prometheus = download prometheus prometheus-alertmanager

debian-lists:
	@mkdir -p $(DEBIAN)/state/lists/partial $(DEBIAN)/cache/archives/partial
	@$(APT) update

# --target keeps the host's own Python as it is; --no-deps, because torch is not among the wheels.
$(GPU_SITE)/.installed: $(wildcard $(GPU_WHEELS)/*.whl)
	@rm -rf $(GPU_SITE)
	@$(PYTHON) -m pip install --quiet --no-index --no-deps --target $(GPU_SITE) $(GPU_WHEELS)/*.whl
	@touch $@

define list-gpu-requirements
$(BIN)/python -c 'import tomllib; \
	tree = tomllib.load(open("pyproject.toml", "rb")); \
	needed = tree["project"]["dependencies"] + tree["dependency-groups"]["gpu"]; \
	print(*[each for each in needed if not each.startswith("torch>")], sep="\n")'
endef

# pip's 200 lines go to a log; in their place the packages are counted. If pip fails, the log's end is shown.
define install-quietly
{ $(PIP) $(1) 2>&1; echo "exit $$?"; } | tee $(PIP_LOG) | { n=0; \
	while IFS= read -r line; do case "$$line" in \
		Collecting*) n=$$((n + 1)); printf '\r   %d packages' $$n;; \
		exit*) code=$${line#exit };; \
	esac; done; \
	test $$n = 0 || echo; exit $$code; } \
|| { tail -n 20 $(PIP_LOG); echo "== pip failed; $(PIP_LOG) has all that it said"; exit 1; }
endef

# torch is installed first and alone. On Linux, PyPI's build includes gigabytes of CUDA, which only
# machines with an NVIDIA GPU need. Other machines use a build that pip finds locally (find-links), or
# else the CPU build from PyTorch's index; if that cannot be reached, the next step installs PyPI's
# build. macOS has only PyPI's build.
define install-torch
if [ -n "$(TORCH_INDEX)" ]; then \
	$(PIP) --no-deps --force-reinstall --index-url "$(TORCH_INDEX)" torch; \
elif [ "$$(uname -s)" = Linux ] && ! nvidia-smi -L >/dev/null 2>&1; then \
	$(PIP) --no-deps --no-index torch >/dev/null 2>&1 \
	|| { $(reach-torch-index) && $(PIP) --no-deps --index-url "$(TORCH_CPU_INDEX)" torch; } \
	|| echo "== no CPU build of torch can be reached: installing PyPI's"; \
fi
endef
reach-torch-index = $(BIN)/python -c 'from urllib.request import urlopen; \
	urlopen("$(TORCH_CPU_INDEX)/torch/", timeout=10)' 2>/dev/null
