# Every target sets up .venv itself when it is missing or older than what defines it.
# Pass PYTHON=/path/to/python to choose the interpreter (3.11 or newer).
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: demo test docs chaos check format train clean

demo: $(STAMP)  ## the cascade on the testbed's held-out pages, against small only and large only
	$(BIN)/sgl demo

test: $(STAMP)  ## the whole test suite, shared by two processes; a file's tests stay together
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

docs: $(STAMP)  ## the documentation as a site that opens offline, out/site/index.html; every link is checked
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

chaos: $(STAMP)  ## 60 kills of replicas, raylets and drivers, half an hour; the tests hold a short version
	$(BIN)/python -m tests.chaos --seed 0 --kills 60 --output benchmarks/results

check: $(STAMP)  ## what CI runs before the tests: lint, format, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)  ## mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

train: $(STAMP)  ## train the testbed pair again from nothing
	$(BIN)/python -m testbed.train --model small --output out/train/small --threads 2
	$(BIN)/python -m testbed.train --model large --output out/train/large --threads 2

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

clean:
	rm -rf .venv out
