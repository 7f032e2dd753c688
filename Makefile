# Each target makes its own .venv when there is none; python3, make and a package registry are all it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# What runs in greenlets is not measured: coverage's own count of them spins for ever when threads end by the hundred.
ON_LOOPS := asyncio or uvloop or stubborn

.PHONY: demo dashboard webhooks test check bench soak clean

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

demo: $(READY)  ## deliver a folder of mail over real SMTP (DIR=folder takes your own)
	$(BIN)/python -m examples.mailroom $(if $(DIR),--dir "$(DIR)")

webhooks: $(READY)  ## deliver 2,000 webhooks through a FastAPI service to a receiver that refuses and hangs
	$(BIN)/python -m examples.webhooks

dashboard: $(READY)  ## the mailroom without end, and a page in the browser that shows it; until Ctrl-C
	$(BIN)/python -m examples.mailroom.steady

test: $(READY)  ## everything: lint, types, all tests, coverage of the core
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/coverage run -m pytest tests/unit tests/property
	$(BIN)/coverage run --append -m pytest tests/conformance -k "not ($(ON_LOOPS))"
	$(BIN)/coverage report --include='*/rate_envelope_queue/core/*' --fail-under=100
	$(BIN)/python -m pytest tests/conformance -k "$(ON_LOOPS)"
	$(BIN)/python -m pytest tests/integration tests/simulation tests/stress tests/typing

check: $(READY)  ## the quick look before a commit, under a minute
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/python -m pytest -q tests/unit tests/conformance tests/property

bench: $(READY)  ## the target table, measured here; writes bench/results.json
	$(BIN)/python -m bench

soak: $(READY)  ## the long budgets: more seeds, more rounds
	REQ_SOAK=1 $(BIN)/python -m pytest -q tests/property tests/stress tests/simulation tests/integration/test_cli_map_stopping.py
	REQ_WATCHED=1 $(BIN)/python -m pytest -q tests/conformance  # with an observer of everything, and measured

clean:
	rm -rf $(VENV) build dist src/*.egg-info
