"""How values look on a page: times, shares with their interval, prompts as turns."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from modelyard.complaint import without_password
from modelyard.stats.estimate import Estimate


def moment(seconds: float | None) -> str:
    """A time in UTC, to the minute."""
    return "" if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")


def clock(seconds: float) -> str:
    """A time of day in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%H:%M:%S UTC")


def percent(share: float | None) -> str:
    """A share, to a tenth of a percent."""
    return "-" if share is None or math.isnan(share) else f"{share:.1%}"


def interval(estimate: Estimate | None) -> str:
    """A share with its 95% interval."""
    if estimate is None or math.isnan(estimate.value):
        return "-"
    return f"{estimate.value:.1%} ({percent(estimate.low)} to {percent(estimate.high)})"


def decimals(estimate: Estimate | None) -> str:
    """A coefficient with its 95% interval."""
    if estimate is None or math.isnan(estimate.value):
        return "-"
    ends = "" if math.isnan(estimate.low) else f" ({estimate.low:.2f} to {estimate.high:.2f})"
    return f"{estimate.value:.2f}{ends}"


def duration(seconds: float) -> str:
    """Hours, minutes and seconds."""
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {whole % 60} s" if minutes else f"{whole} s"


def turns(prompt: str) -> list[dict[str, str]]:
    """A prompt's JSON as turns; of plain text one turn of nobody's."""
    said = json.loads(prompt)
    return [{"role": "", "content": said}] if isinstance(said, str) else said


FILTERS: dict[str, Callable[..., Any]] = {
    "address": without_password,
    "moment": moment,
    "percent": percent,
    "interval": interval,
    "decimals": decimals,
    "duration": duration,
    "turns": turns,
}
"""Filter of a template -> what it does."""
