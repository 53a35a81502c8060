# vmlab: `make lab` to read the course, `make test` to check it. `make help` lists the rest.

VENV   := .venv
PYTHON ?=
RUN    := $(VENV)/bin/python
export PYTHON

.DEFAULT_GOAL := help
.PHONY: help lab setup setup-dev test lint bench requirements start-page clean

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1|/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-20s %s\n", $$1, $$2 }'

lab: setup ## set everything up and open the course in JupyterLab (options in VMLAB_LAB_ARGS, e.g. --no-browser)
	@$(RUN) -m vmlab lab $(VMLAB_LAB_ARGS)

setup: ## only make the environment in .venv
	@scripts/python scripts/setup.py

setup-dev: ## only make the environment, with what the tests need
	@scripts/python scripts/setup.py --dev

test: setup-dev ## lint, type-check and run all the tests, in a real browser too (options for pytest in ARGS)
	@$(RUN) scripts/system.py
	@$(MAKE) --no-print-directory lint
	@$(RUN) -m pytest $(ARGS)

lint: setup-dev ## only lint and type-check
	@$(RUN) -m ruff check .
	@$(RUN) -m mypy

bench: setup-dev ## measure speed and memory (CPU time, minimum of 5)
	@$(RUN) -m benchmarks $(ARGS)

requirements: setup-dev ## refresh the pinned requirements from pyproject.toml
	@$(RUN) scripts/requirements.py

start-page: setup-dev ## rewrite the map in notebooks/00-start.ipynb after chapters were added
	@$(RUN) scripts/start_page.py

clean: ## remove the environment and everything that was generated outside git's care
	rm -rf $(VENV) build dist test-results .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
