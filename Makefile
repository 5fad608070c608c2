# make run: a first look, with a simulated cluster.  make test: all fast tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PORT ?= 8080

.DEFAULT_GOAL := help
.PHONY: help run test lint e2e lock clean

help: ## Say what there is
	@grep -E '^[a-z0-9]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 8

$(VENV)/installed: requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

$(VENV)/tools: $(VENV)/installed requirements-test.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-test.lock
	touch $@

run: $(VENV)/installed ## Start the service beside a simulated cluster of three nodes
	@PORT=$(PORT) $(BIN)/image-puller demo

test: $(VENV)/tools ## All fast tests, with branch coverage of service/
	$(BIN)/pytest --cov --cov-report=term

lint: $(VENV)/tools ## Style, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

e2e: $(VENV)/tools ## The whole path on a real API server; builds what it needs once
	e2e/run $(BIN)/pytest

lock: ## Bring the lock files up to date with pyproject.toml
	$(PYTHON) -m venv $(VENV)/lock
	$(VENV)/lock/bin/pip install --quiet pip-tools
	$(VENV)/lock/bin/pip-compile --quiet --generate-hashes --no-emit-index-url --no-emit-trusted-host --strip-extras --no-header --annotation-style line --output-file requirements.lock pyproject.toml
	$(VENV)/lock/bin/pip-compile --quiet --generate-hashes --no-emit-index-url --no-emit-trusted-host --strip-extras --no-header --annotation-style line --extra test --output-file requirements-test.lock pyproject.toml

clean: ## Remove what was installed and cached here
	rm -rf $(VENV) .cache .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
