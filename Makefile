# The commands of the project. Each makes what it needs; `make demo` and `make test` are all a new machine wants.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
BIN := .venv/bin
# What runs without waiting for services; the rest of tests/ wants the stack and is `make test`'s.
FAST := $(wildcard tests/unit tests/properties tests/vectors)
# The rooms that decide and that hold formats: every branch of them is run by the fast tests.
PURE := --cov=worker.model --cov=worker.seal --cov=worker.chain --cov-branch --cov-fail-under=100
LONGEST := 350
# Two at once: tests wait for brokers, sessions and timeouts more than they work. What shares a fixture stays together.
BOTH := --numprocesses 2 --dist loadfile

.PHONY: help install demo test check bench storm lock

help:
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | column -t -s "$$(printf '\t')"

.venv/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo 'keyriver needs Python 3.11 or newer: make PYTHON=/path/to/python3 install'; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo 'installing the locked packages into .venv'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

install: .venv/.installed ## the virtual environment, the keyriver command, Kafka's jars and the PKCS#11 tokens
	@$(BIN)/python -m worker.local parts

demo: install ## encrypt a file of customer records through the river, with a worker killed on the way
	@$(BIN)/keyriver demo

test: install ## everything but the long storms
	@$(BIN)/python -m pytest $(BOTH) -m 'not storm' tests

check: install ## style, types, import rules, dependencies, fast tests: under two minutes
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/deptry .
	@$(BIN)/python schemas/generate.py --check
	@! find worker tests bench schemas -name '*.py' -exec awk 'END { if (NR > $(LONGEST)) print FILENAME " has more than $(LONGEST) lines: " NR }' {} \; | grep .
	@$(BIN)/python -m pytest -q $(BOTH) -m 'not storm' --timeout 60 $(FAST) $(PURE) --cov-report=term-missing:skip-covered

bench: install ## figures, each with its rival taken in the same run
	@$(BIN)/python -m bench

storm: install ## the long storms: minutes to an hour
	@$(BIN)/python -m pytest -m storm tests

PIN := uv pip compile --quiet --generate-hashes --no-emit-index-url --no-header --universal --python-version 3.11
lock: ## pin the dependencies again, after pyproject.toml changed (needs uv)
	@$(PIN) --all-extras pyproject.toml -o requirements.lock
	@$(PIN) --constraint requirements.lock pyproject.toml -o requirements-run.lock
