# Tercet's commands. Each creates what it needs in .venv; nothing outside this folder is changed, except that
# `make test` installs Debian's rabbitmq-server and postgresql when there are none and it runs as root or in CI.

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?=
ARGS ?=
PROCESSES ?= 3

.PHONY: help demo test lint bench attacks fuzz soak chaos clean

help:
	@echo "make demo    the credit example in one process: match, train, report, score new customers"
	@echo "make test    lint, type checks and all tests, those on RabbitMQ and PostgreSQL included"
	@echo "make lint    the first two alone"
	@echo "make bench   what steps, alignment, large tables and products take; ARGS=step, alignment, memory or ring for one"
	@echo "make attacks what curious and lying parties recover with each protection taken out, and with it in; a minute"
	@echo "make fuzz    one reader of foreign bytes, guided by coverage (atheris); ARGS='codec --seconds 600', ARGS=list for names"
	@echo "make soak    200 jobs through the same three agents over a private RabbitMQ: does anything grow?"
	@echo "make chaos   51 trainings and predictions in which agents, broker, lines and messages break: all end as undisturbed"
	@echo "make clean   remove .venv, caches and what the demo wrote"
	@echo ""
	@echo "PYTHON=/path/to/python3.12 chooses the interpreter, ARGS='...' goes to the command that is run."

demo: $(VENV)/.installed
	@$(BIN)/tercet demo $(ARGS)

test: lint
	@$(BIN)/python -m pytest --numprocesses $(PROCESSES) --dist loadfile $(ARGS)

lint: $(VENV)/.installed-test
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy --strict

bench: $(VENV)/.installed-test
	@$(BIN)/python -m benchmarks $(ARGS)

attacks: $(VENV)/.installed-test
	@$(BIN)/python -m tests.attacks $(ARGS)

fuzz: $(VENV)/.installed-test
	@$(BIN)/python -c 'import atheris' 2>/dev/null || $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[fuzz]'
	@$(BIN)/python -m tests.fuzz $(or $(ARGS),list)

chaos: $(VENV)/.installed-test
	@$(BIN)/python -m tests.chaos $(ARGS)

soak: $(VENV)/.installed-test
	@$(BIN)/python -m tests.soak $(or $(ARGS),--jobs 200 --parallel 8)

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist *.egg-info tercet-demo
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps are newer than pyproject.toml while what it asks for is installed.
$(VENV)/.installed: pyproject.toml | $(BIN)/python
	@echo "installing Tercet into $(VENV) (once; a minute or two)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.installed-test: pyproject.toml | $(BIN)/python
	@echo "installing Tercet and its test tools into $(VENV) (once; a minute or two)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
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
