#!/bin/sh
# A model of configs/model, on GPUs that this machine does not have.
modelyard layout configs/model/llama-1.3b.toml --gpus 8 --memory-gib 80 --json plan.json
