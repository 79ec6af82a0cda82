# Everything a newcomer needs: `make demo` and `make test`. Python 3.11 or later, no GPU.
PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready

.PHONY: demo test lint clean

demo: $(READY)
	$(VENV)/bin/psc demo demo-output

# Two processes of one thread each: torch's threads wait for each other by spinning, which costs more than it brings here.
test: lint
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow and not gpu"

lint: $(READY)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

# Modules are compiled when they are first imported: compiling the packages whole takes longer than all imports do.
$(READY): pyproject.toml constraints.txt $(wildcard setup.py psc_core/exact/kernels/*)
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --no-compile --constraint constraints.txt --editable ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info demo-output
