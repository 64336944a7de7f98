# One command for each action; PYTHON is an environment with the extra that the action needs.
PYTHON ?= .venv/bin/python

.PHONY: build test long lint bench example clean

.venv/bin/python:
	python3 -m venv .venv

build: $(PYTHON)
	$(PYTHON) -m pip install --quiet --editable '.[test]'

test:
	$(PYTHON) -m pytest -n auto --dist loadfile

long:
	$(PYTHON) -m pytest -n auto --dist loadfile --long

lint:
	$(PYTHON) -m pytest tests/test_sourcecode.py tests/test_layers.py

bench:
	$(PYTHON) bench/throughput.py

example:
	$(PYTHON) examples/debian_index

clean:
	rm -rf build dist *.egg-info pmkv/*.so cython_ext/pmkv/*.c
