# make demo | make test | make lint. Each makes .venv when it is missing, and again when the requirements changed.
# PYTHON=python3.13 picks another interpreter; EXTRAS=dev leaves the extras (torch and what needs it) out.

PYTHON ?= python3
EXTRAS ?= all,dev
BIN := .venv/bin
# The interpreter and the extras are part of the stamp's name, so that another choice makes another environment.
COMMA := ,
STAMP := .venv/.installed-$(notdir $(PYTHON))-$(subst $(COMMA),-,$(EXTRAS))

.PHONY: demo test lint format clean

demo: $(STAMP)
	$(BIN)/graphprep extract tests/data/reports.csv -o demo/graphs --overwrite
	$(BIN)/graphprep validate demo/graphs
	$(BIN)/graphprep stats demo/graphs
	$(BIN)/graphprep show demo/graphs demo-0001

test: $(STAMP)
	$(BIN)/python -m pytest

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv demo .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(EXTRAS)]'
	touch $@
