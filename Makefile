CONFIG ?= configs/pipeline/tiny.toml
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

export DO_NOT_TRACK := 1
# Kept even where the shell says otherwise: a line and its tests start hundred processes, each of which would compile every module again.
export PYTHONDONTWRITEBYTECODE :=

# make takes "policy.kl_coef=0.05" for a variable of its own; every command-line variable that is not one of make's here is
# an override of the config. Each is one word of the shell, whatever spaces and quotes its value has, as the value of one of make's is;
# PORTS and PARTS alone are several.
KNOWN     := MODELYARD_IMAGE GPUS WORKERS CPUS MEMORY SHM RDMA TINY CONFIG PYTHON VENV PORTS N SEED SEEDS MODEL DATA LOCKED FAMILY PARTS
quoted     = $(if $(value $(1)),'$(subst ','\'',$(value $(1)))')
GIVEN      = $(foreach _key,$(sort $(.VARIABLES)),$(if $(filter command line,$(origin $(_key))),$(_key)))
OVERRIDES  = $(foreach _key,$(filter-out $(KNOWN),$(GIVEN)),'$(subst ','\'',$(_key)=$(value $(_key)))')

.PHONY: help run test test-numerics test-all check docs ui serve desk clean setup lock services deploy kubernetes chaos long-life gpu-proof findings alignment bench bench-evals bench-data bench-posttrain
.DEFAULT_GOAL := help

# Where `make services` answers, for the configs that are meant for it.
ADDRESSES := $(if $(findstring services,$(value CONFIG)),. .modelyard/services/addresses &&)

help: ## this list
	@awk -F ' *## *' '/^[a-z%-]+:.*##/ { sub(/:.*/, "", $$1); printf "make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# What a config of questions by reasoning-gym needs beside the rest.
TASKS := $(if $(or $(findstring verified,$(value CONFIG)),$(findstring rewards,$(value CONFIG)),$(findstring findings,$(value CONFIG))),$(VENV)/.tasks)

run: $(READY) $(TASKS) ## the whole pipeline, set-up included: [CONFIG=configs/pipeline/tiny.toml] [policy.kl_coef=0.05 ...]
	@$(ADDRESSES) $(BIN)/modelyard run $(call quoted,CONFIG) $(OVERRIDES)

test: $(READY) ## the tests, the pipeline end to end at its smallest among them
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

# What is computed must not turn on the processor: once more as one with AVX2 alone computes, and as one with neither AVX2 nor AVX-512.
NUMERICS := $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m 'numerics and not slow and not sampled' tests/unit/model tests/unit/posttrain

test-numerics: $(READY) ## the numeric tests as on processors with fewer instructions
	@ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 $(NUMERICS) -k 'not killed'
	@ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 $(NUMERICS) -k 'not killed and not layout'

test-all: $(READY) ## the slow tests as well
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder -m ''

check: $(READY) ## ruff, mypy and the import rule
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench-evals: $(READY) ## evaluation beside its peers: MODEL=HF_DIR DATA=DIR
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[bench]'
	@$(BIN)/python -m bench.evals $(call quoted,MODEL) $(call quoted,DATA)

bench-data: $(READY)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[bench]'
	@RAYON_NUM_THREADS=1 OMP_NUM_THREADS=1 $(BIN)/python -m bench.data

# TRL 1.12.0 is the last with a PPO trainer; the other trainers are those of the newest.
bench-posttrain: $(VENV)/.trl-1.12
	@$(BIN)/python -m bench.posttrain
	@PYTHONPATH=$< $(BIN)/python -m bench.posttrain --work ppo

$(VENV)/.trl-1.12: $(READY)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[bench]'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target $@ trl==1.12.0

gpu-proof: $(READY) ## what one GPU gives, into gpu-proof.json: [TINY=1] [PARTS="environment parity"]
	@$(BIN)/python -m bench.gpu.proof --out gpu-proof.json $(if $(TINY),--tiny) $(foreach _part,$(PARTS),--parts '$(_part)')

