# Everything a newcomer needs: each target makes its own environment from a clean clone.
#   make demo       simulated servers, the whole road, a report in demo-report/
#   make test       lint and the suite
#   make bench      side by side with what people use today, as ratios
#   make test-all   the suite on every CPython from 3.10 on that answers (PYTHONS= names others)

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PYTHONS ?= python3.10 python3.11 python3.12 python3.13 python3.14
PYTEST_ARGS ?=
# ENGINE=pwsh lets the lab's servers run the scripts in a real PowerShell 7.
ENGINE ?=

.PHONY: demo test test-all bench lint wheel clean

$(VENV)/.installed: setup.cfg pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("Python 3.10 or later is needed, this is " + sys.version.split()[0] if sys.version_info < (3, 10) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[lab,dev]'
	touch $@

demo: $(VENV)/.installed
	$(BIN)/python -m wsusfix.lab.demo --report demo-report

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q -p no:cacheprovider tests/unit/test_architecture.py

# Two runs side by side: what computes, and what mostly waits for the wire. Each has its own closing line.
test: lint
	$(BIN)/coverage erase
	$(MAKE) --no-print-directory -j2 --output-sync=target test-unit test-wire
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --fail-under=$(COVERAGE)

.PHONY: test-unit test-wire
test-unit: $(VENV)/.installed
	$(BIN)/coverage run -m pytest -q -p no:cacheprovider tests/unit tests/packaging $(PYTEST_ARGS)

test-wire: $(VENV)/.installed
	WSUSFIX_LAB_ENGINE=$(ENGINE) $(BIN)/coverage run -m pytest -q -p no:cacheprovider \
	  tests/wire tests/ansible tests/pwsh tests/live $(PYTEST_ARGS)

bench: $(VENV)/.installed
	$(BIN)/python -m benchmarks $(BENCH_ARGS)

# The gate stands at what holds, and rises.
COVERAGE ?= 90

test-all:
	@set -e; ran=0; for python in $(PYTHONS); do \
	  if $$python -c 'import sys; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1; then \
	    echo "== $$($$python -V)"; ran=1; \
	    $(MAKE) --no-print-directory suite PYTHON=$$python VENV=.venvs/$$($$python -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	  else echo "== $$python: absent"; fi; \
	done; test $$ran = 1

# The report in a browser, where one is on the path.
.PHONY: test-browser
test-browser: $(VENV)/.installed
	$(BIN)/python -m pytest -q -p no:cacheprovider tests/browser $(PYTEST_ARGS)

.PHONY: suite
suite: $(VENV)/.installed
	$(BIN)/python -m pytest -q $(PYTEST_ARGS)

wheel: $(VENV)/.installed
	$(BIN)/python -m build --wheel

clean:
	rm -rf .venv .venvs build dist demo-report *.egg-info .coverage* .mypy_cache .pytest_cache .ruff_cache .hypothesis
