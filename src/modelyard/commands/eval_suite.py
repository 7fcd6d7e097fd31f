"""What became of the benchmarks of a suite, and how ``modelyard eval`` ends by it."""

from __future__ import annotations

from dataclasses import dataclass, field

from modelyard.child_server import ServerError
from modelyard.stats.estimate import Estimate


@dataclass
class Asked:
    """What became of the benchmarks of a suite, by name."""

    missing: dict[str, str]
    """Not asked: data, a judge or a chat form is not there."""
    found: dict[str, Estimate] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    """Asked, and not answered."""
    unanswered: str = ""
    """The first at which a server, the model's or the judge's, gave no answer."""
    silent: str = ""
    """The one at which the model stopped to answer: it is asked nothing after that."""

    def settle(self, suite: str) -> None:
        """Raise ServerError where a server did not answer, ValueError where the model could not be asked or nothing was measured."""
        if self.failed:
            name = self.unanswered or next(iter(self.failed))
            kind = ServerError if self.unanswered else ValueError
            raise kind(f"suite {suite}: not answered: {', '.join(self.failed)}; {name}: {self.failed[name]}")
        if not self.found:
            name, reason = next(iter(self.missing.items()))
            raise ValueError(f"suite {suite}: nothing was measured; {name}: {reason}")
