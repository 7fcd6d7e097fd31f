"""Real text for benchmarks: docstrings of the standard library and of every installed package, the same on equal installations.

Docstrings alone are short, so those of one module are one document, as a page of its documentation would be.
"""

from __future__ import annotations

import ast
import json
import sysconfig
from pathlib import Path

CACHE = Path(".modelyard/bench/text.jsonl")


def texts(megabytes: float) -> list[str]:
    """About ``megabytes`` MB of module documentation, in order of path; collected once (a minute or two) into ``.modelyard/bench``."""
    if not CACHE.exists():
        CACHE.parent.mkdir(parents=True, exist_ok=True)
        partial = CACHE.with_suffix(".partial")
        with partial.open("w", encoding="utf-8") as file:
            for text in _collect():
                file.write(json.dumps(text) + "\n")
        partial.rename(CACHE)
    found: list[str] = []
    size = 0
    with CACHE.open(encoding="utf-8") as file:
        for line in file:
            found.append(json.loads(line))
            size += len(found[-1])
            if size >= megabytes * 1e6:
                break
    return found


def _collect() -> list[str]:
    roots = [Path(sysconfig.get_paths()[key]) for key in ("stdlib", "purelib")]
    seen: set[Path] = set()
    found = []
    for path in (path for root in roots for path in sorted(root.rglob("*.py"))):
        if path in seen:
            continue
        seen.add(path)
        try:
            tree = ast.parse(path.read_text("utf-8"))
        except (SyntaxError, ValueError, OSError, RecursionError):
            continue
        nodes = [n for n in ast.walk(tree) if isinstance(n, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)]
        text = "\n\n".join(doc for node in nodes if (doc := ast.get_docstring(node)))
        if len(text) >= 200:
            found.append(text.encode("utf-8", "replace").decode())
    return found
