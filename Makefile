# make demo | make test | make lint. Each makes .venv when it is missing, and again when the requirements changed.
# PYTHON=python3.13 picks another interpreter; EXTRAS=dev leaves the extras (torch and what needs it) out.

PYTHON ?= python3
EXTRAS ?= all,dev
BIN := .venv/bin
# The interpreter and the extras are part of the stamp's name, so that another choice makes another environment.
COMMA := ,
STAMP := .venv/.installed-$(notdir $(PYTHON))-$(subst $(COMMA),-,$(EXTRAS))

.PHONY: demo test lint format clean

# Phantom images and reports → graphs → how right they are → an image encoder → what it is worth.
demo: $(STAMP)
	$(BIN)/graphprep phantom -o demo --n 1000 --size 128 --overlay 8 --overwrite
	$(BIN)/graphprep extract demo/reports.csv -o demo/graphs --overwrite
	$(BIN)/graphprep validate demo/graphs
	$(BIN)/graphprep stats demo/graphs --top 10
	$(BIN)/graphprep show demo/graphs p00000-1
	$(BIN)/graphprep evaluate demo/graphs --gold demo/truth/graphs --top 10
	$(BIN)/trainer pretrain --config phantom-demo --graphs demo/graphs -o demo/run --overwrite
	$(BIN)/trainer probe demo/run --labels demo/labels.csv --fraction 0.1,1

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
