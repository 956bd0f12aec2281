# Everything a fresh machine with Python 3.11 to 3.13 and make needs: `make demo`, `make test`.
# To use a virtual environment of your own, with your own detectron2 in it: make demo VENV=path

PYTHON ?= python3
VENV ?= .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check
STAMPS := $(VENV)/.d2serve
ROOMS := kernels handlers export client server cli
SOURCES := $(shell find $(ROOMS) -name '*.py') $(wildcard kernels/native/*.* kernels/native/*/*) setup.py pyproject.toml

# The rooms under their import names, as links: what mypy, editors and `make dev` read.
TYPED := .typed
# What is installed of d2serve: linked to the sources after `make dev`, otherwise a copy.
INSTALLED := $(if $(wildcard $(STAMPS)/dev),$(STAMPS)/dev,$(STAMPS)/package)

# Other engines and tools, each group in an environment of its own beside this one: they pin much.
BESIDE := engines triton tools

# Runs a command and says how long it took: $(call timed,name,command)
timed = @echo '$(2)'; began=$$(date +%s); $(2); status=$$?; \
  echo "$(1): $$(($$(date +%s) - began)) s"; exit $$status

# In three processes on two cores: a test often waits for a server or an export that it started. A
# file stays in one of them, so that a server is started once for its tests.
PYTEST := $(PY) -m pytest -n 3 --dist loadfile --no-loadscope-reorder --durations 15

.PHONY: demo dev check quick-tests test test-all test-copy $(BESIDE:%=test-%) lint typed
.PHONY: cpp cpp-demo cpp-fuzz cpp-if-possible bench bench-all bench-batch bench-cpp bench-engines bench-layers fuzz soak metrics-overhead precision caffe2-evidence
.PHONY: gpu coverage-table formats-table audit docs dist image clean

demo: $(STAMPS)/demo $(INSTALLED)
	$(PY) -W ignore -m examples.demo

# For work on d2serve: an edit counts at once, a new file too. CONTRIBUTING.md says how.
dev: $(STAMPS)/test
	@rm -f $(STAMPS)/dev
	@$(MAKE) --no-print-directory $(STAMPS)/dev

# All that needs neither a server nor an export, in minutes; mypy's one process runs beside them.
check: $(STAMPS)/test $(INSTALLED) typed
	@$(MAKE) --no-print-directory -j 2 lint quick-tests

quick-tests: $(INSTALLED)
	$(call timed,tests without servers and exports,$(PYTEST) -q -m "not server and not export and not long")

# The gate, on a copy as users install it. Afterwards the sources are linked again if they were.
test: lint
	@$(MAKE) --no-print-directory test-copy TIER='-m "not long"'

# Everything: also what takes long and seldom breaks, and what needs Debian's packages: nginx with
# Lua, and Chromium (docs/proxy.md).
test-all: lint $(BESIDE:%=$(STAMPS)/%/done)
	@$(MAKE) --no-print-directory test-copy
	@$(MAKE) --no-print-directory $(BESIDE:%=test-%)

# The tests of one of them, in its environment: make test-engines
$(BESIDE:%=test-%): test-%: $(STAMPS)/%/done $(INSTALLED) $(STAMPS)/reference/done
	$(call timed,tests in the environment $*,D2SERVE_REFERENCE=$(abspath $(STAMPS)/reference) \
	  $(STAMPS)/$*/bin/python -m pytest -q -p no:hydra_pytest \
	  --durations 15 tests/engines/$*)

test-copy: $(STAMPS)/package
	$(PYTEST) $(TIER); status=$$?; \
	[ ! -e $(STAMPS)/was-dev ] || $(MAKE) --no-print-directory dev; exit $$status

# The library and command of examples/cpp, with an engine for each library that is there: OpenVINO,
# which this installs, and torch. CXX names another compiler.
CPP := examples/cpp/build
cpp: $(STAMPS)/cpp
	@definitions=$$($(PY) -m environment.cpp) && export PATH="$(abspath $(VENV))/bin:$$PATH" && \
	  cmake -S examples/cpp -B $(CPP) -G Ninja -DCMAKE_BUILD_TYPE=Release $$definitions && \
	  cmake --build $(CPP)

