PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: setup demo test mutants lint docs docs-serve benchmarks gpu results

setup: $(VENV)/.done

$(VENV)/.done: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[test]"
	touch $@

demo: setup
	$(BIN)/python examples/demo.py

# A worker for each core, four at most; each computes in one thread.
test: setup
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal

# Small damages to a copy of the code, each of which a test must notice; some minutes.
mutants: setup
	$(BIN)/python -m tests.mutants

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The site into build/site; a broken link, a setting or a public name that says nothing of itself is an error.
docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

docs-serve: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs serve

benchmarks: setup
	$(BIN)/python -m benchmarks

# On a CUDA card: its tests, which skip elsewhere, then its numbers into docs/benchmarks.md.
gpu: setup
	$(BIN)/python -m pytest tests/gpu
	$(BIN)/python -m benchmarks.gpu

# DATA: folder of the emoji table; OUT: for tables, baselines and pictures; SETTINGS: of the recipe, as baselines.steps=100.
# Goes on where it stopped.
DATA ?= data
OUT ?= results
SETTINGS ?=

results: setup
	$(BIN)/python -m recipes.nano start data pooler baselines report $(SETTINGS) --skip-finished --preset cpu --data $(DATA) --out $(OUT)
	$(BIN)/python -m recipes.nano.tables.page $(OUT)/report docs
