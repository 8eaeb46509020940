# Every target does its own set-up: .venv is made from requirements.lock when it is missing or out of date.
SHELL := bash
.DEFAULT_GOAL := help
NBO := .venv/bin/nbo
PY := .venv/bin/python

.PHONY: help setup demo test lint format lock prove-main prove-decisions prove-experiments prove-models bench bench-parts bench-retrain clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup:  ## the environment in .venv
	@.ci/setup

demo: setup  ## a simulated shop from raw tables to served offers, with visitors to watch
	@$(NBO) demo

test: setup  ## the whole test suite
	@$(PY) -m pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: setup  ## lint, format check, types and import contracts
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports

format: setup  ## rewrite the code in the house format
	@.venv/bin/ruff check --fix .
	@.venv/bin/ruff format .

lock: setup  ## resolve requirements.lock anew from pyproject.toml
	@.venv/bin/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-emit-find-links \
		--all-extras --custom-compile-command 'make lock' pyproject.toml -o requirements.lock

prove-main: setup  ## real tables to a decision over HTTP, with the tables and proofs of the docs
	@$(PY) -m bench.prove_main

prove-decisions: setup  ## caps, frequencies, flood and regret at full size; twenty minutes
	@$(PY) -m bench.prove_decisions

prove-experiments: setup  ## false positives, coverage, power, sequential tests, real experiments, with the tables of the docs
	@OMP_NUM_THREADS=1 $(PY) -m bench.prove_experiments

prove-models: setup  ## ranking, acceptance, churn and uplift on real data, with the tables of the docs
	@OMP_NUM_THREADS=1 $(PY) -m bench.prove_models

bench: setup  ## the serving table of docs/explanation/performance.md, into bench/results.json
	@$(PY) -m bench.serving

bench-parts: setup  ## what is claimed of the speed of parts: a decision, rules, a change of the catalogue, policies, deadline, ingest, features, log, online reads, top k, LightFM
	@for part in decide rules catalogue_change policies deadline ingest features log online top_k lightfm_loop ranking_protocol; do echo "== $$part"; $(PY) -m bench.$$part || exit 1; done

bench-retrain: setup  ## a full retraining on ten million events: features, three models, evaluation, registration
	@$(PY) -m bench.retrain

clean:  ## remove the environment and caches
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
