"""Real text for benchmarks: docstrings of the standard library and of every installed package, the same on equal installations.

Docstrings alone are short, so those of one module are one document, as a page of its documentation would be.
"""

from __future__ import annotations

import inspect
import json
import re
import sysconfig
import tomllib
from pathlib import Path

WEB = tomllib.loads((Path(__file__).parents[1] / "configs/data/web.toml").read_text("utf-8"))["corpus"]["filters"]
"""The settings that the filters are measured with."""
CACHE = Path(".modelyard/bench/text.jsonl")
_DOCSTRING = re.compile(r'''^[ \t]*r?"""(.*?)"""''', re.DOTALL | re.MULTILINE)


def texts(megabytes: float) -> list[str]:
    """About ``megabytes`` MB of module documentation, in order of path; collected once into ``.modelyard/bench``."""
    if not CACHE.exists():
        CACHE.parent.mkdir(parents=True, exist_ok=True)
        partial = CACHE.with_suffix(".partial")
        partial.write_text("".join(json.dumps(text) + "\n" for text in _collect()), "utf-8")
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


def sources(megabytes: float) -> list[str]:
    """About ``megabytes`` MB of source files of the standard library and the installed packages, in order of path."""
    found: list[str] = []
    size = 0
    for path in _files():
        try:
            found.append(path.read_text("utf-8"))
        except (ValueError, OSError):
            continue
        size += len(found[-1])
        if size >= megabytes * 1e6:
            break
    return found


def _files() -> list[Path]:
    roots = [Path(sysconfig.get_paths()[key]) for key in ("stdlib", "purelib")]
    return list(dict.fromkeys(path for root in roots for path in sorted(root.rglob("*.py"))))


def _collect() -> list[str]:
    found = []
    for path in _files():
        try:
            source = path.read_text("utf-8")
        except (ValueError, OSError):
            continue
        text = "\n\n".join(inspect.cleandoc(doc) for doc in _DOCSTRING.findall(source))
        if len(text) >= 200:
            found.append(text.encode("utf-8", "replace").decode())
    return found
