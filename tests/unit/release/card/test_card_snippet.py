"""The card's "load it" snippet is Python with the name and the prompt in it, whatever they hold."""

import ast
import html
import re

import pytest

from modelyard import printable
from modelyard.release.card.card_template import TEMPLATE


@pytest.mark.parametrize(
    "prompt",
    [
        'It is "fine"',
        "a\nb\\",
        "</pre><script>alert(1)</script>",
        '"); import os; os.system("true"); ("',
        "it's <|endoftext|> \u202e\x1b[31m",
    ],
)
def test_snippet_is_python_that_holds_the_prompt_as_text(prompt: str) -> None:
    page = printable.page(TEMPLATE[TEMPLATE.index("<section><h2>Load it") : TEMPLATE.index("</main>")])

    shown = page.render(name="line", samples=[{"prompt": prompt}], decision={"verdict": "PROMOTE"})

    assert "<script" not in shown
    assert not re.search("[\u202e\x1b]", shown)
    for program in re.findall(r"<pre>(.*?)</pre>", shown, re.DOTALL):
        nodes = list(ast.walk(ast.parse(html.unescape(program))))
        assert "models:/line@production" in [node.value for node in nodes if isinstance(node, ast.Constant)]
        assert "os" not in [node.id for node in nodes if isinstance(node, ast.Name)]
    assert f"<|endoftext|>{prompt}" in [node.value for node in nodes if isinstance(node, ast.Constant)]


def test_snippet_of_a_model_that_sees_asks_about_a_picture() -> None:
    page = printable.page(TEMPLATE[TEMPLATE.index("<section><h2>Load it") : TEMPLATE.index("</main>")])
    shown = page.render(name="line", samples=[], seen={"easy vqa": [{"question": '"); import os; ("'}]}, decision={"verdict": "PROMOTE"})
    *_, program = re.findall(r"<pre>(.*?)</pre>", shown, re.DOTALL)
    nodes = list(ast.walk(ast.parse(html.unescape(program))))
    assert '\n"); import os; ("' in [node.value for node in nodes if isinstance(node, ast.Constant)]
    assert "AutoProcessor" in [node.id for node in nodes if isinstance(node, ast.Name)]


@pytest.mark.parametrize(("verdict", "alias"), [("PROMOTE", "production"), ("HOLD", "candidate"), ("BLOCK", None)])
def test_snippet_names_the_alias_that_the_verdict_gives(verdict: str, alias: str | None) -> None:
    page = printable.page(TEMPLATE[TEMPLATE.index("<section><h2>Load it") : TEMPLATE.index("</main>")])
    shown = page.render(name="line", samples=[], decision={"verdict": verdict})
    assert set(re.findall(r"models:/line@(\w+)", shown)) == ({alias} if alias else set())
