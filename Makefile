# Everything a person or CI does here. `make` alone lists the targets; each works from a fresh clone.

# The interpreter the environment is made with, 3.11 or newer: make demo PYTHON=python3.13
PYTHON ?= python3
# Handed to pytest: make test PYTEST_ARGS='tests/core -k permit'
PYTEST_ARGS ?=
# Handed to the benchmark: make bench BENCH_ARGS='--json bench.json'
BENCH_ARGS ?=
# Handed to the hardware tests: make hil HIL_ARGS='--rig firmware'
HIL_ARGS ?=
FUZZ_ARGS ?=
# Handed to the campaigns of the sealed log: make log-faults LOG_ARGS='--fault kill --lives 100'
LOG_ARGS ?=
# Processes that share the tests; 0: all in one. Demos of a whole site want both cores of a small machine.
WORKERS ?= 0

BIN := .venv/bin
# Debian keeps mosquitto out of an ordinary user's PATH.
export PATH := $(PATH):/usr/sbin:/sbin
# Two of these targets at once would write one environment.
.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: help demo test check fmt cover bench hil fuzz log-faults log-bench log-years lock clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: .venv/run.stamp ## the whole job in a minute, on simulated hardware (KEEP=1 leaves it running)
	@$(BIN)/warden demo $(if $(KEEP),--keep)

test: .venv/dev.stamp ## every test, against a real mosquitto (PYTEST_ARGS=...; WORKERS=2: on two cores, in less time)
	@tools/need.sh mosquitto libmosquitto gcc systemd-analyze dbus-daemon
	@$(BIN)/python -m pytest --durations=10 --numprocesses=$(WORKERS) --dist=loadfile $(PYTEST_ARGS)

check: .venv/dev.stamp ## format, lint, strict types (tests too), import rules
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

fmt: .venv/dev.stamp ## format, and mend what the linter can
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

cover: .venv/dev.stamp ## every test, with branch coverage
	@tools/need.sh mosquitto libmosquitto gcc systemd-analyze dbus-daemon
	@$(BIN)/python -m pytest --cov --cov-report=term $(PYTEST_ARGS)

bench: .venv/dev.stamp ## reaction times against C references, as ratios (BENCH_ARGS=...)
	@tools/need.sh gcc mosquitto
	@tools/need.sh libmosquitto || echo 'Without libmosquitto the MQTT path is measured without its C reference.'
	@$(BIN)/python -m hil.bench $(BENCH_ARGS)

hil: .venv/dev.stamp ## hardware-in-the-loop tests in order, and the latency budgets (HIL_ARGS='--rig firmware')
	@tools/need.sh mosquitto gcc
	@$(BIN)/python -m pytest hil/suite $(HIL_ARGS)

log-faults: .venv/dev.stamp ## every fault of the sealed log: what is lost, what verify says (LOG_ARGS='--thin 50')
	@tools/need.sh gcc
	@$(BIN)/python -m hil.log faults $(LOG_ARGS)

log-bench: .venv/dev.stamp ## the sealed log beside plain append + fdatasync and SQLite (LOG_ARGS='--json log.json')
	@$(BIN)/python -m hil.log bench $(LOG_ARGS)

log-years: .venv/dev.stamp ## 190 days of log with time compressed, one ordered deletion, verify (LOG_ARGS=...)
	@$(BIN)/python -m hil.log years $(LOG_ARGS)

fuzz: .venv-fuzz/fuzz.stamp ## coverage-guided fuzzing of every decoder (FUZZ_ARGS='--seconds 300 node_frame')
	@.venv-fuzz/bin/python -m tests.fuzz $(FUZZ_ARGS)

lock: .venv-tools/stamp ## write requirements/ anew from pyproject.toml (UPGRADE=1 takes newer releases)
	@tools/lock.sh $(if $(UPGRADE),--upgrade)

clean: ## remove every environment, cache and result
	@rm -rf .venv .venv-fuzz .venv-tools var build dist .coverage .coverage.* \
	  .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# What runs the product, and what builds and tests it; the second holds all of the first.
.venv/run.stamp: requirements/run.txt pyproject.toml
	@tools/environment.sh $(PYTHON) .venv run

.venv/dev.stamp: requirements/dev.txt pyproject.toml
	@tools/environment.sh $(PYTHON) .venv dev
	@touch .venv/run.stamp

.venv-fuzz/fuzz.stamp: requirements/fuzz.txt pyproject.toml
	@tools/environment.sh $(PYTHON) .venv-fuzz fuzz

.venv-tools/stamp: requirements/lock.txt
	@tools/environment.sh $(PYTHON) .venv-tools lock
