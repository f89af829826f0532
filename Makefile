# `make repro` and `make test` do all their own set-up: they need Python 3.11 or newer, make and git.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: setup repro test lint up work down bench mediapipe clean-services

repro: $(INSTALLED)  ## Build every stage of every lane, then bring MLflow and the registry up to date
	plumbline repro

test: $(INSTALLED)  ## Run the test suite
	python -m pytest -n 2 $(ARGS)

lint: $(INSTALLED)  ## Style and types
	ruff check . && ruff format --check . && mypy

up: $(INSTALLED)  ## Prefect and MLflow UIs on loopback
	plumbline up

work: $(INSTALLED)  ## Carry out builds started in the Prefect UI or by its schedules
	plumbline work

down: $(INSTALLED)
	plumbline down

bench: $(INSTALLED)  ## Speed ratios, each taken in one run
	python -m bench.heatmaps && python -m bench.convert && python -m bench.refiner && python -m bench.chest
	python -m bench.pose_data && python -m bench.pose_latency

mediapipe: $(INSTALLED)  ## The real pose estimator, in an environment of its own
	python -m stages.pose.estimation.environment

setup: $(INSTALLED)

$(INSTALLED): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Plumbline needs Python 3.11 or newer; set PYTHON=/path/to/it")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@
