#!/bin/sh
modelyard contamination --benchmark items.jsonl --text-field question --corpus train --json report.json
