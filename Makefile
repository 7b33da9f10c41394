# Everything runs from a private .venv that the first command sets up; nothing else on the machine is touched.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && \
	echo $$python && break; done)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Where it is set, each of the many processes here would compile all that it imports, every time.
unexport PYTHONDONTWRITEBYTECODE
# What the image installs: a part of requirements.lock, at the same versions.
RELOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-annotate --no-header --constraint requirements.lock

SBOM := --mc-type application --output-reproducible --sv 1.6 --of JSON

.DEFAULT_GOAL := help
.PHONY: help setup demo up notebook test test-all check format schema bench soak screens lock sbom clean

help: ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

$(READY): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "calltally needs Python 3.11, 3.12 or 3.13: install one, or name it with" \
		"make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@$(BIN)/uv pip sync --quiet --python $(BIN)/python requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $(READY)

setup: $(READY) ## make .venv with the locked dependencies

demo: $(READY) ## the whole story on this machine in under 90 s; KEEP=1 leaves it running
	@$(BIN)/calltally demo $(if $(filter-out 0,$(KEEP)),--keep)

up: $(READY) ## Postgres, Prefect, worker and receiver on this machine
	@$(BIN)/calltally up

notebook: $(READY) ## JupyterLab on what the nights found; on the books of `make up`, or of DATABASE_URL
	@$(BIN)/python -m notebooks

# Three processes on two cores: a test waits for something a third of its time.
test: $(READY) ## the fast tests (under 2 minutes)
	$(BIN)/python -m pytest -m 'not slow' --numprocesses 3

test-all: $(READY) ## every test, with races and kill storms
	$(BIN)/python -m pytest

check: $(READY) ## format, lint, types, imports and SQL
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/sqlfluff lint sql

format: $(READY) ## rewrite the code in the house style
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/sqlfluff fix sql

schema: $(READY) ## write sql/schema.sql anew
	$(BIN)/python -m tests.sql.schema

bench: $(READY) ## figures, each beside a limit measured in the same run; PART=listing for one of them
	$(BIN)/python -m benchmarks $(PART)

soak: $(READY) ## everything at once for HOURS=24 or MINUTES=10 at RATE=200 a second; samples go to soak.csv
	$(BIN)/python -m tests.soak $(if $(HOURS),--hours $(HOURS)) $(if $(MINUTES),--minutes $(MINUTES)) \
		$(if $(RATE),--rate $(RATE)) $(if $(CSV),--csv $(CSV))

screens: $(READY) ## take the pictures of docs/images anew (needs chromium)
	@$(BIN)/python -m tests.docs.screens

lock: $(READY) ## resolve requirements.lock anew
	$(BIN)/uv pip compile pyproject.toml --group dev --all-extras --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-annotate --no-header --upgrade --output-file requirements.lock
	$(RELOCK) pyproject.toml --all-extras --output-file deployments/requirements.lock
	printf 'hatchling\ncyclonedx-bom\n' | $(RELOCK) - --output-file deployments/build-requirements.lock

sbom: $(READY) ## sbom.cdx.json: what the image installs, as CycloneDX; the image's own lies in /opt/calltally
	$(BIN)/cyclonedx-py requirements deployments/requirements.lock --pyproject pyproject.toml $(SBOM) -o sbom.cdx.json

clean: ## remove the environment and the local data
	rm -rf $(VENV) .calltally
