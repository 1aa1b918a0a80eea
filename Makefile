# One word for each thing that a developer does; `make` alone lists them. Each makes the environment first, if need be.

PYTHON ?= python3
ARGS ?=
# Tests of one file stay together: they share servers.
WORKERS ?= 2

# Nothing here needs the environment to be activated, or minds a space in the path.
PY := .venv/bin/python
# For what reads the settings and connects to nothing.
DATABASES = $(foreach name,$(shell $(SERVICES) --with-database | tr a-z A-Z),$(name)_DATABASE_URL=postgresql://x@127.0.0.1:1/x)
ANYWHERE = ENVIRONMENT=development $(DATABASES)
SERVICES := PYTHONPATH=platform $(PY) -m services
EMBEDDED := PYTHONPATH=platform $(PY) -m embedded

.DEFAULT_GOAL := help
.PHONY: help environment demo up engines test lint types bench chaos drills docs lock locked audit deployable schemas generate service clean

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

environment:
	@$(PYTHON) -I platform/embedded/environment.py

demo: environment  ## Start everything with throw-away data, play the story once, show it
	@$(EMBEDDED) demo $(ARGS)

up: environment  ## Keep the system running until Ctrl-C, with its data in var/
	@$(EMBEDDED) up $(ARGS)

engines: environment  ## Only PostgreSQL and Kafka, on free ports with throw-away data, until Ctrl-C
	@$(EMBEDDED) engines $(ARGS)

test: environment  ## Run all tests on the real engines (ARGS="-k outbox" for some of them)
	@$(PY) -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

lint: environment  ## Check style and the arrows between the parts
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	PYTHONPATH=platform .venv/bin/lint-imports

types: environment  ## Check types
	$(ANYWHERE) $(PY) -m mypy .

bench: environment  ## Measure speed and memory beside their references
	@PYTHONPATH=platform $(PY) -m bench $(ARGS)

chaos: environment  ## Break everything on purpose, then account for everything (USERS=1000 ORDERS=500 DURATION=60 SEED=7)
	@PYTHONPATH=platform $(PY) -m chaos

drills: environment  ## Restart and kill under load, and measure how long anything stands still
	@$(PY) -m pytest tests/drills -n 0 -m drill -s -q $(ARGS)

docs: environment  ## Build the documentation as a site in site/, strictly: no broken link, every page in the navigation
	@NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict

lock: environment  ## Lock the newest versions of all packages that the .in files allow
	$(PY) -m uv pip compile -q --upgrade --universal --python-version 3.11 --generate-hashes -o requirements.txt requirements.in
	$(PY) -m uv pip compile -q --upgrade --universal --python-version 3.11 --generate-hashes -o requirements-dev.txt requirements-dev.in

locked: environment  ## Check that the lock files fit the .in files, and that every import is a declared package
	@for name in requirements requirements-dev; do \
	  cp $$name.txt .$$name.check && \
	  $(PY) -m uv pip compile -q --no-header --universal --python-version 3.11 --generate-hashes -o .$$name.check $$name.in && \
	  grep -v '^#' $$name.txt | diff - .$$name.check >/dev/null && rm .$$name.check || \
	  { rm -f .$$name.check; echo "$$name.txt does not fit $$name.in: run 'make lock'"; exit 1; }; \
	done
	.venv/bin/deptry .

audit: environment  ## Ask the advisory database whether a locked package is known to be unsafe
	.venv/bin/pip-audit --strict --disable-pip --require-hashes -r requirements.txt

deployable: environment  ## Check that migrations are complete, and that each service is fit for production
	@for service in $$($(SERVICES) --with-database); do \
	  $(ANYWHERE) $(PY) -W ignore manage.py makemigrations --check --dry-run --settings=settings.$$service || exit 1; \
	done
	@for service in $$($(SERVICES)); do \
	  SECRET_KEY=$$($(PY) -c 'import secrets; print(secrets.token_urlsafe(60))') HTTPS_ONLY=true $(DATABASES) \
	  $(PY) manage.py check --deploy --fail-level WARNING --settings=settings.$$service || exit 1; \
	done

schemas: environment  ## Write the JSON Schemas of all events to docs/events/
	@for service in $$($(SERVICES) --with-kafka); do \
	  $(ANYWHERE) $(PY) manage.py schemas --settings=settings.$$service || exit 1; \
	done

generate: schemas  ## Write everything that is generated from the declarations of the services, and the events' schemas
	@PYTHONPATH=platform $(PY) -m services --write
	@$(ANYWHERE) $(PY) -m settings.table --write

service: environment  ## Write a new service (NAME=stock ON=order.created DATABASE=no)
	@PYTHONPATH=platform $(PY) -m scaffold

clean:  ## Delete the environment and caches; the data in var/ stays
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache staticfiles site
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
