# The two commands of a newcomer. Everything they do is in tools/bootstrap.py, which also runs
# where there is no make:  python tools/bootstrap.py demo | test | setup
#   PYTHON=python3.10   the Python that makes the environment    VENV=path   where the environment lives
#   ARGS="..."          handed on to training (demo) or pytest (test)

PYTHON ?= python3

.PHONY: help demo test setup

help:
	@echo "make demo    render SynthVI, train AGW on it, evaluate: tables and pictures under logs/demo"
	@echo "make test    the linter and the whole test suite"
	@echo "make setup   only install, into .venv"

demo test setup:
	@$(PYTHON) tools/bootstrap.py $@ $(ARGS)
