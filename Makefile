# One command each. Only Python 3.11 or newer and make are needed; everything else goes into $(VENV).
VENV ?= .venv
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
PYTEST_ARGS ?= -n 2 --dist worksteal
RUN := $(VENV)/bin/python
VLLM ?= .venv-vllm
MERGEKIT ?= .venv-mergekit
CODE := adapterbank migrations benchmarks examples tests cli.py

.PHONY: help demo test test-vllm test-mergekit check format bench bench-fidelity bench-merging bench-serving docs clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-14s %s\n", $$1, $$2}' Makefile

demo: $(VENV)/.demo  ## install into a virtual environment, then the whole way on eight real adapters
	$(VENV)/bin/adapterbank demo $(ARGS)

test: $(VENV)/.dev  ## install into a virtual environment, then all tests
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(RUN) -m pytest $(PYTEST_ARGS)

test-vllm: $(VLLM)/.ready  ## tests against a real vLLM on the CPU, in an environment of its own (3.5 GB)
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(VLLM)/bin/python -m pytest -m vllm tests/vllm_server

test-mergekit: $(MERGEKIT)/.ready  ## merge rules beside mergekit's own, in an environment of its own (1.7 GB)
	OMP_NUM_THREADS=1 $(MERGEKIT)/bin/python -m pytest tests/merge/test_mergekit.py

check: $(VENV)/.dev  ## formatting, lint and types
	$(RUN) -m ruff format --check $(CODE)
	$(RUN) -m ruff check $(CODE)
	$(RUN) -m mypy --strict -p adapterbank

format: $(VENV)/.dev  ## format the code and sort its imports
	$(RUN) -m ruff format $(CODE)
	$(RUN) -m ruff check --fix --select I $(CODE)

bench: $(VENV)/.dev  ## all benchmarks; results go to benchmarks/results
	$(RUN) -m benchmarks $(ARGS)

bench-fidelity: $(VENV)/.bench  ## bits against error beside every rival, on real adapters (ARGS='--data DIR'); tables and plots in docs
	HF_HUB_OFFLINE=1 $(RUN) -m benchmarks.fidelity $(ARGS)

bench-merging: $(VENV)/.bench  ## what merges cost, beside PEFT, and what they are worth on tasks (ARGS='field --data DIR', --quick)
	HF_HUB_OFFLINE=1 $(RUN) -m benchmarks.merging $(ARGS)

bench-serving: $(VENV)/.dev  ## what switching an adapter costs, beside PEFT and copies (ARGS=--quick for one layer)
	HF_HUB_OFFLINE=1 $(RUN) -m benchmarks.serving --docs docs $(ARGS)

docs: $(VENV)/.dev  ## write docs/cli.md and docs/methods.md anew from the code
	$(RUN) -m adapterbank.cli.reference > docs/cli.md
	$(RUN) -m adapterbank.merge.document > docs/methods.md

clean:  ## remove the virtual environment and everything that was built
	rm -rf $(VENV) $(VLLM) $(MERGEKIT) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find $(CODE) -name __pycache__ -prune -exec rm -rf {} +

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "adapterbank needs Python 3.11 or newer, and none was found as python3 or python3.11 to" \
		"python3.14. Install one, or name it: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(RUN) -m pip install --disable-pip-version-check -c constraints.txt -e '.[demo]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(RUN) -m pip install --disable-pip-version-check -c constraints.txt -e '.[dev,demo]'
	@touch $@ $(VENV)/.demo

$(VLLM)/.ready: tests/vllm_server/install.py pyproject.toml
	@test -x $(VLLM)/bin/python || $(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/python tests/vllm_server/install.py
	@touch $@

$(MERGEKIT)/.ready: pyproject.toml constraints.txt
	@test -x $(MERGEKIT)/bin/python || $(PYTHON) -m venv $(MERGEKIT)
	$(MERGEKIT)/bin/python -m pip install --disable-pip-version-check -c constraints.txt -e . 'pytest>=8.2' 'mergekit==0.1.5'
	@touch $@

$(VENV)/.bench: $(VENV)/.dev
	$(RUN) -m pip install --disable-pip-version-check -c constraints.txt -e '.[bench]' \
		|| $(RUN) -m pip install --disable-pip-version-check -c constraints.txt 'matplotlib>=3.9'
	@touch $@
