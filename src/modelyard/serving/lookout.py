"""A thread that looks at something every few seconds: an alias, a trial."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable

from modelyard.complaint import complaint


class Lookout(ABC):
    """Looks until it is closed. Whatever a look raises is said once, and the next look tries again."""

    def __init__(self, what: str, seconds: float, say: Callable[[str], None]) -> None:
        """``what`` is said in front of why a look failed."""
        self.what, self.seconds, self.say = what, seconds, say
        self._said = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=what, daemon=True)
        self._thread.start()

    @abstractmethod
    def look(self) -> None:
        """One look."""

    def close(self) -> None:
        """Look no more; a look under way ends first."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self.seconds):
            failed = ""
            try:
                self.look()
            except Exception as error:  # a registry or a database that is away, a version that cannot be loaded: what serves goes on
                failed = f"{self.what}: {complaint(error)}"
            if failed and failed != self._said:
                self.say(failed)
            self._said = failed
