# `make` lists the targets. Start with `make run` (a simulated cluster) and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PORT ?= 8080
# The name and the tag of the images. The original calls them DOCKERIMAGE_NAME and DOCKERIMAGE_TAG.
DOCKERIMAGE_NAME ?= kubernetes-image-puller
DOCKERIMAGE_TAG ?= next
IMAGE_NAME ?= $(DOCKERIMAGE_NAME)
IMAGE_TAG ?= $(DOCKERIMAGE_TAG)
PLATFORMS ?= linux/amd64,linux/arm64,linux/ppc64le,linux/s390x
# The architecture of this machine, as images name it.
ARCH ?= $(patsubst aarch64,arm64,$(patsubst x86_64,amd64,$(shell uname -m)))
# Lock files contain the hashes of all packages, and nothing about the machine that made them.
COMPILE = $(VENV)/lock/bin/pip-compile $(UPGRADE) --quiet --generate-hashes --strip-extras --no-header \
	--no-emit-index-url --no-emit-trusted-host --no-emit-find-links --annotation-style line

.DEFAULT_GOAL := help
.PHONY: help run test fuzz lint e2e e2e-oldest e2e-up e2e-down bench build screenshots docs sbom licences docker docker-multiarch lock clean

help: ## List the targets
	@grep -E '^[a-z0-9-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 18

# A lock file is complete, so pip resolves nothing and takes no newer release.
INSTALL = $(BIN)/pip install --quiet --disable-pip-version-check --no-deps

$(VENV)/installed: requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(INSTALL) --require-hashes -r requirements.lock
	$(INSTALL) --editable .
	touch $@

$(VENV)/tools: $(VENV)/installed requirements-test.lock
	$(INSTALL) --require-hashes -r requirements-test.lock
	touch $@

# These tools have an environment of their own, because their versions may conflict with the service's.
$(VENV)/release/installed: build/release.lock
	$(PYTHON) -m venv $(VENV)/release
	$(VENV)/release/bin/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $<
	touch $@

$(BIN)/actionlint: build/actionlint/go.mod build/actionlint/go.sum $(VENV)/installed
	cd build/actionlint && CGO_ENABLED=0 go build -buildvcs=false -trimpath -o '$(CURDIR)/$@' \
		github.com/rhysd/actionlint/cmd/actionlint
	touch $@

# No rule needs the discovery of scrape targets in clouds, which most of its code is for.
$(BIN)/promtool: build/promtool/go.mod build/promtool/go.sum $(VENV)/installed
	cd build/promtool && CGO_ENABLED=0 go build -buildvcs=false -trimpath -tags remove_all_sd \
		-ldflags '-s -w' -o '$(CURDIR)/$@' github.com/prometheus/prometheus/cmd/promtool
	touch $@

$(BIN)/dashboard-schema: build/dashboard-schema/main.go build/dashboard-schema/go.mod build/dashboard-schema/go.sum \
		$(VENV)/installed
	cd build/dashboard-schema && CGO_ENABLED=0 go build -buildvcs=false -trimpath -o '$(CURDIR)/$@' .
	touch $@

run: $(VENV)/installed ## Start the service beside a simulated cluster of three nodes
	@PORT=$(PORT) exec $(BIN)/image-puller demo

# With CI set, promtool is required too.
test: $(VENV)/tools $(if $(CI),$(BIN)/promtool) ## Run all fast tests on all cores, with branch coverage of service/
	@# With CI set, the compilers and emulators for other architectures are required.
	@if [ -n "$$CI" ]; then sleep/install-tools; fi
	$(BIN)/pytest --numprocesses=auto --dist=worksteal --cov --cov-report=term

SECONDS ?= 60
fuzz: $(VENV)/fuzz/installed ## Search for requests that crash a decoder, for SECONDS=60 in all; x86-64 only
	$(VENV)/fuzz/bin/python -B fuzz/decode.py $(SECONDS) $(SOURCES)

$(VENV)/fuzz/installed: requirements-fuzz.lock
	test -x $(VENV)/fuzz/bin/python || $(PYTHON) -m venv $(VENV)/fuzz
	$(VENV)/fuzz/bin/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-fuzz.lock
	touch $@

