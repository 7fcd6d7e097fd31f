"""The calibration figure of few items shows what they can say: joined points, their interval and how many items each has."""

from __future__ import annotations

from typing import Any

import pytest
from matplotlib.figure import Figure

from modelyard.formats.results import Reliability
from modelyard.release.card import figures
from modelyard.stats.calibration import reliability
from modelyard.stats.estimate import proportion


def test_points_of_few_items_are_joined_and_drawn_with_their_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    p = [(2 * k + 1) / 84 for k in range(42)]  # four or five items in each of the ten bins
    hit = [k % 3 == 0 for k in range(42)]
    axes: list[Any] = []

    def draw(paint: Any, **_: float) -> str:
        axes.append(Figure().add_subplot())
        paint(axes[0])
        return ""

    monkeypatch.setattr(figures, "draw", draw)
    figures.reliability({"policy": Reliability(error=0.25, bins=tuple(reliability(p, hit)))})

    (drawn,) = axes[0].containers
    x, y = drawn.lines[0].get_data()
    edges = [segment[:, 1].tolist() for segment in drawn.lines[2][0].get_segments()]
    assert len(x) == 3, "ten jagged points before"
    counts, at = [], 0
    for share, (low, high) in zip(y, edges, strict=True):
        n = next(
            n
            for n in range(10, 43)
            if sum(hit[at : at + n]) / n == pytest.approx(share) and proportion(sum(hit[at : at + n]), n).low == pytest.approx(low)
        )
        assert high == pytest.approx(proportion(sum(hit[at : at + n]), n).high)
        counts, at = [*counts, n], at + n
    assert at == 42
    assert axes[0].get_legend().get_texts()[0].get_text() == f"policy, error 0.250; {min(counts)} to {max(counts)} items a point"


def test_figure_with_its_text_is_drawn() -> None:
    svg = figures.reliability({"base": Reliability(error=0.1, bins=tuple(reliability([0.35] * 12, [True] * 6 + [False] * 6)))})
    assert "<!-- base, error 0.100; 12 items a point -->" in svg
