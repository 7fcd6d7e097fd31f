"""What models answered, kept by rank 0 as it comes: a stage that was killed asks only for the rest, and every rank hears the same.

The journal (:mod:`modelyard.formats.journal`) lies with the stage's checkpoints, so a key need not say which inputs the stage has. Numbers come back
as they were, to the bit. Vectors, too many for JSON, are rows of a file instead (:class:`KeptRows`). Left out: taking up what another stage asked,
and a run that goes on at another machine.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from modelyard.config import digest
from modelyard.formats.journal import Journal
from modelyard.model.network.first_rank import on_first_rank

T = TypeVar("T")


class Kept:
    """A journal that all ranks ask together."""

    def __init__(self, path: Path) -> None:
        """``path`` need not be there; every rank calls. Raises ValueError where the file is no journal."""
        self._journal: Journal[Any] | None = None
        on_first_rank(lambda: self._open(path))

    def _open(self, path: Path) -> None:
        self._journal = Journal(path, Any)

    def once(self, question: object, ask: Callable[[], T], of: Callable[[Any], T]) -> T:
        """The answer to ``question``, made of JSON by ``of``; asked and written down where it is not known."""
        key = digest(question)
        known = on_first_rank(lambda: self._known(key))
        if known is not None:
            return of(known)
        answer = ask()
        on_first_rank(lambda: self._add(key, answer))
        return answer

    def _known(self, key: str) -> Any:
        return self._journal[key] if self._journal is not None and key in self._journal else None

    def _add(self, key: str, answer: object) -> None:
        assert self._journal is not None, "rank 0 has it"
        self._journal.add({key: answer})


class KeptRows:
    """Vectors of one width in a file that grows by what is computed, in an order that is the same every time; one rank alone."""

    def __init__(self, path: Path, width: int) -> None:
        """``path`` need not be there; a vector that a crash cut is dropped."""
        self._path, self._width, self._taken = path, width, 0
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        self._keep(path.stat().st_size // (4 * width))
        self._known = torch.from_numpy(np.fromfile(path, np.float32)).reshape(-1, width)

    def _keep(self, rows: int) -> None:
        os.truncate(self._path, 4 * self._width * rows)

    def once(self, count: int, make: Callable[[], Tensor]) -> Tensor:
        """The next ``count`` vectors [count, width] fp32: those of the file, else ``make``'s, which are written down."""
        start, self._taken = self._taken, self._taken + count
        if self._taken <= len(self._known):
            return self._known[start : self._taken]
        made = make()
        self._keep(start)  # fewer than these were left there
        with self._path.open("ab") as file:
            file.write(made.numpy().tobytes())
            file.flush()
            os.fsync(file.fileno())
        return made
