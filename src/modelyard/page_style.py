"""How the project's pages and figures look: colours, type, dark mode, narrow windows, tables that sort. The one place for it.

Series of a figure have the colours of Okabe and Ito (Color Universal Design, 2008), which people with any colour vision tell apart; in dark
mode they are lighter versions of the same. A figure is drawn in the light colours and its markup then names the variables, so that it follows
the reader's setting as the page does. One script runs on a page, by its hash: a click (or Enter) on a column's head sorts the table by it.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Any

COLOURS = {
    "ink": ("#1f2933", "#e4e7eb"),
    "soft": ("#52606d", "#a3b0bd"),
    "line": ("#e1e5ea", "#323d49"),
    "bg": ("#f5f7f9", "#12171d"),
    "card": ("#ffffff", "#1b222a"),
    "good": ("#00664b", "#4fc9a4"),
    "hold": ("#8a5300", "#e5a54a"),
    "bad": ("#a63a00", "#ff9161"),
    "on-badge": ("#fefefe", "#12171e"),
    "grid": ("#d9dee4", "#38434f"),
    "faint": ("#7b8794", "#8593a1"),
    "first": ("#0072b2", "#5ab4ea"),
    "second": ("#d55e00", "#ff9a52"),
    "third": ("#009e73", "#3fd0a5"),
    "fourth": ("#cc79a7", "#e3a3c6"),
    "link": ("#005f96", "#7cc4f5"),
}
"""Name -> its value on a light page and on a dark one. Text of each on ``card`` and ``bg`` has a contrast of 4.5 or more (WCAG 2.2, 1.4.3)."""
INK, SOFT, GRID, FAINT = (COLOURS[name][0] for name in ("ink", "soft", "grid", "faint"))
FIRST, SECOND, THIRD, FOURTH = SERIES = tuple(COLOURS[name][0] for name in ("first", "second", "third", "fourth"))
GOOD, BAD = COLOURS["good"][0], COLOURS["bad"][0]
PLOT = {
    "svg.hashsalt": "figure",
    "font.size": 9.5,
    "axes.prop_cycle": f"cycler('color', {list(SERIES)})",
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.titlesize": 9.5,
    "axes.titlecolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
}
"""matplotlib's settings; series in their order are :data:`SERIES`."""

SORT = """
const value = cell => { const text = cell ? cell.textContent.trim() : ""; const number = parseFloat(text.replace(/,/g, "").replace("\\u2212", "-"));
  return Number.isNaN(number) ? text : number; };
const sort = head => {
  const table = head.closest("table"), body = table.tBodies[0], place = head.cellIndex, up = head.getAttribute("aria-sort") !== "ascending";
  const rows = [...body.rows].map(row => [value(row.cells[place]), row]);
  const order = (a, b) => typeof a === typeof b ? (typeof a === "number" ? a - b : a.localeCompare(b)) : typeof a === "number" ? -1 : 1;
  rows.sort((a, b) => up ? order(a[0], b[0]) : order(b[0], a[0]));
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
  body.append(...rows.map(row => row[1]));
};
for (const head of document.querySelectorAll("table:not(.fixed) > thead th")) {
  if (head.closest("table").tBodies[0].rows.length < 2) continue;
  head.tabIndex = 0; head.classList.add("sorts");
  head.addEventListener("click", () => sort(head));
  head.addEventListener("keydown", event => { if (event.key === "Enter") sort(head); });
}
"""
_SORT_HASH = base64.b64encode(hashlib.sha256(SORT.encode()).digest()).decode()
NOTHING_REMOTE = (
    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
    f"script-src 'sha256-{_SORT_HASH}'\">"
)
"""For the head of a page that needs no network: nothing is fetched and no script but :data:`SORT` runs, whatever gets into it."""

_RULES = """
* { box-sizing: border-box; }
body { margin: 0; background: var(--bg); color: var(--ink); font: 16px/1.55 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 24px 20px 64px; }
header { padding: 12px 0 8px; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .35rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 0 0 .7rem; }
p { margin: .3rem 0 .7rem; }
a { color: var(--link); }
.soft { color: var(--soft); }
.small { font-size: .87rem; }
section, figure { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 18px 20px; margin: 16px 0; }
figure { margin: 0; min-width: 0; }
figure svg { width: 100%; height: auto; display: block; }
figcaption { font-weight: 600; margin-bottom: 6px; }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); gap: 16px; margin: 16px 0; }
.grid section { margin: 0; min-width: 0; }
.verdict { display: inline-block; font-weight: 700; letter-spacing: .04em; padding: 2px 10px; border-radius: 999px; white-space: nowrap; }
.verdict { color: var(--on-badge); }
.PROMOTE { background: var(--good); } .HOLD { background: var(--hold); } .BLOCK { background: var(--bad); } .aside { background: var(--soft); }
.ok { color: var(--good); } .bad { color: var(--bad); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; }
th { text-align: left; color: var(--soft); font-weight: 600; white-space: nowrap; }
th.sorts { cursor: pointer; }
th.sorts:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; }
th[aria-sort=ascending]::after { content: " \\25B4"; } th[aria-sort=descending]::after { content: " \\25BE"; }
th, td { padding: 7px 12px 7px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
tr:last-child td { border-bottom: 0; }
code, pre { font-family: ui-monospace, "SFMono-Regular", "DejaVu Sans Mono", monospace; font-size: .86rem; }
code { overflow-wrap: anywhere; }
pre { background: var(--bg); border-radius: 8px; padding: 12px 14px; overflow-x: auto; margin: 8px 0; }
dl { display: grid; grid-template-columns: fit-content(45%) 1fr; gap: 4px 16px; margin: 0; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
summary { cursor: pointer; padding: 4px 0; }
.source { color: var(--soft); font-size: .8rem; margin: 8px 0 0; overflow-wrap: anywhere; }
.source code { font-size: .78rem; }
@media (max-width: 640px) {
  main { padding: 12px 12px 40px; } h1 { font-size: 1.5rem; } section, figure { padding: 14px; }
  dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: 8px; }
}
@media print { body { background: #fff; } section, figure { break-inside: avoid; } }
"""


def css() -> str:
    """The style sheet of a page."""

    def variables(place: int) -> str:
        return " ".join(f"--{name}: {values[place]};" for name, values in COLOURS.items())

    return f":root {{ color-scheme: light dark; {variables(0)} }}\n@media (prefers-color-scheme: dark) {{ :root {{ {variables(1)} }} }}{_RULES}"


def figure(paint: Any, width: float = 4.6, height: float = 3.1) -> str:
    """Run ``paint(figure)`` on an empty matplotlib figure of so many inches; an ``<svg>`` element in the page's colours. The same numbers give
    the same bytes."""
    import io

    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context(PLOT):
        drawing = Figure(figsize=(width, height), layout="constrained")
        paint(drawing)
        FigureCanvasSVG(drawing)
        buffer = io.StringIO()
        drawing.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    for name, (light, _) in COLOURS.items():
        text = text.replace(f": {light}", f": var(--{name})")
    return text
