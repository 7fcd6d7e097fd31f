"""The card opened in a real browser: no error on the console, every figure drawn, readable on a phone."""

import html
import json
import re
import shutil
import subprocess
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from modelyard.formats.images import data_url, of_pixels
from modelyard.formats.results import Reply, Shown, write_shown
from modelyard.progress import silent
from modelyard.release.decision import run
from modelyard.release.limits import Override
from tests.unit.release import evidence

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
FIGURES = 7
"""Loss, forecast, reward against KL, calibration, and what changed against production, base and SFT model."""
PAGE = """<!doctype html><title>probe</title><iframe id="page" width="{width}" height="800" srcdoc="{card}"></iframe><script>
addEventListener("load", () => {{
  const page = document.getElementById("page").contentDocument, wide = page.documentElement.clientWidth;
  const boxes = [...page.querySelectorAll("figure svg")].map(svg => svg.getBoundingClientRect());
  const outside = [...page.querySelectorAll("main *")].filter(e => !e.closest(".scroll, pre, svg") && e.getBoundingClientRect().right > wide + 1);
  const smallest = Math.min(...[...page.querySelectorAll("p, td, th, dd, dt, figcaption")].map(e => parseFloat(getComputedStyle(e).fontSize)));
  document.body.innerHTML = "<pre id=found>" + JSON.stringify({{wide, scroll: page.documentElement.scrollWidth, smallest,
    figures: boxes.filter(b => b.width > 200 && b.height > 100 && b.right <= wide + 1).length,
    outside: outside.map(e => e.tagName + " " + e.textContent.slice(0, 40))}}) + "</pre>";
}});
</script>"""


@pytest.fixture(scope="module")
def browser() -> str:
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"no browser found (looked for {', '.join(BROWSERS)})")
    return found


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A card with everything on it: comparisons, tax, pictures, an override."""
    root = tmp_path_factory.mktemp("card")
    inputs = evidence.write_all(root)
    evidence.write_results(inputs["baseline"], {"base": "base", "sft": "sft", "policy": "production"}, 70)
    pixels = np.full((64, 64, 3), (200, 30, 30), np.uint8)
    replies = {"policy": Reply(said="a reply " * 12, score=1.0), "no_vision": Reply(said="aWordThatIsLongerThanAnyColumn" * 2, score=0.0)}
    item = Shown(
        benchmark="easy_vqa",
        item="0",
        images=(data_url(of_pixels(pixels).png),) * 3,
        question="what is it?",
        choices=("one", "two"),
        target="two",
        replies=replies,
    )
    write_shown(inputs["results"], [item] * 5)
    override = Override(gate="regression", name="Ada Lovelace", reason="a very long reason " * 8, expires=date(2026, 12, 31))
    run(evidence.CONFIG.model_copy(update={"overrides": (override,)}), inputs, root, silent, evidence.satisfied, evidence.agreeing, "line")
    return (root / "card.html").read_text()


@pytest.mark.parametrize("width", [390, 1200])
def test_card_in_a_browser_is_whole_and_fits_its_window(browser: str, card: str, width: int, tmp_path: Path) -> None:
    page = tmp_path / "probe.html"
    page.write_text(PAGE.format(width=width, card=html.escape(card)))

    options = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", f"--user-data-dir={tmp_path / 'profile'}"]
    done = subprocess.run([browser, *options, "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=120, check=True)

    assert "CONSOLE" not in done.stderr
    found = re.search(r"<pre id=.found.>(.*?)</pre>", done.stdout, re.DOTALL)
    assert found, done.stdout[-500:]
    measured = json.loads(html.unescape(found.group(1)))
    assert measured["figures"] == FIGURES
    assert measured["scroll"] <= measured["wide"]
    assert measured["outside"] == []
    assert measured["smallest"] >= 12


def test_card_override_stands_with_its_gate(card: str) -> None:
    assert "<b>Overridden by Ada Lovelace</b>, until 2026-12-31: a very long reason" in card
    assert re.search(r"last_word</td>.*worse</td>", card, re.DOTALL)


def test_card_says_what_judges_toxicity_and_how_good_that_is(card: str) -> None:
    assert "824 labelled texts (MIT), average precision 0.800 +- 0.050 [0.700, 0.900] n=400 on held-out labels" in card


def test_card_names_the_items_that_were_lost_against_production(card: str) -> None:
    listed = re.findall(r"<b>Lost</b> ([^<]+?)\.", card)
    assert any(len(items.split(", ")) > 5 for items in listed)
