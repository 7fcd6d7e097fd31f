"""Declared expectations about a table and the result of checking them: data here, executed by
``adapters.expectations``.

Below the stages because two of them declare suites (data: documents and ratings; release: metric tables) and stages
never import each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from pydantic import Field

from modelyard.config import Config


class Expectation(Config):
    """One check of a table."""

    name: str
    """What a failure is called in errors, gates and reports."""
    type: str
    """Great Expectations class name, for example ``ExpectColumnValuesToNotBeNull``."""
    arguments: dict[str, Any]
    """Its arguments."""


class ExpectationResult(Config):
    """Outcome of one expectation."""

    name: str
    """The expectation's name."""
    success: bool
    """Whether it holds."""
    detail: str
    """What was observed, in one line."""


class ExpectationError(ValueError):
    """A failed suite; the message names the expectation."""


class SuiteResult(Config):
    """Outcome of a suite on one table."""

    suite: str
    """Name of the suite."""
    results: list[ExpectationResult]
    """One per expectation, in the order declared."""
    page: str = Field(default="", exclude=True, repr=False)
    """The Data Docs page of the validation, HTML; "" where whoever validated draws none."""

    def keep_page(self, out: Path) -> None:
        """Write the page to ``data_docs_{suite}.html`` in ``out``, if there is one."""
        if self.page:
            (out / f"data_docs_{self.suite}.html").write_text(self.page, "utf-8")

    @property
    def success(self) -> bool:
        """Whether every expectation holds."""
        return all(result.success for result in self.results)

    def require(self) -> SuiteResult:
        """Itself when it passed; raises ExpectationError naming the expectations that failed."""
        if failed := [f"{result.name} ({result.detail})" for result in self.results if not result.success]:
            raise ExpectationError(f"suite {self.suite} failed: {'; '.join(failed)}")
        return self


class Validate(Protocol):
    """Checks a pandas DataFrame against declared expectations."""

    def __call__(self, suite: str, frame: Any, expectations: Sequence[Expectation]) -> SuiteResult:
        """Run every expectation; never raises for a failed one."""
