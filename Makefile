# groupwise: `make help` lists the targets. The two that matter: `make demo` and `make test`.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python$(shell cat .python-version)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
STUDIES := basket_items private_label line_spend
ENGINE ?=
QUICK := not parity and not calibration and not faults and not fuzz and not operations
LOCKING := --universal --python-version 3.12 --generate-hashes --no-emit-index-url --no-annotate --no-header --quiet

export DO_NOT_TRACK := 1
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS := 90

$(STAMP): requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "groupwise needs $(PYTHON) on the PATH (or: make PYTHON=/path/to/python3.13 ...)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

.PHONY: help install demo test coverage hooks check format lock parity calibration faults fuzz operations benchmarks docs site examples release-schema clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

install: $(STAMP) ## create .venv from the hashed lock and install the project editable

demo: install ## load the real shop, fit the three studies, publish their tables and reports; ENGINE=likelihood for a quick one
	$(BIN)/groupwise load-shop --database data/shop.duckdb
	@for study in $(STUDIES); do $(BIN)/groupwise estimate studies/$$study.yaml $(if $(ENGINE),--engine $(ENGINE)); done
	$(BIN)/groupwise show studies/line_spend.yaml

test: install ## the default test run
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "$(QUICK)" --durations=10

coverage: install ## the default test run with its coverage, at least 85 %
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "$(QUICK)" --cov --cov-report=term --cov-report=html:.groupwise/coverage

hooks: install ## run the linters before every commit, and the types before every push
	$(BIN)/pre-commit install --hook-type pre-commit --hook-type pre-push

check: install ## lint, format check, strict types, SQL lint, import rule
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/sqlfluff lint --disable-progress-bar sql
	$(BIN)/lint-imports

format: install ## format Python and SQL
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/sqlfluff format --disable-progress-bar sql

lock: ## resolve the dependencies again and write requirements.lock, with hashes and no index address
	@test -x $(BIN)/uv || { $(PYTHON) -m venv $(VENV) && $(BIN)/python -m pip install --quiet uv; }
	$(BIN)/uv pip compile pyproject.toml --group dev --extra shop --extra dask --extra object-storage --extra excel $(LOCKING) --output-file requirements.lock
	$(BIN)/uv pip compile --group peers --constraints requirements.lock $(LOCKING) --output-file requirements-peers.lock
	$(BIN)/uv pip compile --group site --constraints requirements.lock $(LOCKING) --output-file requirements-site.lock
	$(BIN)/uv pip compile --group bambi $(LOCKING) --output-file requirements-bambi.lock
	$(BIN)/uv pip compile --group samplers --constraints requirements.lock $(LOCKING) --output-file requirements-samplers.lock

parity: install ## the long comparisons with lme4 and glmmTMB fits, rows, exact posteriors and other units, of every family and shape
	$(BIN)/python -m pytest -n 2 --dist loadfile -m parity

calibration: install ## simulation-based calibration and coverage, the large lane
	$(BIN)/python -m pytest -n 2 --dist worksteal -m calibration
	$(BIN)/python -m benchmarks._calibration_page

faults: install ## 200 signals and kills of real runs, full disks, damaged and replaced files; FAULT_RUNS=20 for a short one
	$(BIN)/python -m pytest -m faults
	$(BIN)/python -m benchmarks._reliability_page

fuzz: install ## many hostile formulas, studies and conditions; writes docs/reliability.md
	$(BIN)/python -m pytest -m fuzz tests/fuzz tests/groupwise/statistics
	$(BIN)/python -m benchmarks._reliability_page

operations: install ## whole runs: servers, workers, object storage, a browser, every kind of data
	$(BIN)/python -m pytest -m operations

benchmarks: install ## side by side with peers, in one run; prints the ratios
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-peers.lock
	$(PYTHON) -m venv $(VENV)-bambi
	$(VENV)-bambi/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-bambi.lock
	$(PYTHON) -m venv $(VENV)-samplers
	$(VENV)-samplers/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-samplers.lock
	$(BIN)/python -m benchmarks

docs: install ## write the pages that are generated from the code (docs/tables.md, docs/study.md, docs/commands.md, the Python pages, the JSON Schema)
	$(BIN)/python -m multilevel.catalogue.documentation
	$(BIN)/python -m groupwise.study.study_schema
	$(BIN)/python -m groupwise.study.study_reference
	$(BIN)/python -m groupwise.commands.command_page
	$(BIN)/python -m benchmarks.python_reference
	$(BIN)/python -m benchmarks.notebook_cells

site: install ## the guide and the references as pages in site/, which need no network: every number made here, from data/shop.duckdb
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-site.lock
	$(BIN)/python -m benchmarks.guide.build_pages
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict

examples: install ## estimate line_spend, with and without households, and write the numbers into docs/multilevel-models.md
	$(BIN)/groupwise load-shop --database data/shop.duckdb
	$(BIN)/groupwise estimate docs/guide/without_households.yaml studies/line_spend.yaml
	$(BIN)/python -m benchmarks._shop_examples_page

release-schema: install ## keep the tables' schema as released (multilevel/catalogue/released_schema.json); refused where readers would break
	$(BIN)/python -m multilevel.catalogue.evolution

clean: ## remove the environment and everything a run has made
	rm -rf $(VENV) $(VENV)-bambi $(VENV)-samplers published data site .groupwise .pytest_cache .mypy_cache .ruff_cache
