"""HumanEval (Chen et al. 2021, arXiv:2107.03374): 164 problems, a benchmark and never training text."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

from modelyard.data.sources.declared import Source
from modelyard.data.sources.fetch import member


def read(source: Source, archive: Path) -> list[dict[str, Any]]:
    """The problems with their own fields: task_id, prompt, canonical_solution, test, entry_point."""
    lines = gzip.decompress(member(source, archive, "HumanEval.jsonl.gz")).decode("utf-8").splitlines()
    return [json.loads(line) for line in lines if line.strip()]
