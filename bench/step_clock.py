"""Processor time of a process by step, by wrapping the functions that are its steps."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from typing import Any


class Clock:
    """Processor seconds by step, each without the steps inside it, of all threads of the process."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._open = ["rest"]
        self._last = time.process_time()

    def enter(self, name: str) -> None:
        """A step begins."""
        self._charge()
        self._open.append(name)

    def leave(self) -> None:
        """The step that began last ends."""
        self._charge()
        self._open.pop()

    def _charge(self) -> None:
        now = time.process_time()
        self.seconds[self._open[-1]] = self.seconds.get(self._open[-1], 0.0) + now - self._last
        self._last = now

    def function(self, owner: Any, attribute: str, name: str) -> None:
        """Count the calls of ``owner.attribute`` as a step."""
        original: Callable[..., Any] = getattr(owner, attribute)

        @functools.wraps(original)
        def timed(*args: Any, **kwargs: Any) -> Any:
            self.enter(name)
            try:
                return original(*args, **kwargs)
            finally:
                self.leave()

        setattr(owner, attribute, timed)

    def generator(self, owner: Any, attribute: str, name: str) -> None:
        """Count what the iterator of ``owner.attribute`` does as a step."""
        original: Callable[..., Iterator[Any]] = getattr(owner, attribute)

        @functools.wraps(original)
        def timed(*args: Any, **kwargs: Any) -> Iterator[Any]:
            iterator = original(*args, **kwargs)
            while True:
                self.enter(name)
                try:
                    item = next(iterator)
                except StopIteration:
                    return
                finally:
                    self.leave()
                yield item

        setattr(owner, attribute, timed)
