# One word for each thing that a developer does; `make` alone lists them. Each makes the environment first, if need be.

PYTHON ?= python3
ARGS ?=

# Nothing here needs the environment to be activated, or minds a space in the path.
PY := .venv/bin/python
EMBEDDED := PYTHONPATH=platform $(PY) -m embedded

.DEFAULT_GOAL := help
.PHONY: help environment demo up engines test lint types bench lock clean

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' Makefile

environment:
	@$(PYTHON) -I platform/embedded/environment.py

demo: environment  ## Start everything with throw-away data, play the story once, show it
	@$(EMBEDDED) demo $(ARGS)

up: environment  ## Keep the system running until Ctrl-C, with its data in var/
	@$(EMBEDDED) up $(ARGS)

engines: environment  ## Only PostgreSQL and Kafka, on free ports with throw-away data, until Ctrl-C
	@$(EMBEDDED) engines $(ARGS)

test: environment  ## Run all tests on the real engines (ARGS="-k outbox" for some of them)
	@$(PY) -m pytest $(ARGS)

lint: environment  ## Check style and the arrows between the parts
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	.venv/bin/lint-imports

types: environment  ## Check types
	$(PY) -m mypy .

bench: environment  ## Measure speed and memory beside their references
	@PYTHONPATH=platform $(PY) -m bench $(ARGS)

lock: environment  ## Lock the newest versions of all packages that the .in files allow
	$(PY) -m uv pip compile -q --upgrade --universal --python-version 3.11 --generate-hashes -o requirements.txt requirements.in
	$(PY) -m uv pip compile -q --upgrade --universal --python-version 3.11 --generate-hashes -o requirements-dev.txt requirements-dev.in

clean:  ## Delete the environment and caches; the data in var/ stays
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache staticfiles
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