# The same, and an answer of it: exports the example model, which takes a detectron2.
CPP_MODEL := model_store/shapes_mask_rcnn_onnx.mar
cpp-demo: $(STAMPS)/demo $(INSTALLED) cpp
	@[ -e $(CPP_MODEL) ] || $(VENV)/bin/d2serve export --config-file examples/shapes/models/mask_rcnn_fpn.yaml \
	  --format onnx --export-method tracing --name $(notdir $(basename $(CPP_MODEL))) --import examples.shapes.dataset
	$(CPP)/bin/d2serve_predict $(CPP_MODEL) examples/shapes/sample.jpg --draw demo.png --time

# Mutated images, archives and specs for the C++ library under sanitizers: make cpp-fuzz SECONDS=3600
SECONDS ?= 300
cpp-fuzz: $(STAMPS)/test $(INSTALLED)
	D2SERVE_FUZZ_SECONDS=$(SECONDS) $(PY) -m pytest -q -s tests/cpp/test_fuzzing.py

# d2serve beside what people serve detectron2 with today, planned for less than 25 minutes.
bench: $(STAMPS)/test $(INSTALLED) cpp-if-possible
	$(PY) -W ignore -m benchmarks.serving

# The same with every side that there is, which takes longer.
bench-all: $(STAMPS)/test $(INSTALLED) cpp-if-possible
	$(PY) -W ignore -m benchmarks.serving all

# Where there is no compiler the benchmark goes without the C++ program, and says so.
cpp-if-possible: $(STAMPS)/test
	@$(MAKE) --no-print-directory cpp || echo "The C++ program is not built, and will be left out."

# 50,000 mutated requests, about three minutes.
fuzz: $(STAMPS)/test $(INSTALLED)
	$(PY) -W ignore -m benchmarks.fuzz 50000

# A server under mixed load that is stopped and upgraded meanwhile: whether anything is lost, and
# whether anything of it grows. make soak MINUTES=600 for a night.
MINUTES ?= 10
soak: $(STAMPS)/test $(INSTALLED)
	$(PY) -W ignore -m benchmarks.soak $(MINUTES)

# What metrics, a request's id and its line in the log add to a request, about two minutes.
metrics-overhead: $(STAMPS)/test $(INSTALLED)
	$(PY) -W ignore -m benchmarks.metrics_overhead

# `d2serve batch` with Ray and without beside a plain loop, and what each node adds: half an hour.
bench-batch: $(STAMPS)/engines/done $(INSTALLED) $(STAMPS)/reference/done
	D2SERVE_REFERENCE=$(abspath $(STAMPS)/reference) $(STAMPS)/engines/bin/python -W ignore \
	  -m benchmarks.batch

# What the C++ program costs beside the Python library on the same archives, a few minutes.
bench-cpp: $(STAMPS)/test $(INSTALLED) cpp
	$(PY) -W ignore -m benchmarks.cpp

# The 3x3 convolutions of the full-size model, ours beside OpenVINO's own, a minute.
bench-layers: $(STAMPS)/test $(INSTALLED)
	$(PY) -W ignore -m benchmarks.layers

# One archive on TorchServe, Ray Serve, KServe's server and Triton, side by side, ten minutes.
bench-engines: $(STAMPS)/test $(INSTALLED) $(STAMPS)/engines/done $(STAMPS)/triton/done $(STAMPS)/reference/done
	$(PY) -W ignore -m benchmarks.engines $(STAMPS)/reference

# Whether programs answer on this machine's NVIDIA GPU as eager detectron2 does there, then how fast
# they are: results/gpu_parity.md and gpu_speed.md. docs/gpu.md has what it needs.
gpu: $(STAMPS)/test $(INSTALLED) $(STAMPS)/gpu/done
	$(STAMPS)/gpu/bin/python -W ignore -m benchmarks.gpu parity
	$(STAMPS)/gpu/bin/python -W ignore -m benchmarks.gpu speed

