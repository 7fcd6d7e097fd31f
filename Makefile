# make run [CONFIG=configs/pipeline/tiny.toml] [policy.kl_coef=0.05 ...]   the whole line; dotted words override the config
# make test | test-numerics | test-all | check | ui | clean
# make services [PORTS='--prefect-port 4201'] | deploy | chaos [N=20] [SEED=0]   real servers on loopback; deployments into a Prefect server; kill -9 at random, and go on
# make bench | bench-evals MODEL=HF_DIR DATA=DIR | bench-NAME for bench/NAME.py 

CONFIG ?= configs/pipeline/tiny.toml
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

export DO_NOT_TRACK := 1

# make takes "policy.kl_coef=0.05" for a variable of its own; every command-line variable that is not one of make's here is an override of the config.
KNOWN     := TINY CONFIG PYTHON VENV PORTS N SEED MODEL DATA
OVERRIDES := $(foreach word,$(MAKEOVERRIDES),$(if $(filter $(KNOWN),$(firstword $(subst =, ,$(word)))),,'$(word)'))

.PHONY: run test test-numerics test-all check ui clean setup services deploy chaos bench bench-evals bench-data bench-posttrain
.DEFAULT_GOAL := run

# Where `make services` answers, for the configs that are meant for it.
ADDRESSES := $(if $(findstring services,$(CONFIG)),. .modelyard/services/addresses &&)

run: $(READY)
	@$(ADDRESSES) $(BIN)/python -m flows.pipeline $(CONFIG) $(OVERRIDES)

test: $(READY)
	@$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

# What is computed must not turn on the processor: once more as one with AVX2 alone computes, and as one with neither AVX2 nor AVX-512.
NUMERICS := $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m 'numerics and not slow' tests/unit/model tests/unit/posttrain

test-numerics: $(READY)
	@ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 $(NUMERICS)
	@ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 $(NUMERICS) -k 'not layout'

test-all: $(READY)
	@$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder -m ''

check: $(READY)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench-evals: $(READY)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[bench]'
	@$(BIN)/python bench/evals.py $(MODEL) $(DATA)

bench-data: $(READY)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[bench]'
	@RAYON_NUM_THREADS=1 OMP_NUM_THREADS=1 $(BIN)/python -m bench.data

bench-posttrain: $(READY)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[bench]'
	@$(BIN)/python -m bench.posttrain

gpu-proof: $(READY)
	@$(BIN)/python -m bench.gpu.proof --out gpu-proof.json $(if $(TINY),--tiny)

bench-%: $(READY)
	@$(BIN)/python -m bench.$*

bench: bench-train bench-generate bench-startup

ui: $(READY)
	@$(BIN)/python -m modelyard.adapters.servers.ui

services: $(VENV)/.services
	@$(BIN)/python -m modelyard.adapters.servers.services $(PORTS)

$(VENV)/.services: $(READY)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[services]'
	@touch $@

deploy: $(READY)
	@test -n "$$PREFECT_API_URL" || { echo "PREFECT_API_URL: not set; after make services: . .modelyard/services/addresses"; exit 1; }
	@$(BIN)/python -m tasks.deployment
	@$(BIN)/prefect --no-prompt deploy --all --prefect-file infra/prefect.yaml

chaos: $(READY)
	@$(BIN)/python -m bench.chaos --runs $(or $(N),20) --seed $(or $(SEED),0)

setup: $(READY)

$(READY): constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; say which with PYTHON=...")'
	@echo "Setting up $(VENV) (once; a few minutes)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch==2.13.0
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) .modelyard .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
