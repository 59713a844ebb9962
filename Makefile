# Everything a newcomer needs: each target makes its own environment from a clean clone.
#   make demo       simulated servers, the whole road, a report in demo-report/
#   make test       lint and the suite
#   make coverage   the same, with all cases of what is long, and how much of the program is reached
#   make bench      side by side with what people use today, as ratios
#   make test-all   the suite on every CPython from 3.10 on that answers (PYTHONS= names others)

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PYTHONS ?= python3.10 python3.11 python3.12 python3.13 python3.14
PYTEST_ARGS ?=
# One process more than there are processors, for half of the suite waits for the wire; a file stays in one process, for
# what its tests share is costly to make.
JOBS ?= $(shell $(PYTHON) -c 'import os; print((os.cpu_count() or 1) + 1)')
PYTEST_PARALLEL = -q -p no:cacheprovider -n $(JOBS) --dist loadfile --no-loadscope-reorder
# ENGINE=pwsh lets the lab's servers run the scripts in a real PowerShell 7.
ENGINE ?=
# Every script is a conversation with that process then, and a job a process of its own: no test ends for want of time.
PATIENCE = $(if $(ENGINE),--timeout=600)

.PHONY: demo test coverage soak test-all bench lint wheel clean

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
	MYPYPATH=examples/ansible:. $(BIN)/mypy --explicit-package-bases examples/ansible/ansible_collections
	$(BIN)/python -m pytest -q -p no:cacheprovider tests/unit/test_architecture.py

test: lint
	WSUSFIX_LAB_ENGINE=$(ENGINE) $(BIN)/python -m pytest $(PYTEST_PARALLEL) $(PATIENCE) tests $(PYTEST_ARGS)

# The same suite with every cell of the table of faults and every case of the long lists; every line and branch of
# wsusfix/ is counted, in all its processes and from before the plugin is loaded.
coverage: lint
	$(BIN)/coverage erase
	WSUSFIX_TABLE=all WSUSFIX_LAB_ENGINE=$(ENGINE) $(BIN)/coverage run -m pytest $(PYTEST_PARALLEL) $(PATIENCE) tests $(PYTEST_ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --fail-under=$(COVERAGE)

# 200 remediations in one process, which ends with as many shells, threads, sockets and files as it began with.
soak: $(VENV)/.installed
	WSUSFIX_SOAK=200 $(BIN)/python -m pytest -q -s -p no:cacheprovider tests/wire/test_soak.py

bench: $(VENV)/.installed
	$(BIN)/python -m benchmarks $(BENCH_ARGS)

# Percent of lines and branches together, as coverage adds them up.
COVERAGE ?= 95

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
	$(BIN)/python -m pytest $(PYTEST_PARALLEL) $(PYTEST_ARGS)

wheel: $(VENV)/.installed
	$(BIN)/python -m build --wheel

clean:
	rm -rf .venv .venvs build dist demo-report *.egg-info .coverage* .mypy_cache .pytest_cache .ruff_cache .hypothesis
