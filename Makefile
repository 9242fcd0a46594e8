# `make demo` and `make test` need Python 3.11 or newer and nothing else.

PYTHON ?= $(shell for name in python3.11 python3.12 python3.13 python3 python; do \
	$$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$name; break; }; done)
VENV ?= .venv
RUN ?= $(shell date +runs/demo-%Y%m%d-%H%M%S)

.PHONY: demo test lint clean

demo: $(VENV)/installed  ## render the offline pack, pretrain on it for about ten minutes, print where the figures are
	$(VENV)/bin/accelerate launch pretrain/mae.py --config pretrain/configs/mae_tiny.yaml --out $(RUN)

test: $(VENV)/installed  ## everything but the tests marked slow, a file at a time on every core
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest --numprocesses auto --maxprocesses 8 --dist loadfile --durations 12

lint: $(VENV)/installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

$(VENV)/installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "error: Python 3.11 or newer was expected, none was found; install one or give PYTHON=..."; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV)