$(STAMPS)/gpu/done: benchmarks/gpu/requirements.txt | $(STAMPS)/test
	@$(PY) -m environment.gpu
	@echo "Installing ONNX Runtime for GPUs and TensorRT, 2 GB from their makers' registry ..."
	@$(PY) -m environment.beside $(@D) $<
	@touch $@

# What bf16 and int8 cost the example models in AP.
precision: $(STAMPS)/test $(INSTALLED)
	$(PY) -W ignore -m benchmarks.precision

# Our Caffe2 files, and upstream's, in Caffe2 itself (docs/caffe2_evidence.md). The last torch that
# has it is for Python 3.8: make caffe2-evidence PYTHON38=path, where it is not found. 2.2 GB.
PYTHON38 ?= $(firstword $(shell command -v python3.8) $(wildcard $(HOME)/.pyenv/versions/3.8*/bin/python3.8))
LEGACY := $(STAMPS)/caffe2
caffe2-evidence: $(STAMPS)/test $(INSTALLED) $(LEGACY)/done
	$(PY) -W ignore -m benchmarks.caffe2_evidence $(abspath $(LEGACY))/bin/python

# Which of detectron2's model zoo exports, and how far from detectron2 (docs/coverage.md): hours.
coverage-table: $(STAMPS)/test $(INSTALLED)
	$(PY) -W ignore -m benchmarks.coverage

# The example models in every format, and how far from detectron2 (docs/formats.md): an hour.
formats-table: $(STAMPS)/test $(INSTALLED)
	$(PY) -W ignore -m benchmarks.coverage --examples

# Reads the sources, so it installs nothing of ours.
lint: $(STAMPS)/test typed
	$(call timed,ruff,$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check .)
	$(call timed,mypy,$(VENV)/bin/mypy $(ROOMS:%=-p d2serve.%) && $(VENV)/bin/mypy environment examples benchmarks tests)
	$(call timed,import contracts,PYTHONPATH=$(TYPED) $(VENV)/bin/lint-imports)

typed:
	@mkdir -p $(TYPED)/d2serve
	@for room in $(ROOMS); do ln -sfn ../../$$room $(TYPED)/d2serve/$$room; done

# Known vulnerabilities of what is installed; in an environment of its own, to change nothing in it.
# Strict: what could not be looked up is a failure, not a clean bill.
AUDIT := $(VENV)/.d2serve/audit
audit: $(STAMPS)/demo
	@[ -x $(AUDIT)/bin/pip-audit ] || { $(PYTHON) -m venv $(AUDIT) && \
	  $(AUDIT)/bin/python -m pip --disable-pip-version-check install --quiet pip-audit; }
	$(AUDIT)/bin/pip-audit --strict --progress-spinner off \
	  --path "$$($(PY) -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"

# The container image of deploy/Dockerfile, in dist/, without a daemon: docs/containers.md. Others:
# make image RUNTIME=openvino; BASE=image builds on that, and ARG=NAME=VALUE goes to the Dockerfile.
RUNTIME ?= onnxruntime
image: $(STAMPS)/venv
	$(PY) -m environment.image --runtime $(RUNTIME) $(if $(BASE),--base $(BASE)) \
	  $(if $(ARG),--build-arg $(ARG)) --output dist/d2serve-$(RUNTIME).tar

# The site of docs/, in site/: pages, and the references from the code. A broken link fails.
docs: $(STAMPS)/docs $(INSTALLED)
	@mkdir -p docs/reference
	$(PY) -W ignore -m typer docs/command_line.py utils docs --name d2serve --title 'Command line' \
	  --output docs/reference/cli.md
	$(PY) -m sphinx --fail-on-warning --keep-going --quiet --fresh-env -d $(STAMPS)/doctrees -c docs . site
	@echo "Open site/index.html"

