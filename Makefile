# Demesh. `make run` needs Python >= 3.11 and make; a C compiler is used where there is one.
#
#   BROKER=mqtt://host:port   use this broker instead of the embedded one; several with commas
#   DURATION=60               how long the street runs, in seconds
#   ONLY='ledger broker'      of `make bench`, only these groups
#   SECONDS=120 SEED=7        of `make fuzz`: how long, and which inputs; TARGETS='walker mqtt' for some
#   SECONDS=600               of `make flap`: how long each of its two runs takes
#   GUIDED=1                  of `make fuzz`: let coverage lead (pip install '.[fuzz]'), not the seed
#   PYTHON=python3.12         which Python makes the virtual environment

VENV := .venv
BIN := $(VENV)/bin
SCENARIO ?= configs/scenarios/street.toml
SEED ?= 7
SEEDS ?= 0:300
SECONDS ?= 120
JOBS ?= 2
PYTHON ?= $(firstword $(foreach p,python3 python3.14 python3.13 python3.12 python3.11,\
	$(shell command -v $(p) >/dev/null 2>&1 \
	&& $(p) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $(p))))
BUILD_INPUTS := pyproject.toml setup.py $(wildcard daemon/demesh/wire/*.pyx)
# A plain `pip install` in a checkout would run yesterday's code; an editable one never does.
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable

export BROKER DURATION

.DEFAULT_GOAL := help
.PHONY: help run virtual test test-pure lint bench model diagrams seeds mutants fuzz flap memcheck clean

help:
	@echo 'make run      a street of eight boards trades energy for a minute (BROKER=, DURATION=)'
	@echo 'make virtual  the same street in virtual time, without a broker (SEED=)'
	@echo 'make test     linters, types, import contracts and all tests'
	@echo 'make test-pure  units and vectors with the pure validator (a part of make test)'
	@echo 'make lint     the same without the tests'
	@echo 'make bench    figures of this machine in one table, in about a quarter of an hour (ONLY=)'
	@echo 'make model    every state of the voting rules for two views, and their mutants (needs spin)'
	@echo 'make diagrams  docs/diagrams.md from the tables of phases in the code'
	@echo 'make seeds    300 seeds of the fault campaign on consensus (SEEDS=0:300, JOBS=2)'
	@echo 'make mutants  deliberate faults in consensus, each of which the campaign must notice'
	@echo 'make fuzz     two minutes of inputs against all that reads bytes (SECONDS=120, TARGETS=)'
	@echo 'make flap     four daemons over a broker that is killed every second (SECONDS=600)'
	@echo 'make memcheck the compiled hot path under AddressSanitizer and UBSan (needs gcc)'
	@echo 'make clean    remove what was built; runs/ stays'

run: $(VENV)/ready
	@$(BIN)/demesh swarm run $(SCENARIO)

virtual: $(VENV)/ready
	@$(BIN)/demesh swarm run $(SCENARIO) --virtual --seed $(SEED)

bench: $(VENV)/ready
	@PYTHONPATH=tests $(BIN)/python -m benchmarks $(if $(ONLY),--only $(ONLY))

# Needs neither the package nor its environment.
model:
	@PYTHONPATH=tests $(PYTHON) -m model.check

diagrams: $(VENV)/ready
	@PYTHONPATH=tests $(BIN)/python -m docs.diagrams

seeds: $(VENV)/ready
	@$(BIN)/demesh swarm seeds --scenario consensus --seeds $(SEEDS) --jobs $(JOBS)

mutants: $(VENV)/ready
	@$(BIN)/demesh swarm mutants --jobs $(JOBS)

# Blind unless asked otherwise: the same seed gives the same inputs, on any machine.
fuzz: $(VENV)/ready-dev
	@PYTHONPATH=tests $(BIN)/python -m fuzz --seconds $(SECONDS) --seed $(SEED) \
		$(if $(GUIDED),,--blind) $(TARGETS)

# Beside a steady broker, and then without one.
flap: SECONDS = 600
flap: $(VENV)/ready-dev
	@PYTHONPATH=tests $(BIN)/python -m cli.flap --seconds $(SECONDS)

memcheck: $(VENV)/ready-dev
	@PYTHONPATH=tests $(BIN)/python -m fuzz.memcheck

lint: $(VENV)/ready-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

# The whole suite with the validator that was installed. REQUIRE_CYTHON=1 makes a build that failed,
# and a run that is in truth pure, an error.
test: lint
	$(BIN)/python -m pytest -n 2 --dist loadgroup
	$(MAKE) --no-print-directory test-pure

# Whatever imports the wire, without shells, brokers and streets.
PURE := wire ledger market metering storage light node transcripts docs packaging/test_mode.py

test-pure: $(VENV)/ready-dev
	DEMESH_PURE=1 $(BIN)/python -m pytest -n 2 --dist loadgroup $(addprefix tests/,$(PURE))

clean:
	rm -rf $(VENV) build dist .hypothesis .mypy_cache .ruff_cache .pytest_cache
	rm -rf .import_linter_cache demesh.egg-info daemon/demesh/wire/_hotpath.c
	find daemon consensus firmware_sim tests -name __pycache__ -prune -exec rm -rf {} +
	find daemon -name '_hotpath*.so' -delete

$(BIN)/python:
	$(if $(PYTHON),,$(error Demesh needs Python 3.11 or later, this machine has \
	$(or $(shell python3 --version 2>/dev/null),none); on Debian 12, Ubuntu 24.04 and Raspberry Pi \
	OS 12 and later: sudo apt install python3 python3-venv))
	$(if $(shell $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || echo no),$(error \
	Demesh needs a virtual environment: sudo apt install python3-venv))
	@echo 'Setting up $(VENV) (once, about a minute) ...'
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

# Quiet unless it fails: then everything that pip said is worth reading.
$(VENV)/ready: $(BIN)/python $(BUILD_INPUTS)
	@$(INSTALL) '.[view]' >$(VENV)/install.log 2>&1 || { cat $(VENV)/install.log; exit 1; }
	@touch $@

$(VENV)/ready-dev: $(BIN)/python $(BUILD_INPUTS)
	@$(INSTALL) '.[dev]' >$(VENV)/install.log 2>&1 || { cat $(VENV)/install.log; exit 1; }
	@touch $@ $(VENV)/ready
