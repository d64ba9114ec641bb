# Tercet's commands. Each creates what it needs in .venv; nothing outside this folder is changed, except that
# `make test` installs Debian's rabbitmq-server, postgresql and chromium when there are none and it runs as root or in CI.

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?=
ARGS ?=
PROCESSES ?= 3
LOCK := constraints.txt
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile $(if $(LOCK),--constraint $(LOCK))
# All processors compile: pip would do so one module after another. Some files are for other Pythons, and fail.
COMPILE = $(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true

.PHONY: help demo test pytest lint lock newest bench attacks fuzz soak chaos disturbed vectors glossary documents notebook series clean

help:
	@echo "make demo    the credit example in one process: match, train, report, score new customers"
	@echo "make test    lint, type checks and all tests, those on RabbitMQ and PostgreSQL included"
	@echo "make lint    the first two alone"
	@echo "make lock    write the newest releases of all dependencies into $(LOCK), which all else here installs"
	@echo "make newest  make test with the newest releases in place of the locked ones, in .venv-newest; once a week, say"
	@echo "make bench   what steps, messages, alignment, large tables and products take; ARGS=step, messages ... for one"
	@echo "make attacks what curious and lying parties recover with each protection taken out, and with it in; a minute"
	@echo "make fuzz    one reader of foreign bytes, guided by coverage (atheris); ARGS='codec --seconds 600', ARGS=list for names"
	@echo "make soak    200 jobs through the same three agents over a private RabbitMQ: does anything grow?"
	@echo "make chaos   52 trainings and predictions in which agents, broker, lines and messages break: all end as undisturbed"
	@echo "make disturbed  100,000 jobs in virtual time, with faults drawn from a seed: all end, and alike everywhere"
	@echo "make vectors writes the frozen test vectors anew, after a change of the protocol or of a stored format"
	@echo "make glossary writes the index of classes and message kinds in docs/glossary.md anew"
	@echo "make documents writes anew what README.md, SECURITY.md and docs/protocol.md have from the code"
	@echo "make notebook runs examples/credit/credit.ipynb, and stores what it shows"
	@echo "make series  fits the Fourier series of all activations anew, and writes mpc/functions/series_table.py"
	@echo "make clean   remove .venv, caches and what the demo wrote"
	@echo ""
	@echo "PYTHON=/path/to/python3.12 chooses the interpreter, ARGS='...' goes to the command that is run."

demo: $(VENV)/.installed
	@$(BIN)/tercet demo $(ARGS)

# Lint beside the tests. These often wait: for servers, and for time to pass.
test: $(VENV)/.installed-test
	@$(MAKE) --no-print-directory --jobs 2 lint pytest

# The loops are compiled once, and not by each of the processes that begin together.
# Bytecode is written whatever the environment says, for a hundred processes would compile all modules anew.
# Files in their order, not the longest first: those that wait for servers run beside those that compute.
pytest: $(VENV)/.installed-test
	@$(BIN)/python -c 'from tercet.mpc.arithmetic import ring; ring.warm_up()'
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -q --numprocesses $(PROCESSES) --dist loadfile --no-loadscope-reorder $(ARGS)

lint: $(VENV)/.installed-test
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy --strict

# For every Python and system at once; no address of a registry gets into it.
lock: $(BIN)/python
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --extra test --no-annotate \
		--no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' --output-file $(LOCK) pyproject.toml

newest:
	@rm -rf .venv-newest
	@$(MAKE) --no-print-directory VENV=.venv-newest LOCK= test

bench: $(VENV)/.installed-test
	@$(BIN)/python -m benchmarks $(ARGS)

attacks: $(VENV)/.installed-test
	@$(BIN)/python -m tests.attacks $(ARGS)

fuzz: $(VENV)/.installed-test
	@$(BIN)/python -c 'import atheris' 2>/dev/null || $(PIP) --editable '.[fuzz]'
	@$(BIN)/python -m tests.fuzz $(or $(ARGS),list)

chaos: $(VENV)/.installed-test
	@$(BIN)/python -m tests.chaos $(ARGS)

disturbed: $(VENV)/.installed-test
	@$(BIN)/python -m tests.agents.machine.disturbed $(ARGS)

soak: $(VENV)/.installed-test
	@$(BIN)/python -m tests.soak $(or $(ARGS),--jobs 200 --parallel 8)

vectors: $(VENV)/.installed-test
	@$(BIN)/python -m tests.vectors

glossary: $(VENV)/.installed-test
	@$(BIN)/python -m tests.test_glossary

documents: $(VENV)/.installed-test
	@$(BIN)/python -m tests.documents

notebook: $(VENV)/.installed-test
	@$(BIN)/python -m tests.notebook

series: $(VENV)/.installed-test
	@$(BIN)/python -m tests.fit_series

clean:
	rm -rf $(VENV) .venv-newest .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist *.egg-info tercet-demo
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps are newer than pyproject.toml and the lock while what they ask for is installed.
$(VENV)/.installed: pyproject.toml $(LOCK) | $(BIN)/python
	@echo "installing Tercet into $(VENV) (once; a minute or two)"
	@$(PIP) --editable .
	@$(COMPILE)
	@touch $@

$(VENV)/.installed-test: pyproject.toml $(LOCK) | $(BIN)/python
	@echo "installing Tercet and its test tools into $(VENV) (once; a minute or two)"
	@$(PIP) --editable '.[test]'
	@$(COMPILE)
	@touch $@ $(VENV)/.installed

$(BIN)/python:
	@chosen=; \
	for python in $(if $(PYTHON),'$(PYTHON)',python3 python3.14 python3.13 python3.12 python3.11); do \
		if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
			chosen=$$python; break; \
		fi; \
	done; \
	if [ -z "$$chosen" ]; then \
		echo "Tercet needs Python 3.11 or later; $(if $(PYTHON),$(PYTHON) is not,no python3 here is)." >&2; \
		echo "Install one, or name it: make PYTHON=/path/to/python3.12 ..." >&2; \
		exit 1; \
	fi; \
	if ! "$$chosen" -m venv $(VENV); then \
		rm -rf $(VENV); \
		echo "$$chosen cannot make a virtual environment (on Debian: sudo apt-get install python3-venv)." >&2; \
		exit 1; \
	fi
