"""Loggers whose lines are shown: they hold names, paths and addresses of others as every other line does (:mod:`modelyard.complaint`)."""

from __future__ import annotations

import logging

from modelyard.complaint import showable


def logger(name: str) -> logging.Logger:
    """The logger called ``name``. What it logs names no password and holds nothing that a terminal obeys, whoever handles it."""
    found = logging.getLogger(name)
    found.addFilter(_made_showable)
    return found


def _made_showable(record: logging.LogRecord) -> bool:
    record.msg, record.args = showable(record.getMessage()), None
    return True