lint: $(VENV)/tools $(BIN)/actionlint $(BIN)/promtool $(BIN)/dashboard-schema ## Check style, types, the direction of imports, workflows, alerts and documentation
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/actionlint
	$(BIN)/zizmor --offline --quiet --persona=pedantic --strict-collection .
	$(BIN)/promtool check rules --lint=all --lint-fatal deploy/helm/files/alerts.yaml
	$(BIN)/dashboard-schema deploy/helm/files/dashboard.json
	$(BIN)/python build/prose.py

e2e: $(VENV)/tools ## Test the whole path on a real API server; builds what it needs once
	e2e/run $(BIN)/pytest

OLDEST = test_contract test_push test_nodes test_on_nodes
e2e-oldest: $(VENV)/tools ## The same for a part of the tests, on the oldest Kubernetes and containerd that can be built
	E2E_KUBERNETES=oldest e2e/run $(BIN)/pytest $(OLDEST:%=e2e/%.py)

e2e-up: $(VENV)/tools ## Keep a control plane for quick runs: e2e/run uses it until make e2e-down
	e2e/cluster up $(BIN)/python

e2e-down: ## Stop the kept control plane, and remove what it has
	e2e/cluster down

bench: $(VENV)/tools ## Measure the time from a push to the nodes, and print a table; takes minutes
	e2e/run $(BIN)/pytest bench/push_to_node.py bench/many_images.py bench/large_images.py

build: $(VENV)/installed ## Build the wheel in dist/ and the sleep binary in sleep/build/
	$(BIN)/pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .
	$(MAKE) -C sleep ARCH=$(ARCH)

screenshots: $(VENV)/tools ## Write the screenshots of the status page to docs/images; needs Chromium
	$(BIN)/python -m e2e.screenshots docs/images

docs: $(VENV)/installed ## Write the generated pages of docs/ (Helm values, registries), the plain alerts and the dashboard
	page=$$($(BIN)/python build/helm_values.py) && printf '%s\n' "$$page" > docs/install/helm-values.md
	$(BIN)/python build/registry_pages.py docs/registries
	rule=$$($(BIN)/python build/prometheus_rule.py) && printf '%s\n' "$$rule" > deploy/monitoring/prometheusrule.yaml
	dashboard=$$($(BIN)/python build/dashboard.py) && printf '%s\n' "$$dashboard" > deploy/helm/files/dashboard.json

sbom: $(VENV)/release/installed ## List the packages of the service image, as CycloneDX: dist/sbom.cdx.json
	mkdir -p dist
	$(VENV)/release/bin/cyclonedx-py requirements --pyproject pyproject.toml \
		--output-reproducible --output-file dist/sbom.cdx.json requirements-oidc.lock

licences: $(VENV)/tools $(VENV)/release/installed ## Write their licences to dist/licences.txt; fails on one that is not allowed
	build/licences $(VENV)/release/bin/pip-licenses $(BIN)/python dist/licences.txt

docker: ## Build both images, IMAGE_NAME:IMAGE_TAG and IMAGE_NAME-sleep:IMAGE_TAG
	build/container-images '$(IMAGE_NAME)' '$(IMAGE_TAG)'

docker-multiarch: ## Build both images for all PLATFORMS, and push them to the registry in IMAGE_NAME
	build/container-images --platforms '$(PLATFORMS)' '$(IMAGE_NAME)' '$(IMAGE_TAG)'

lock: ## Update the lock files to pyproject.toml; changes no version that still fits
	$(PYTHON) -m venv $(VENV)/lock
	$(VENV)/lock/bin/pip install --quiet pip-tools
	$(COMPILE) --output-file requirements.lock pyproject.toml
	$(COMPILE) --extra oidc --output-file requirements-oidc.lock pyproject.toml
	$(COMPILE) --extra fuzz --output-file requirements-fuzz.lock pyproject.toml
	$(COMPILE) --extra oidc --extra test --output-file requirements-test.lock pyproject.toml
	$(COMPILE) --allow-unsafe --output-file build/tools.lock build/tools.in
	$(COMPILE) --output-file build/release.lock build/release.in

.PHONY: upgrade-locks
upgrade-locks: ## Update the lock files to the newest versions that pyproject.toml allows
	$(MAKE) lock UPGRADE=--upgrade

clean: ## Remove everything that make installed, built or cached here
	rm -rf $(VENV) .cache .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache \
		dist sleep/build build/offline/wheels/* build/offline/sleep/*