findings: $(READY) $(VENV)/.tasks ## three findings of GPT-Fathom on models trained here, about an hour: [SEEDS=5] [TINY=1]
	@$(BIN)/python -m bench.findings $(if $(SEEDS),--seeds $(call quoted,SEEDS)) $(if $(TINY),--tiny)

alignment: $(READY) ## seven ways to align one SFT model, by one gate, about an hour: [FAMILY=configs/pipeline/tiny]
	@$(BIN)/python -m bench.alignment $(if $(FAMILY),--family $(call quoted,FAMILY))

bench-%: $(READY) ## bench/NAME.py, such as bench-train
	@$(BIN)/python -m bench.$*

bench: bench-train bench-generate bench-startup ## training, generation and start-up

docs: $(VENV)/.docs ## the documentation as a site, in site/
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "site/index.html"

$(VENV)/.docs: $(READY)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[docs]'
	@touch $@

ui: $(READY) ## Prefect and MLflow pages of this and earlier runs
	@$(BIN)/modelyard ui

serve: $(READY) ## chat with a released model at a page, OpenAI's API beside it: [MODEL=models:/tiny@production]
	@$(BIN)/modelyard serve $(or $(call quoted,MODEL),models:/tiny@production)

desk: $(READY) ## labelers, red team and releasers at one web page; first: modelyard account NAME --role admin
	@$(BIN)/modelyard desk

services: $(VENV)/.services ## real servers on loopback until interrupted: [PORTS='--prefect-port 4201']
	@$(BIN)/modelyard services $(PORTS)

# Three packages that reasoning-gym needs are published as source alone, which no lock of wheels can hold.
$(VENV)/.tasks: $(READY)
	@test -z "$(LOCKED)" || { echo "LOCKED: questions by reasoning-gym need cellpylib, pycosat and zss, which there are no wheels of; without LOCKED they are built"; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[tasks]'
	@touch $@

$(VENV)/.services: $(READY)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(if $(LOCKED),--no-build-isolation) --constraint constraints.txt --editable '.[services]'
	@touch $@

deploy: $(READY) ## deployments of infra/prefect.yaml into the Prefect server at PREFECT_API_URL
	@test -n "$$PREFECT_API_URL" || { echo "PREFECT_API_URL: not set; after make services: . .modelyard/services/addresses"; exit 1; }
	@$(BIN)/python -m tasks.deployment .modelyard/prefect.yaml
	@$(BIN)/prefect --no-prompt deploy --all --prefect-file .modelyard/prefect.yaml

kubernetes: $(READY) ## infra/kubernetes.yaml with the image that MODELYARD_IMAGE names by digest, for kubectl apply -f -: [GPUS=8 WORKERS=2 ...]
	@$(BIN)/python -m tasks.kubernetes $(foreach _key,GPUS WORKERS CPUS MEMORY SHM RDMA,$(if $($(_key)),--$(shell echo $(_key) | tr A-Z a-z) $(call quoted,$(_key))))

chaos: $(READY) ## kill -9 at random, and resume: [N=20] [SEED=0]
	@$(BIN)/python -m bench.chaos --runs $(or $(call quoted,N),20) --seed $(or $(call quoted,SEED),0)

long-life: $(READY) ## many lines one after another in one home, and what they leave: [N=50]
	@$(BIN)/python -m bench.long_life --lines $(or $(call quoted,N),50)

setup: $(READY) ## the environment in .venv, as every other target makes it (by uv or pip): [LOCKED=1, by requirements.lock]

lock: ## requirements.lock anew, by uv, of what pyproject.toml and constraints.txt say
	@uv pip compile pyproject.toml --extra services --extra signing --extra build --constraint constraints.txt --quiet --no-header \
	  --no-annotate --no-emit-index-url --generate-hashes --universal --python-version 3.11 --output-file requirements.lock

$(READY): constraints.txt pyproject.toml infra/setup.sh
	@LOCKED=$(call quoted,LOCKED) infra/setup.sh $(call quoted,PYTHON) $(VENV)
	@touch $@

clean: ## removes .venv, .modelyard, site and the caches
	rm -rf $(call quoted,VENV) .modelyard site .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
