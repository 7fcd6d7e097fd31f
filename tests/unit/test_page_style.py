"""Colours that people read and tell apart, figures that follow the reader's colour scheme, tables that sort under the page's own policy."""

import html
import itertools
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from modelyard import page_style, printable

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
PAGE = """<!doctype html><html><head><meta charset="utf-8">{{ nothing_remote }}<style>{{ style }}</style></head><body>
<script>document.title = "a script of somebody else";</script>
<table><thead><tr><th>name</th><th class="n">value</th></tr></thead><tbody>
<tr><td>b</td><td>10.5</td></tr><tr><td>a</td><td>1,200</td></tr><tr><td>c</td><td>-</td></tr><tr><td>d</td><td>-3.1 [-4, 2]</td></tr></tbody></table>
<table class="fixed"><thead><tr><th>step</th></tr></thead><tbody><tr><td>2</td></tr><tr><td>1</td></tr></tbody></table>
{{ sorting }}</body></html>"""
PROBE = """<!doctype html><title>probe</title><iframe id="page" srcdoc="{page}"></iframe><script>
addEventListener("load", () => {{
  const page = document.getElementById("page").contentDocument, [name, value] = page.querySelectorAll("th.sorts");
  const names = () => [...page.querySelectorAll("tbody")].map(body => [...body.rows].map(row => row.cells[0].textContent).join(""));
  const found = {{heads: page.querySelectorAll("th.sorts").length, title: page.title}};
  value.click(); found.up = names()[0]; found.said = value.getAttribute("aria-sort");
  value.dispatchEvent(new KeyboardEvent("keydown", {{key: "Enter"}})); found.down = names()[0];
  name.click(); found.named = names()[0]; found.fixed = names()[1]; found.before = value.getAttribute("aria-sort");
  document.body.innerHTML = "<pre id=found>" + JSON.stringify(found) + "</pre>";
}});
</script>"""


def luminance(colour: str) -> float:
    """Relative luminance of WCAG 2.2."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("place", [0, 1])
def test_text_and_lines_stand_out_on_both_pages(place: int) -> None:
    colours = {name: values[place] for name, values in page_style.COLOURS.items()}
    for text, ground in itertools.product(("ink", "soft", "good", "hold", "bad", "link"), ("card", "bg")):
        assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    for badge in ("good", "hold", "bad", "soft"):
        assert contrast(colours["on-badge"], colours[badge]) >= 4.5, badge
    for line in ("first", "second", "third", "faint"):
        assert contrast(colours[line], colours["card"]) >= 3.0, line


def seen(colour: str, matrix: tuple[tuple[float, ...], ...]) -> tuple[float, ...]:
    """sRGB as somebody with a colour deficiency sees it (Machado et al. 2009, severity 1, on linear light)."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    mixed = [min(1.0, max(0.0, sum(weight * part for weight, part in zip(row, linear, strict=True)))) for row in matrix]
    return tuple(part * 12.92 if part <= 0.0031308 else 1.055 * part ** (1 / 2.4) - 0.055 for part in mixed)


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize(
    "matrix",
    [
        ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
        ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    ],
    ids=["protanopia", "deuteranopia"],
)
def test_series_and_verdicts_are_told_apart_without_red_and_green(place: int, matrix: tuple[tuple[float, ...], ...]) -> None:
    for names in (("first", "second", "third"), ("good", "bad")):
        for one, other in itertools.combinations(names, 2):
            pair = [seen(page_style.COLOURS[name][place], matrix) for name in (one, other)]
            assert sum((a - b) ** 2 for a, b in zip(*pair, strict=True)) ** 0.5 > 0.15, (one, other)


def test_figure_has_the_pages_colours_by_name_and_the_same_bytes_each_time() -> None:
    def paint(drawing: Any) -> None:
        axes = drawing.add_subplot()
        axes.plot([1, 2], [3, 4], label="x")
        axes.plot([1, 2], [4, 3])
        axes.legend()

    svg = page_style.figure(paint)
    assert svg == page_style.figure(paint)
    assert {"--first", "--second", "--ink", "--grid", "--faint"} <= set(re.findall(r"var\((--\w+)\)", svg))
    assert set(re.findall(r": (#[0-9a-f]{6})", svg)) == set(), "a colour that would not follow the colour scheme"


def test_css_names_every_colour_twice_and_pages_use_no_other(tmp_path: Path) -> None:
    css = page_style.css()
    assert all(css.count(f"--{name}: ") == 2 for name in page_style.COLOURS)
    source = Path(page_style.__file__).parent
    templates = [*source.glob("release/card/*template.py"), source / "data/corpus/report_template.py"]
    assert len(templates) == 4
    for file in templates:
        assert re.findall(r"(?<!&)#[0-9a-fA-F]{3,6}\b", file.read_text()) == [], file


def test_tables_sort_by_number_or_text_and_no_other_script_runs(tmp_path: Path) -> None:
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if browser is None:
        pytest.skip("no browser found")
    file = tmp_path / "probe.html"
    file.write_text(PROBE.format(page=html.escape(printable.page(PAGE).render())))
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    done = subprocess.run([browser, *options, "--dump-dom", file.as_uri()], capture_output=True, text=True, timeout=120, check=True)
    found = json.loads(html.unescape(re.search(r"<pre id=.found.>(.*?)</pre>", done.stdout, re.DOTALL).group(1)))  # type: ignore[union-attr]
    assert found == {
        "heads": 2,
        "title": "",
        "up": "dbac",
        "said": "ascending",
        "down": "cabd",
        "named": "abcd",
        "fixed": "21",
        "before": None,
    }
