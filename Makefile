# Every target has one line of help behind `##`; bare `make` prints them.
SHELL := /bin/sh
.DEFAULT_GOAL := help
PY := .venv/bin/python
# Containers often forbid Python to keep what it has compiled: then each start compiles the service
# and all its libraries again, which is two thirds of it.
unexport PYTHONDONTWRITEBYTECODE
# Tests at once. Most of their time is waiting, so more than two cores would bear of computing;
# with six, browsers beside whole stacks ran into their own limits of time.
WORKERS ?= 4
# Debian package = program that must be on PATH.
PACKAGES := chromium=chromium redis-server=redis-server haproxy=haproxy flite=flite espeak-ng=espeak-ng

.PHONY: help
help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1	\2/p' $(MAKEFILE_LIST) | expand -t 16

.PHONY: setup
setup: ## make .venv and install what is missing from Debian; every target below does it
	@stack/bootstrap.sh $(PACKAGES)

.PHONY: up
up: setup ## start the native stack: engines (built once) and the service
	@$(PY) -m stack up --page

.PHONY: down
down: setup ## stop the native stack; its data stays
	@$(PY) -m stack down

.PHONY: status
status: setup ## what runs, since when, on which port
	@$(PY) -m stack status

.PHONY: demo
demo: setup ## the stack, a YouTube stand-in and steady load; announces one fault after the other
	@$(PY) -m stack up --page --with load
	@# On a terminal the announcements follow; Ctrl-C ends the reading, not the demo.
	@if [ -t 1 ]; then $(PY) -m stack logs load --follow; fi

.PHONY: scale-demo
scale-demo: setup ## the same with three services and two of each engine that can be several, under load
	@$(PY) -m stack up --scaled --with load

.PHONY: test
test: setup ## the tests, against the real engines
	@$(PY) -m stack build
	@$(PY) -m pytest -n $(WORKERS) --durations=15 -m "not slow"

.PHONY: test-all
test-all: setup ## the tests that `make test` leaves out: those that need real time, long chaos, hundreds of examples
	@$(PY) -m stack build
	@$(PY) -m stack build otel-gateway thanos
	@$(PY) -m pytest -n $(WORKERS) --durations=15 -m "slow or hypothesis" --hypothesis-profile=thorough

.PHONY: test-compose
test-compose: setup ## docker compose up with the committed file, where a container engine is
	@TEST_COMPOSE=1 $(PY) -m pytest tests/integration/test_compose.py

.PHONY: secrets
secrets: setup ## the files that containers read their secrets from, made once
	@$(PY) -m stack.create_secrets

.PHONY: soak
soak: setup ## 15 minutes of healthy load without an alert; HOURS=n: random faults for n hours, a ledger each
	@$(PY) -m stack build
ifdef HOURS
	@$(PY) -m tests.faults.matrix.soak $(HOURS)
else
	@SOAK_MINUTES=15 $(PY) -m pytest tests/integration/test_alerts_live.py -k healthy_load -m slow
endif

.PHONY: reliability
reliability: setup ## run the fault matrix and take what it measures into docs/reliability.md
	@$(PY) -m stack build
	@rm -f .stack/reliability.json
	@$(PY) -m pytest tests/faults/test_matrix.py tests/faults/test_matrix_long.py tests/faults/test_request_path.py
	@$(PY) -m tests.faults.matrix.take
	@$(PY) docs/generate.py

.PHONY: check
check: setup ## format, lint, types, import contract, engine configs, manifests, generated files
	@$(PY) -m stack build
	@$(PY) -m stack build kustomize
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy
	.venv/bin/lint-imports
	$(PY) docs/generate.py --check
	$(PY) -m grafana.generate --check
	$(PY) -m deploy.kubernetes.generate --check
	$(PY) -m deploy.kubernetes.check
	$(PY) -m stack check
	$(PY) -m prometheus.check

.PHONY: format
format: setup ## format the code and mend what the linter can mend
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

.PHONY: generate
generate: setup ## rewrite the generated files from their sources
	$(PY) docs/generate.py
	$(PY) -m grafana.generate
	$(PY) -m deploy.kubernetes.generate

.PHONY: bench
bench: setup ## benchmarks, as ratios against named peers; writes .stack/bench.json
	@$(PY) -m bench

.PHONY: clean
clean: ## stop the stack and remove everything made here, data and engines included
	@if [ -x $(PY) ]; then $(PY) -m stack down; fi
	rm -rf .venv .stack .mypy_cache .ruff_cache .pytest_cache .hypothesis

.PHONY: lock
lock: setup ## pin the dependencies of pyproject.toml again, with hashes
	$(PY) -m uv pip compile pyproject.toml --universal --generate-hashes --no-emit-index-url --no-header -q -o requirements.lock
	$(PY) -m uv pip compile pyproject.toml --group dev --universal --generate-hashes --no-emit-index-url --no-header -q -c requirements.lock -o requirements-dev.lock
