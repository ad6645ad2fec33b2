# `make help` lists the targets. Each is one command on top of the virtual environment that `make venv` creates.

PYTHON ?= python3
# Where nobody named one, a newer one beside an old python3 will do.
PYTHONS := $(PYTHON) $(if $(filter file,$(origin PYTHON)),python3.14 python3.13 python3.12 python3.11)
# Two more than the cores that CI has: many tests wait for a terminal, a lease or a server that starts.
WORKERS ?= 4
PYTEST_ARGS ?=
BENCH_ARGS ?=
CHAOS_ARGS ?=
OUTAGE_ARGS ?= --workflows 5000
FUZZ_ARGS ?= --minutes 10

VENV := .venv
BIN := $(VENV)/bin
PY := $(BIN)/python
PIP := PIP_NO_INPUT=1 $(PY) -m pip --disable-pip-version-check
CODE := $(wildcard paigeant_core paigeant_console tests benchmarks examples screenshots)

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help venv dev servers demo test lint format bench chaos outage fuzz night screenshots clean

help:
	@echo "make venv         the virtual environment with what the program needs at run time"
	@echo "make demo         the console with sample workflows: no server, no key, no set-up"
	@echo "make test         everything that CI runs: lint, types, import contracts, tests, examples"
	@echo "make lint         ruff, mypy and the import contracts"
	@echo "make format       ruff's formatter, and its safe fixes"
	@echo "make bench        the benchmarks"
	@echo "make chaos        kill workers, lines and brokers at length, and print what came of it"
	@echo "make fuzz         give hostile input to all that reads it, ten minutes a reader"
	@echo "make outage       5 000 workflows dead of three causes, brought back by operators, on both brokers"
	@echo "make night        an operator's night in tmux on both brokers, its screens as pictures under build/"
	@echo "make screenshots  draw the pictures of the documentation anew"
	@echo "make servers      see that redis-server, rabbitmq-server, tmux and Chromium are there for the tests"
	@echo "make clean        remove caches and what was built; the virtual environment stays"

# The stamps make a second run quick. They are older than pyproject.toml once that changes.
venv: $(VENV)/.runtime
dev: $(VENV)/.dev

$(VENV)/.created:
	@if [ -x $(PY) ] && $(PY) -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
		touch $@; exit 0; \
	fi; \
	python=; \
	for candidate in $(PYTHONS); do \
		if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
			python=$$candidate; break; \
		fi; \
	done; \
	if [ -z "$$python" ]; then \
		echo "Python 3.11 or newer is needed, and $(PYTHON) is $$($(PYTHON) --version 2>/dev/null || echo missing)." \
			"Install one, or name it: make venv PYTHON=/path/to/python3" >&2; \
		exit 2; \
	fi; \
	if ! "$$python" -c 'import ensurepip, venv' 2>/dev/null; then \
		package=$$("$$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])'); \
		if [ "$$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then \
			export DEBIAN_FRONTEND=noninteractive; \
			apt-get update -qq </dev/null && \
			apt-get install -y -qq --no-install-recommends "$$package" </dev/null || exit 2; \
		else \
			echo "The venv module of $$python is missing: install it (on Debian and Ubuntu: apt-get install $$package)." >&2; \
			exit 2; \
		fi; \
	fi; \
	echo "Creating $(VENV) with $$("$$python" --version)."; \
	"$$python" -m venv --clear $(VENV)
	@touch $@

$(VENV)/.runtime: pyproject.toml | $(VENV)/.created
	@echo "Installing the program and what it needs."
	@$(PIP) install --quiet --editable '.[agents]'
	@touch $@

# Dependency groups need pip 25.1; a new environment can have an older one.
$(VENV)/.dev: pyproject.toml | $(VENV)/.created
	@echo "Installing the program and the tools for its development."
	@$(PIP) install --quiet --upgrade 'pip>=25.1'
	@$(PIP) install --quiet --editable '.[agents,metrics,web]' --group dev
	@touch $@ $(VENV)/.runtime

servers:
	@scripts/servers.sh

demo: venv
	@$(BIN)/paigeant-console demo

lint: dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(CODE)
	$(BIN)/lint-imports --no-logo

format: dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The examples are loaded, not run: what they do is tested, and some of them serve until they are stopped. This comes
# last and is silent unless it fails, so that pytest's closing line stays at the end.
test: dev servers lint
	$(BIN)/pytest -n $(WORKERS) --dist loadgroup $(PYTEST_ARGS)
	@for example in $(wildcard examples/*.py); do \
		PAIGEANT_URL=memory:// $(PY) -c 'import runpy, sys; runpy.run_path(sys.argv[1], run_name="example")' "$$example" || \
			{ echo "$$example does not load." >&2; exit 1; }; \
	done

bench: dev servers
	$(PY) -m benchmarks $(BENCH_ARGS)

chaos: dev servers
	$(PY) -m tests.chaos $(CHAOS_ARGS)

outage: dev servers
	$(PY) -m tests.outage redis $(OUTAGE_ARGS)
	$(PY) -m tests.outage rabbitmq $(OUTAGE_ARGS)

# Where atheris has no wheel, the targets run on changed seeds.
fuzz: dev
	-$(PIP) install --quiet --group fuzz
	$(PY) -m tests.fuzz $(FUZZ_ARGS)

night: dev servers
	$(PY) -m tests.night redis --pictures build/night-redis
	$(PY) -m tests.night rabbitmq --pictures build/night-rabbitmq

screenshots: dev
	$(PY) screenshots/make.py

clean:
	rm -rf build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache snapshot_report.html
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +
