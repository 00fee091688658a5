# Needs Python 3.10 or later and make; everything else goes into .venv.
#   make run PYTHON=python3.12        with another Python
#   make test PYTEST_ARGS="-k plan"   only some of the tests

PYTHON ?= python3
PYTEST_ARGS ?=
PYTEST = $(VENV_PYTHON) -m pytest -m "not slow and not gpu"
FOLDER := .venv
VENV_PYTHON := $(FOLDER)/bin/python
# A stamp is written when an install has succeeded, and is older than its requirements when they have changed since.
RUNTIME := $(FOLDER)/.installed-runtime
DEV := $(FOLDER)/.installed-dev
INSTALL := $(VENV_PYTHON) -m pip install --disable-pip-version-check --no-input

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run venv test test-slow lint train readme chromium

help: ## say what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(RUNTIME) ## install what the app needs, then serve it on http://127.0.0.1:7860
	@exec $(VENV_PYTHON) app.py

venv: $(DEV) ## install what the app, its tests and the training need into .venv

test: $(DEV) lint chromium ## lint, then all tests that take seconds, the ones in a browser included
ifeq ($(PYTEST_ARGS),)
	OMP_NUM_THREADS=1 $(PYTEST) -n 2 --dist loadfile --durations=10 --ignore=tests/e2e
	$(PYTEST) --durations=5 tests/e2e
else
	$(PYTEST) $(PYTEST_ARGS)
endif

test-slow: $(DEV) chromium ## the tests that take minutes
	$(VENV_PYTHON) -m pytest -m "slow and not gpu" --durations=10 $(PYTEST_ARGS)

lint: $(DEV) ## check the code with ruff
	$(VENV_PYTHON) -m ruff check .

train: $(DEV) ## train the bundled checkpoint again (hours on a CPU)
	$(VENV_PYTHON) -m cascade_app.training

readme: $(DEV) ## write README.md's front matter and list of modules anew
	$(VENV_PYTHON) -m cascade_app.readme

chromium: $(DEV)
	@$(VENV_PYTHON) tests/ensure_chromium.py

# Without a working pip (no .venv yet, one whose making was interrupted, a Python since removed) no stamp is to be believed.
ifneq ($(shell $(VENV_PYTHON) -m pip --version >/dev/null 2>&1 && echo works),works)
.PHONY: $(VENV_PYTHON) $(RUNTIME) $(DEV)
endif

$(VENV_PYTHON):
	@command -v $(PYTHON) >/dev/null || { \
		echo "$(PYTHON) was not found. Install Python 3.10 or later, or name yours: make run PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
		echo "$(PYTHON) is $$($(PYTHON) --version 2>&1), but 3.10 or later is needed. Name a newer one: make run PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
		echo "$(PYTHON) lacks its venv or ensurepip module. On Debian and Ubuntu, install it with: apt install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(FOLDER)
	@$(VENV_PYTHON) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(FOLDER)

$(RUNTIME): requirements.txt | $(VENV_PYTHON)
	@rm -f $@
	$(INSTALL) -r requirements.txt
	@touch $@

$(DEV): requirements-dev.txt requirements.txt | $(VENV_PYTHON)
	@rm -f $@
	$(INSTALL) -r requirements-dev.txt
	@touch $@ $(RUNTIME)
