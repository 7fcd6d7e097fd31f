"""Text of others is shown and does nothing: in a terminal, on a page, in Markdown."""

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup
from rich.console import Console

from modelyard import printable as printing
from modelyard.adapters import terminal
from modelyard.commands.tables import table
from modelyard.complaint import complaint
from modelyard.printable import markdown, printable

HOSTILE = "\x1b]0;title\x07\x1b[2J\x9b31m\u202egpj.exe\u200b\u2028\ud83d\r[red]x[/red][link=file:///x]y[/link]"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred", "\\u001b[31mred"),
        ("a\u202eb\u2066c", "a\\u202eb\\u2066c"),
        ("\x9b1m\x7f\x00\r", "\\u009b1m\\u007f\\u0000\\u000d"),
        ("half \ud83d", "half \\ud83d"),
        ("tag \U000e0041", "tag \\U000e0041"),
        ("zero\u200bwidth\ufeff", "zero\\u200bwidth\\ufeff"),
        ("line\nand\ttab", "line\nand\ttab"),
        ("Grüße, 東京, नमस्ते, שלום", "Grüße, 東京, नमस्ते, שלום"),
        ("\u0645\u06cc\u200c\u062e\u0648 👩\u200d🚀", "\u0645\u06cc\u200c\u062e\u0648 👩\u200d🚀"),
        ("a\u200db", "a\\u200db"),
        ("\u200d", "\\u200d"),
    ],
)
def test_printable_spells_what_is_not_shown_and_leaves_every_script(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert printable(shown) == shown


@given(st.text())
def test_printable_text_holds_nothing_that_a_terminal_obeys(text: str) -> None:
    printable(text).encode("utf-8")
    assert not re.search(
        "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]", printable(text)
    )


MARKS = [
    "![x](https://a.example/p.png)",
    "[click](javascript:alert(1))",
    "<img src=x onerror=alert(1)>",
    "https://a.example and www.a.example",
    "# heading",
    "- item",
    "1. first",
    "| a | b |",
    "**bold** `code` ~~gone~~ &amp;",
    "two\n\n# lines",
    "[x]: https://a.example",
]


@pytest.mark.parametrize("text", MARKS)
def test_markdown_of_others_is_shown_as_it_is(text: str) -> None:
    """By an implementation of CommonMark and GitHub's tables, in a paragraph, a list and a cell."""
    from markdown_it import MarkdownIt

    rules = MarkdownIt("commonmark").enable("table").enable("strikethrough")
    flat = " ".join(text.split())
    for before, after in (("", ""), ("- ", ""), ("| a |\n| --- |\n| ", " |")):
        tokens = rules.parse(before + markdown(text) + after)
        plain = {"paragraph", "list", "bullet_list", "table", "thead", "tbody", "tr", "td", "th", "inline", "text", "text_special"}
        inline = [token for block in tokens for token in block.children or []]
        assert {token.type.removesuffix("_open").removesuffix("_close") for token in [*tokens, *inline]} <= plain | {"list_item"}
        said = "".join(token.content for token in inline)
        assert flat in (said, said.removeprefix("a"))
    assert not re.search(r"https?://|www\.", markdown(text)), "GitHub's rules make links of bare addresses"


def test_page_escapes_spells_and_lets_nothing_be_fetched() -> None:
    made = printing.page("<head>{{ nothing_remote }}</head>{{ text }}|{{ ours }}|{{ 3 }}|{{ text | tojson }}")
    shown = made.render(text="<b>\u202e\x1b'\"</b>", ours=Markup("<i>x</i>"))
    assert shown.startswith('<head><meta http-equiv="Content-Security-Policy" content="default-src \'none\';')
    assert "&lt;b&gt;\\u202e\\u001b&#39;&#34;&lt;/b&gt;|<i>x</i>|3|" in shown
    assert "\x1b" not in shown


def test_terminal_shows_text_of_others_without_obeying_it() -> None:
    out = io.StringIO()
    console = Console(file=out, width=200, force_terminal=True, color_system="truecolor")
    terminal.stage_done(terminal.StageLine("sft", 1.0, False, HOSTILE), console)
    sample = terminal.Sample(HOSTILE, {"base": HOSTILE, HOSTILE: "x"})
    gate = terminal.GateLine(HOSTILE, "BLOCK", HOSTILE)
    terminal.show_summary(
        terminal.Summary([terminal.StageLine("a", 1, True, HOSTILE)], [sample], [gate], HOSTILE, HOSTILE, HOSTILE), console
    )
    shown = re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue())
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\u200b]", shown), "but for rich's own colours"
    assert "[red]x[/red]" in shown
    assert "\\u202egpj.exe" in shown


def test_errors_and_tables_of_commands_are_printable() -> None:
    assert complaint(ValueError("\x1b[31m no \n such \u202e file")) == "\\u001b[31m no such \\u202e file"
    assert "\x1b" not in table(["a"], [["\x1b[31m"]])
