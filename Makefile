# make demo: set up, start local agents, open the panel with a model running (headless where there is no display)
# make test: set up, run every test        make lint: style, types, import directions
PYTHON ?= python3
VENV ?= .venv
ifeq ($(OS),Windows_NT)
BIN := $(VENV)/Scripts
else
BIN := $(VENV)/bin
endif
DEMO_OPTIONS ?=

.PHONY: demo test lint format clean

demo: $(VENV)/.gui
	$(BIN)/shardboard demo --screenshots demo-output $(DEMO_OPTIONS)

test: $(VENV)/.dev
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadgroup

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/.gui: pyproject.toml | $(VENV)/.venv
	$(BIN)/python -m pip install --quiet --editable '.[gui]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/.venv
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@ $(VENV)/.gui

$(VENV)/.venv:
	@$(PYTHON) -c 'import sys; sys.exit("Shardboard needs Python 3.11 or later, this is " + sys.version) if sys.version_info < (3, 11) else 0'
	$(PYTHON) -m venv $(VENV)
	@touch $@

clean:
	rm -rf $(VENV) demo-output build dist
