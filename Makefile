# Everything a developer or CI does. Only Python 3.10 or later is needed to begin with.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
# Of tests, most of the time is waiting. Those of a file share a service.
PARALLEL ?= --numprocesses 2 --dist loadfile
STAMP := $(VENV)/.installed
CASES ?= tests/fixtures/spans.jsonl

.PHONY: setup fmt check test fuzz conformance bench demo serve proto docs lock clean

setup: $(STAMP)

# The constraints make two set-ups give the same versions.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "Python 3.10 or later is needed; set PYTHON=/path/to/python3"; exit 1; }
	@echo "Setting up $(VENV) (the embedded engine is a large download the first time) …"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade --constraint constraints.txt pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt \
		--editable '.[server,demo]' --group dev
	@touch $@

fmt: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/generate_proto.py --check
	$(BIN)/python scripts/generate_docs.py --check

test: setup
	$(BIN)/pytest $(PARALLEL) $(ARGS)

fuzz: setup
	$(BIN)/python -m tests.fuzz.run $(ARGS)

conformance: setup
	$(BIN)/python -m tests.conformance.run $(CASES)

bench: setup
	$(BIN)/python -m benchmarks.parts
	$(BIN)/python -m benchmarks.ingest $(ARGS)

demo: setup
	$(BIN)/apinalytics demo $(ARGS)

serve: setup
	$(BIN)/apinalytics serve $(ARGS)

proto: setup
	$(BIN)/python scripts/generate_proto.py

docs: setup
	$(BIN)/python scripts/generate_docs.py

lock: setup
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile pyproject.toml --extra server --extra demo --group dev --universal \
		--python-version 3.10 --no-annotate --no-header --no-emit-index-url --upgrade \
		--output-file constraints.txt

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis __cache__
