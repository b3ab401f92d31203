# Two commands: `make run` and `make test`. Both set up what they need in .venv.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
HOME_  ?= .firstlight

.PHONY: run test check lint bench setup setup-dev clean

run: $(VENV)/run.stamp  ## Run the critical-materials campaign, live, and write its report
	$(BIN)/firstlight run critical-materials --trials 60 --parallel 4 --seed 1 --baseline 5 --data-dir $(HOME_)

test: $(VENV)/dev.stamp  ## Pass the tests
	$(BIN)/pytest

check: $(VENV)/dev.stamp lint test  ## What CI checks: style, types, import contracts, tests, documentation

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

bench: $(VENV)/bench.stamp  ## Every figure the README quotes
	$(BIN)/python benchmarks/journal.py
	$(BIN)/python benchmarks/scale.py
	$(BIN)/python benchmarks/crash_storm.py
	$(BIN)/python benchmarks/throughput.py
	$(BIN)/python benchmarks/suggest_cost.py

setup: $(VENV)/run.stamp
setup-dev: $(VENV)/dev.stamp

$(BIN)/pip:
	$(PYTHON) -m venv $(VENV)

$(VENV)/run.stamp: pyproject.toml constraints.txt | $(BIN)/pip
	$(BIN)/pip install --quiet -c constraints.txt -e '.[report,critical-materials]'
	touch $@

$(VENV)/dev.stamp: pyproject.toml constraints.txt | $(BIN)/pip
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@ $(VENV)/run.stamp

$(VENV)/bench.stamp: $(VENV)/dev.stamp
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev,bench]'
	touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
