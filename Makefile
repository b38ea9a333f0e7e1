# `make quickstart` and `make test` start from a bare machine with Python 3.11 or 3.12:
# each makes .venv from the hashed lock file first, once.
# Another Python: make test PYTHON=/path/to/python3.12

PYTHON ?=
BIN := .venv/bin
LINTED := alignjax data_gen tests launch docs setup.py $(wildcard benchmarks)

.DEFAULT_GOAL := help
.PHONY: help env quickstart test lint format types lock clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

env: ## Make .venv from the hashed lock file; instant when it is up to date
	@PYTHON='$(PYTHON)' sh launch/environment.sh

quickstart: env ## Make preference data, train on it, measure before and after, report
	$(BIN)/alignjax pipeline configs/quickstart.yaml

test: env ## Run the tests, without those marked slow
	$(BIN)/pytest -m "not slow"

lint: env ## Check style, likely bugs and formatting (ruff)
	$(BIN)/ruff check $(LINTED)
	$(BIN)/ruff format --check $(LINTED)

format: env ## Rewrite the files in the project's format
	$(BIN)/ruff check --fix $(LINTED)
	$(BIN)/ruff format $(LINTED)

types: env ## Check types (pyright)
	$(BIN)/pyright

lock: env ## Write the lock file of .venv's Python anew from setup.py
	$(BIN)/pip-compile --quiet --upgrade --extra dev --generate-hashes --allow-unsafe \
	  --strip-extras --no-emit-index-url --no-emit-find-links --no-emit-trusted-host \
	  --output-file requirements/lock-py$$($(BIN)/python -c 'import sys; print("%d%d" % sys.version_info[:2])').txt \
	  setup.py

clean: ## Delete .venv, caches and build output; runs/ stays
	rm -rf .venv build dist alignjax.egg-info .pytest_cache .ruff_cache .hypothesis .cache
	find alignjax data_gen tests launch -name __pycache__ -type d -prune -exec rm -rf {} +
