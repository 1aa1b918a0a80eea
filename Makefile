# The tasks of a developer; `make` alone lists them. Each target creates the environment first if necessary.

PYTHON ?= python3
ARGS ?=
# Tests of one file run in one process, since they share servers. Six processes, also on two cores: three of them begin with
# tests that mostly wait (tests/distribution.py).
WORKERS ?= 6

# Works without activating the environment, and in paths with spaces.
PY := .venv/bin/python
# For commands that read the settings and connect to nothing.
DATABASES = $(foreach name,$(shell $(SERVICES) --with-database | tr a-z A-Z),$(name)_DATABASE_URL=postgresql://x@127.0.0.1:1/x)
ANYWHERE = ENVIRONMENT=development $(DATABASES)
SERVICES := PYTHONPATH=platform $(PY) -m services
EMBEDDED := PYTHONPATH=platform $(PY) -m embedded

.DEFAULT_GOAL := help
.PHONY: help environment demo up observe engines test lint types bench chaos drills docs screenshots lock locked audit deployable schemas generate service clean

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

environment:
	@$(PYTHON) -I platform/embedded/environment.py

demo: environment  ## Start everything with temporary data, play the story once, show it
	@$(EMBEDDED) demo $(ARGS)

up: environment  ## Run the system until Ctrl-C, with its data in var/
	@$(EMBEDDED) up $(ARGS)

observe: environment  ## Measure the system that `make up` runs: Prometheus and the monitor, until Ctrl-C
	@$(EMBEDDED) observe $(ARGS)

engines: environment  ## Run only PostgreSQL and Kafka until Ctrl-C, on free ports with temporary data
	@$(EMBEDDED) engines $(ARGS)

test: environment  ## Run all tests on the real engines (ARGS="-k outbox" for some of them)
	@$(PY) -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

lint: environment  ## Check style and import contracts
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	PYTHONPATH=platform .venv/bin/lint-imports

types: environment  ## Check types
	$(ANYWHERE) $(PY) -m mypy .

bench: environment  ## Measure speed and memory, next to reference systems
	@PYTHONPATH=platform $(PY) -m bench $(ARGS)

chaos: environment  ## Inject failures everywhere, then account for every event (USERS=1000 ORDERS=500 DURATION=60 SEED=7)
	@PYTHONPATH=platform $(PY) -m chaos

drills: environment  ## Restart and kill processes under load, and measure how long processing stops
	@$(PY) -m pytest tests/drills -n 0 -m drill -s -q $(ARGS)

docs: environment  ## Build the documentation in site/, failing on broken links and pages outside the navigation
	@NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict

screenshots: environment  ## Take the pictures of the console in docs/images/, from a running system
	@PYTHONPATH=platform DJANGO_SETTINGS_MODULE=settings.test $(PY) -m tests.browser.console.screenshots

lock: environment  ## Lock the newest package versions that the .in files allow
	$(PY) -m uv pip compile -q --upgrade --universal --python-version 3.11 --generate-hashes -o requirements.txt requirements.in
	$(PY) -m uv pip compile -q --upgrade --universal --python-version 3.11 --generate-hashes -o requirements-dev.txt requirements-dev.in

locked: environment  ## Check that the lock files match the .in files, and that every import is declared
	@for name in requirements requirements-dev; do \
	  cp $$name.txt .$$name.check && \
	  $(PY) -m uv pip compile -q --no-header --universal --python-version 3.11 --generate-hashes -o .$$name.check $$name.in && \
	  grep -v '^#' $$name.txt | diff - .$$name.check >/dev/null && rm .$$name.check || \
	  { rm -f .$$name.check; echo "$$name.txt does not match $$name.in: run 'make lock'"; exit 1; }; \
	done
	.venv/bin/deptry .

audit: environment  ## Check the locked packages for known vulnerabilities
	.venv/bin/pip-audit --strict --disable-pip --require-hashes -r requirements.txt

deployable: environment  ## Check for missing migrations, and run the deployment checks of each service
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

generate: schemas  ## Write the files that are generated from the declarations, and the schemas of events
	@PYTHONPATH=platform $(PY) -m services --write
	@$(ANYWHERE) $(PY) -m settings.table --write
	@$(ANYWHERE) $(PY) -m settings.metrics_table --write

service: environment  ## Write a new service (NAME=stock ON=order.created DATABASE=no)
	@PYTHONPATH=platform $(PY) -m scaffold

clean:  ## Delete the environment and caches; the data in var/ stays
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache staticfiles site
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
