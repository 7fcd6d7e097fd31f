#!/bin/sh
# Exit code 4: the new model is worse on arithmetic, though better on reading.
modelyard compare --gate old.jsonl new.jsonl --json comparison.json
