"""The generated references: every key and command with what the code says of it."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Literal

from pydantic import Field

from docsite import command_reference, config_reference, decisions
from docsite.docstrings import as_markdown
from docsite.published import Published, published
from modelyard.commands.app import program
from modelyard.config import Config

ROOT = Path(__file__).parents[3]


class Rung(Config):
    """One small run."""

    width: int = Field(ge=8)
    """Width of a layer."""


class Stage(Config):
    """What is built."""

    kind: Literal["slow", "fast"] = "slow"
    """How."""
    lr: float
    """Peak learning rate."""
    rungs: list[Rung]
    """The ladder."""
    limits: dict[str, Rung] = Field(default_factory=dict)
    """Name -> bound; ``a`` | b."""
    note: str | None = None
    """Absent: none."""


class Pipeline(Config):
    """All of it."""

    stage: Stage
    """A stage."""


def test_page_of_a_table_has_every_key_with_type_default_published_value_and_meaning() -> None:
    values = {"stage.lr": [Published(9e-6, False)], "stage.kind": [Published("fast", True)]}
    page = config_reference.page("stage", Pipeline.model_json_schema(), values)
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert rows == [
        '| `kind` | `"slow"`, `"fast"` | `"slow"` | `"fast"` (ours) | How. |',
        "| `lr` | number | required | `9e-06` | Peak learning rate. |",
        "| `rungs` | list of table | required |  | The ladder. |",
        "| `limits` | name → table | absent |  | Name -> bound; `a` &#124; b. |",
        "| `note` | string | absent |  | Absent: none. |",
        "| `width` | integer ≥ 8 | required |  | Width of a layer. |",
        "| `width` | integer ≥ 8 | required |  | Width of a layer. |",
    ]
    assert [line for line in page.splitlines() if line.startswith("## ")] == [
        "## `[stage]`",
        "## `[[stage.rungs]]`",
        "## `[stage.limits.NAME]`",
    ]


def test_published_values_are_every_recipes_with_their_kind_and_ours_are_marked(tmp_path: Path) -> None:
    (tmp_path / "one.toml").write_text("[sft]\nlr = 1.0\nepochs = 2  # ours: as on\n[splits] # ours\nshare = 0.1\n")
    (tmp_path / "two.toml").write_text('[sft]\nlr = 2.0\n[policy]\nalgorithm = "dpo"\nbeta = 0.1\n')
    found = published([tmp_path / "one.toml", tmp_path / "two.toml"])
    assert found == {
        "sft.lr": [Published(1.0, False), Published(2.0, False)],
        "sft.epochs": [Published(2, True)],
        "splits.share": [Published(0.1, True)],
        "policy.algorithm": [Published("dpo", False, "dpo")],
        "policy.beta": [Published(0.1, False, "dpo")],
    }


class Kept(Config):
    """One kind."""

    algorithm: Literal["dpo", "ipo"]
    """Which."""
    beta: float
    """Strength."""


class Sampled(Config):
    """The other."""

    algorithm: Literal["ppo"]
    """Which."""
    beta: float
    """Strength."""


class Kinds(Config):
    """A table of two kinds."""

    policy: Kept | Sampled
    """The policy."""


def test_kinds_of_a_table_have_sections_and_published_values_of_their_own() -> None:
    values = {"policy.beta": [Published(0.02, False, "ppo"), Published(0.1, False, "ipo")]}
    page = config_reference.page("policy", Kinds.model_json_schema(), values)
    kept, sampled = page.split("## `[policy] with algorithm = ")[1:]
    assert kept.startswith('"dpo", "ipo"`')
    assert "| `beta` | number | required | `0.1` | Strength. |" in kept
    assert "| `beta` | number | required | `0.02` | Strength. |" in sampled


def test_docstrings_become_markdown_but_for_their_literals() -> None:
    written = "A :class:`~modelyard.x.Thing` of [rows][columns], not ``[a][b]`` nor :mod:`json`."
    assert as_markdown(written) == r"A `modelyard.x.Thing` of [rows]\[columns], not ``[a][b]`` nor `json`."


def test_commands_page_has_every_command_and_option() -> None:
    page = command_reference.page()
    for name, command in program().commands.items():
        assert f"\n### {name}\n" in page
        assert all(f"`{flag}`" in page for param in command.params if getattr(param, "help", None) for flag in param.opts)


def test_every_decision_gets_a_heading_and_keeps_its_words() -> None:
    written = (ROOT / "docs/decisions.md").read_text("utf-8")
    shown = decisions.with_headings(written)
    titles = decisions.ENTRY.findall(written)
    assert len(titles) > 100
    assert shown.count("\n## ") == len(titles)
    for _, title in titles:
        assert f"\n## {' '.join(title.split())}\n" in shown
    lost, added = (Counter(re.findall(r"[^\s*.·#]+", page)) for page in (written, shown))
    assert lost - added == {"last": 1}, "the introduction says newest first"
    assert added - lost == {"first": 1}
