"""Suites of expectations about a table, in Great Expectations' own JSON under ``configs/expectations``, and
the result of checking one.

What a suite says belongs to what a stage is, so :func:`suites_version` goes into the fingerprint of a stage
that has one checked; the checking itself is ``adapters.expectations``' work. Limits that a config decides
stand in a suite as Great Expectations' parameters (``{"$PARAMETER": "max_refused"}``). Below the stages
because two of them have suites (data: documents and ratings; release: tables of metrics) and stages never
import each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from pydantic import Field

from modelyard.config import Config, digest, shipped_configs
from modelyard.formats import json_file
from modelyard.store.code_identity import code_version


class ExpectationResult(Config):
    """Outcome of one expectation."""

    name: str
    """The expectation's name: what its suite has as ``meta.name``."""
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
    """Checks a pandas DataFrame against a suite of ``configs/expectations``."""

    def __call__(self, suite: str, frame: Any, parameters: Mapping[str, Any] = {}) -> SuiteResult:
        """Check every expectation of ``suite`` (``corpus/documents``), with ``parameters`` for its limits;
        never raises for a failed one.
        """


def suite_file(suite: str) -> Path:
    """The file of a suite."""
    return shipped_configs() / "expectations" / f"{suite}.json"


def read_suite(suite: str) -> dict[str, Any]:
    """A suite as Great Expectations' JSON has it. Raises ValueError naming the file that is missing or
    damaged.
    """
    return json_file.table(suite_file(suite), "name", "expectations")


def checked_code(modules: Sequence[str], suites: Sequence[str]) -> str:
    """Version of a stage's code: of ``modules``, and of what the ``suites`` say that it has checked."""
    code = code_version(*modules)
    return digest([code, suites_version(*suites)])[:16] if suites else code


def suites_version(*suites: str) -> str:
    """Hash of what suites say."""
    return digest({suite: read_suite(suite) for suite in suites})[:16]
