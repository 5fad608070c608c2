# make run: a first look, with a simulated cluster.  make test: all fast tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PORT ?= 8080
# The images' name and tag: as the original's README calls them, and as its Makefile did.
DOCKERIMAGE_NAME ?= kubernetes-image-puller
DOCKERIMAGE_TAG ?= next
IMAGE_NAME ?= $(DOCKERIMAGE_NAME)
IMAGE_TAG ?= $(DOCKERIMAGE_TAG)
PLATFORMS ?= linux/amd64,linux/arm64,linux/ppc64le,linux/s390x
# This machine's architecture, as images call it.
ARCH ?= $(patsubst aarch64,arm64,$(patsubst x86_64,amd64,$(shell uname -m)))
# Hashes of everything, and nothing of the machine that it was resolved on.
COMPILE = $(VENV)/lock/bin/pip-compile --quiet --generate-hashes --strip-extras --no-header \
	--no-emit-index-url --no-emit-trusted-host --no-emit-find-links --annotation-style line

.DEFAULT_GOAL := help
.PHONY: help run test fuzz lint e2e e2e-up e2e-down bench build sbom licences docker docker-multiarch lock clean

help: ## Say what there is
	@grep -E '^[a-z0-9-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 18

# A lock file is complete: with nothing left to resolve, no newer release can get in the way.
INSTALL = $(BIN)/pip install --quiet --disable-pip-version-check --no-deps

$(VENV)/installed: requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(INSTALL) --require-hashes -r requirements.lock
	$(INSTALL) --editable .
	touch $@

$(VENV)/tools: $(VENV)/installed requirements-test.lock
	$(INSTALL) --require-hashes -r requirements-test.lock
	touch $@

# Apart from the service and its tests, so that these tools need not fit them.
$(VENV)/release/installed: build/release.lock
	$(PYTHON) -m venv $(VENV)/release
	$(VENV)/release/bin/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $<
	touch $@

run: $(VENV)/installed ## Start the service beside a simulated cluster of three nodes
	@PORT=$(PORT) exec $(BIN)/image-puller demo

test: $(VENV)/tools ## All fast tests on all cores, with branch coverage of service/
	@# Where CI is set, what other architectures need must be there; elsewhere its tests may skip.
	@if [ -n "$$CI" ]; then sleep/install-tools; fi
	$(BIN)/pytest --numprocesses=auto --dist=worksteal --cov --cov-report=term

SECONDS ?= 60
fuzz: $(VENV)/fuzz/installed ## Look for requests that no decoder expects, for SECONDS=60 in all; x86-64 only
	$(VENV)/fuzz/bin/python -B fuzz/decode.py $(SECONDS) $(SOURCES)

$(VENV)/fuzz/installed: requirements-fuzz.lock
	test -x $(VENV)/fuzz/bin/python || $(PYTHON) -m venv $(VENV)/fuzz
	$(VENV)/fuzz/bin/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-fuzz.lock
	touch $@

lint: $(VENV)/tools ## Style, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

e2e: $(VENV)/tools ## The whole path on a real API server; builds what it needs once
	e2e/run $(BIN)/pytest

e2e-up: $(VENV)/tools ## Keep a control plane for quick runs: e2e/run uses it until make e2e-down
	e2e/cluster up $(BIN)/python

e2e-down: ## Stop the kept control plane, and remove what it has
	e2e/cluster down

bench: $(VENV)/tools ## How long a push takes to the nodes, beside the floor: a table, in minutes
	e2e/run $(BIN)/pytest bench/push_to_node.py

build: $(VENV)/installed ## The wheel in dist/, the sleep binary in sleep/build/
	$(BIN)/pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .
	$(MAKE) -C sleep ARCH=$(ARCH)

sbom: $(VENV)/release/installed ## What the image's lock file brings, as CycloneDX: dist/sbom.cdx.json
	mkdir -p dist
	$(VENV)/release/bin/cyclonedx-py requirements --pyproject pyproject.toml \
		--output-reproducible --output-file dist/sbom.cdx.json requirements-oidc.lock

licences: $(VENV)/tools $(VENV)/release/installed ## Their licences and texts: dist/licences.txt; fails on a new one
	build/licences $(VENV)/release/bin/pip-licenses $(BIN)/python dist/licences.txt

docker: ## Both images, IMAGE_NAME:IMAGE_TAG and IMAGE_NAME-sleep:IMAGE_TAG
	build/images '$(IMAGE_NAME)' '$(IMAGE_TAG)'

docker-multiarch: ## Both images for all PLATFORMS, pushed to where IMAGE_NAME says
	build/images --platforms '$(PLATFORMS)' '$(IMAGE_NAME)' '$(IMAGE_TAG)'

lock: ## Bring the lock files up to date with pyproject.toml
	$(PYTHON) -m venv $(VENV)/lock
	$(VENV)/lock/bin/pip install --quiet pip-tools
	$(COMPILE) --output-file requirements.lock pyproject.toml
	$(COMPILE) --extra oidc --output-file requirements-oidc.lock pyproject.toml
	$(COMPILE) --extra fuzz --output-file requirements-fuzz.lock pyproject.toml
	$(COMPILE) --extra oidc --extra test --output-file requirements-test.lock pyproject.toml
	$(COMPILE) --allow-unsafe --output-file build/tools.lock build/tools.in
	$(COMPILE) --output-file build/release.lock build/release.in

clean: ## Remove what was installed and cached here
	rm -rf $(VENV) .cache .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache \
		dist sleep/build build/offline/wheels/* build/offline/sleep/*
