# Everything a fresh machine with Python 3.11 and make needs: `make demo`, `make test`.
# To use a virtual environment of your own, with your own detectron2 in it: make demo VENV=path

PYTHON ?= python3
VENV ?= .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check
STAMPS := $(VENV)/.d2serve
ROOMS := handlers export client server cli
SOURCES := $(shell find $(ROOMS) -name '*.py') pyproject.toml

# Copies of the rooms under their import names, so that mypy reads the sources, not an installation.
TYPED := .typed
MYPY := MYPYPATH=$(TYPED) $(VENV)/bin/mypy

.PHONY: demo test bench fuzz soak metrics-overhead precision coverage-table lint audit clean

demo: $(STAMPS)/demo $(STAMPS)/package
	$(PY) -W ignore -m examples.demo

# In two processes, a file in one of them, so that a server is started once for its tests.
test: lint
	$(PY) -m pytest -n 2 --dist loadfile --no-loadscope-reorder

bench: $(STAMPS)/test $(STAMPS)/package
	$(PY) -W ignore -m benchmarks.run

# 50,000 mutated requests, about three minutes.
fuzz: $(STAMPS)/test $(STAMPS)/package
	$(PY) -W ignore -m benchmarks.fuzz 50000

# A server under mixed load, and whether anything of it grows: make soak MINUTES=600 for a night.
MINUTES ?= 10
soak: $(STAMPS)/test $(STAMPS)/package
	$(PY) -W ignore -m benchmarks.soak $(MINUTES)

# What metrics, a request's id and its line in the log add to a request, about two minutes.
metrics-overhead: $(STAMPS)/test $(STAMPS)/package
	$(PY) -W ignore -m benchmarks.metrics_overhead

# What bf16 and int8 cost the example models in AP.
precision: $(STAMPS)/test $(STAMPS)/package
	$(PY) -W ignore -m benchmarks.precision

# Which of detectron2's model zoo exports, and how far from detectron2 (docs/coverage.md): hours.
coverage-table: $(STAMPS)/test $(STAMPS)/package
	$(PY) -W ignore -m benchmarks.coverage

lint: $(STAMPS)/test $(STAMPS)/package
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	@mkdir -p $(TYPED)/d2serve
	@for room in $(ROOMS); do ln -sfn ../../$$room $(TYPED)/d2serve/$$room; done
	$(MYPY) $(ROOMS:%=-p d2serve.%)
	$(MYPY) examples benchmarks tests
	PYTHONPATH=$(TYPED) $(VENV)/bin/lint-imports

# Known vulnerabilities of what is installed; in an environment of its own, to change nothing in it.
# Strict: what could not be looked up is a failure, not a clean bill.
AUDIT := $(VENV)/.d2serve/audit
audit: $(STAMPS)/demo
	@[ -x $(AUDIT)/bin/pip-audit ] || { $(PYTHON) -m venv $(AUDIT) && \
	  $(AUDIT)/bin/python -m pip --disable-pip-version-check install --quiet pip-audit; }
	$(AUDIT)/bin/pip-audit --strict --progress-spinner off \
	  --path "$$($(PY) -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"

clean:
	rm -rf $(TYPED) build .mypy_cache .ruff_cache .pytest_cache .hypothesis demo.png
	rm -rf examples/shapes/data
	@[ "$(VENV)" = .venv ] && rm -rf .venv || echo "left alone: $(VENV)"

$(STAMPS)/venv:
	@$$([ -x $(PY) ] && echo $(PY) || echo $(PYTHON)) -c 'import sys; v = sys.version_info[:2]; \
	  sys.exit(0 if v >= (3, 11) else \
	  "Python 3.11 or later is needed, this is %d.%d: make PYTHON=python3.11" % v)'
	@mkdir -p $(STAMPS)
	@[ -x $(PY) ] || { $(PYTHON) -m venv $(VENV) && touch $(STAMPS)/made; }
	@touch $@

# The extras of pyproject.toml: in an environment made here at the versions that our own runs are
# made with, in a user's own beside what is there (environment/install.py). torch is large.
INSTALLING := pyproject.toml constraints.txt requirements-detectron2.txt $(wildcard environment/*.py)
$(STAMPS)/demo: $(STAMPS)/venv $(INSTALLING)
	@echo "Installing from the package registry; torch takes a few minutes ..."
	@$(PY) -m environment.install export,server
	@rm -rf build *.egg-info && touch $@

$(STAMPS)/test: $(STAMPS)/demo $(INSTALLING)
	@$(PY) -m environment.install bench --if-missing cv2=opencv-python-headless
	@rm -rf build *.egg-info && touch $@

# The rooms as the package d2serve: installed, as users have it, not linked.
$(STAMPS)/package: $(STAMPS)/demo $(SOURCES)
	@rm -rf build
	$(PIP) install --quiet --no-deps --no-build-isolation --force-reinstall .
	@rm -rf build *.egg-info && touch $@
