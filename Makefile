# The commands of a newcomer. Everything they do is in tools/bootstrap.py, which also runs where
# there is no make:  python tools/bootstrap.py demo | test-fast | test | setup | gpu
#   PYTHON=python3.10   the Python that makes the environment    VENV=path   where the environment lives
#   ARGS="..."          passed on to training (demo), pytest (test, test-fast) or tools/gpu (gpu)

PYTHON ?= python3

.PHONY: help demo test test-fast setup gpu

help:
	@echo "make demo       render SynthVI, train AGW on it, evaluate: tables and pictures in logs/demo"
	@echo "make test-fast  the linter, and the tests that are not marked slow"
	@echo "make test       linter, formatter, types, the whole test suite"
	@echo "make gpu        tests, benchmarks and the evidence table on a GPU, in 8 minutes: docs/gpu.md"
	@echo "make setup      only install, into .venv"

demo test test-fast setup gpu:
	@$(PYTHON) tools/bootstrap.py $@ $(ARGS)