# What is released, in dist/, checked as the package registry checks it. Built away from .venv.
RELEASE := $(STAMPS)/release
dist: $(STAMPS)/venv
	@[ -x $(RELEASE)/bin/twine ] || { $(PYTHON) -m venv $(RELEASE) && \
	  $(RELEASE)/bin/python -m pip --disable-pip-version-check install --quiet build twine; }
	@rm -rf build dist
	$(RELEASE)/bin/python -m build
	$(RELEASE)/bin/twine check --strict dist/*
	@rm -rf build *.egg-info

clean:
	rm -rf $(TYPED) build dist site docs/reference/cli.md .mypy_cache .ruff_cache .pytest_cache .hypothesis demo.png
	rm -rf examples/shapes/data $(CPP)
	@[ "$(VENV)" = .venv ] && rm -rf .venv || echo "left alone: $(VENV)"

$(STAMPS)/venv:
	@python=$(PY); [ -x $$python ] || python=$(PYTHON); \
	  $$python -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else \
	  "Python 3.11, 3.12 or 3.13 is needed, and %s is %d.%d. Give another one: make PYTHON=python3.11" \
	  % (sys.executable, *v))'
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

# Only what it names, and beside what is there: neither d2serve nor detectron2 goes into it.
$(STAMPS)/cpp: $(STAMPS)/venv pyproject.toml constraints.txt
	@$(PIP) install --quiet $$([ -e $(STAMPS)/made ] && echo -c constraints.txt) $$($(PY) -c 'import tomllib; \
	  print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["cpp"])')
	@touch $@

$(STAMPS)/docs: $(STAMPS)/demo $(INSTALLING)
	@$(PY) -m environment.install docs
	@rm -rf build *.egg-info && touch $@

$(BESIDE:%=$(STAMPS)/%/done): $(STAMPS)/%/done: tests/engines/%/requirements.txt | $(STAMPS)/test
	@echo "Installing what tests/engines/$* needs from the package registry: a minute or two ..."
	@$(PY) -m environment.beside $(@D) $<
	@touch $@

# What TorchServe answers, with which the other engines are compared.
$(STAMPS)/reference/done: $(INSTALLED)
	@echo "Asking TorchServe about 300 images, which other engines must answer alike: a minute ..."
	@$(PY) -W ignore -m tests.engines.reference $(@D)
	@touch $@

$(LEGACY)/done: benchmarks/caffe2_evidence/requirements.txt requirements-detectron2.txt | $(STAMPS)/venv
	@[ -n "$(PYTHON38)" ] && $(PYTHON38) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 8))' || { \
	  echo "Caffe2 needs Python 3.8, and none was found ($(PYTHON38)). Name one:" \
	  "make caffe2-evidence PYTHON38=/path/to/python3.8" >&2; exit 1; }
	@echo "Installing torch 1.9.1 with Caffe2 from the package registry: a few minutes ..."
	@$(PYTHON38) -m venv $(LEGACY)
	@$(LEGACY)/bin/python -m pip --disable-pip-version-check install --quiet \
	  -r benchmarks/caffe2_evidence/requirements.txt
	@$(LEGACY)/bin/python -m pip --disable-pip-version-check install --quiet --no-deps \
	  --target "$$($(LEGACY)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
	  --python-version 3.10 --only-binary=:all: -r requirements-detectron2.txt
	@touch $@

# The rooms as the package d2serve: a copy, as users have it.
$(STAMPS)/package: $(STAMPS)/demo $(SOURCES)
	@rm -rf build
	@[ ! -e $(STAMPS)/dev ] || mv $(STAMPS)/dev $(STAMPS)/was-dev
	$(PIP) install --quiet --no-deps --no-build-isolation --force-reinstall .
	@rm -rf build *.egg-info && touch $@

# The same, linked: pip's editable installation, whose path leads to the links. setuptools would put
# a finder there instead, which lends an archive the modules that it lacks, and no editor follows.
$(STAMPS)/dev: $(STAMPS)/test | typed
	@rm -rf build $(STAMPS)/package
	$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@for path in "$$($(PY) -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"/__editable__.d2serve-*.pth; \
	  do echo '$(abspath $(TYPED))' > "$$path"; done
	@cd / && '$(abspath $(PY))' -c 'import d2serve.handlers as found; from pathlib import Path; \
	  assert Path(found.__file__).parent.samefile("$(abspath handlers)"), found.__file__'
	@rm -rf build *.egg-info $(STAMPS)/was-dev && touch $@
