# Every target makes .venv first if it is missing or older than the lock.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Nothing here reports home, and the programs that a stage calls are the environment's own.
export DO_NOT_TRACK := 1
export MLFLOW_DISABLE_TELEMETRY := true
export DVC_NO_ANALYTICS := 1
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help install repro test test-fast lint house format ui notebooks lab bench lock audit clean distclean

help:                   ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 14

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
	  { echo "flowers needs Python 3.11, 3.12 or 3.13: call make PYTHON=python3.13, say."; exit 2; }
	@$(PYTHON) -m venv $(VENV) || { echo "Python cannot make a virtual environment here: on Debian, apt-get install python3-venv."; exit 2; }
	$(BIN)/python -m pip install --quiet --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	@touch $(READY)

install: $(READY)       ## make .venv, or renew it after the lock has changed

repro: $(READY)         ## download, split, train, evaluate and compare what params.yaml names
	@[ -e .git ] || git rev-parse >/dev/null 2>&1 || { dvc config --local core.no_scm true; \
	  echo "Without a git repository DVC has no experiments: for them, git init, commit, and dvc config --local --unset core.no_scm."; }
	dvc repro

# Tests are shared out: most of their time is one core's, starting Python and waiting.
test: test-fast         ## the fast suite, then the slow one
	python -m pytest -m slow -n logical --maxprocesses 4 --dist worksteal

test-fast: $(READY)     ## the fast suite alone
	python -m pytest -m "not slow" -n logical --maxprocesses 4

lint: $(READY)          ## ruff's lint and format check, the type checker, and whether the rooms' imports point down
	ruff check .
	ruff format --check .
	mypy
	lint-imports

house: $(READY)         ## measure the size of the code against what is wanted and its ceilings
	@python tests/house.py

format: $(READY)        ## rewrite the code in the project's format
	ruff check --fix .
	ruff format .

ui: $(READY)            ## the MLflow pages of every run; make ui port=5001 where 5000 is taken
	@flowers ui $(if $(port),port=$(port))

notebooks: $(READY)     ## run the notebooks on what `make repro` left; with their outputs they are notebooks/*.ipynb
	@flowers notebooks

lab: $(READY)           ## open the notebooks in JupyterLab, on this machine only; what you change there lands in notebooks/*.py
	jupytext --quiet --sync notebooks/*.py
	jupyter lab --ServerApp.ip=127.0.0.1 --ServerApp.root_dir=. --LabApp.default_url=/lab/tree/notebooks/01_data.ipynb \
	  --LabApp.news_url=None --LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate

bench: $(READY)         ## measure again what benchmarks/README.md states
	python -m benchmarks

lock:                   ## pin anew what pyproject.toml's ranges resolve to today, for every system, with hashes
	$(PYTHON) -m venv --clear runs/lock-venv
	runs/lock-venv/bin/python -m pip install --quiet uv
	runs/lock-venv/bin/uv pip compile --quiet --universal --upgrade --generate-hashes --no-annotate --extra dev \
	  --custom-compile-command "make lock" --output-file requirements.lock pyproject.toml
	rm -rf runs/lock-venv

# CVE-2025-69872 is diskcache's, which DVC needs; no version mends it.
audit:                  ## look up known vulnerabilities of the pinned versions
	$(PYTHON) -m venv --clear runs/audit-venv
	runs/audit-venv/bin/python -m pip install --quiet pip-audit
	runs/audit-venv/bin/pip-audit --strict --disable-pip --require-hashes --ignore-vuln CVE-2025-69872 \
	  --requirement requirements.lock
	rm -rf runs/audit-venv

clean:                  ## remove what the stages and runs wrote (photographs elsewhere, mlflow.db and DVC's cache stay)
	rm -rf artifacts runs .mypy_cache .pytest_cache .ruff_cache

distclean: clean        ## also the environment, DVC's cache and the MLflow store
	rm -rf $(VENV) .dvc/cache .dvc/tmp mlflow.db mlruns
