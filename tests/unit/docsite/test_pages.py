"""What the documentation shows is true: code blocks run, configs fit their schema, commands and options exist, links lead somewhere."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from jsonschema import Draft202012Validator

from modelyard.commands.app import program
from modelyard.commands.schema import Kind, schema_text

ROOT = Path(__file__).parents[3]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
CONTRIBUTING = sorted(ROOT.glob("docs/contributing/*.md"))
BLOCK = re.compile(r"^```(\w+)?(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
KINDS = {
    "data": Kind.data,
    "suite": Kind.suite,
    "exam": Kind.exam,
    "layout": Kind.layout,
    "rubric": Kind.rubric,
    "rules": Kind.rules,
    "modelyard": Kind.pipeline,
    "desk": Kind.desk,
    "batch": Kind.batch,
}
MAKE_VARIABLES = set(re.search(r"^KNOWN +:= (.*)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)[1].split())


class Block(NamedTuple):
    """A fenced block of a page."""

    page: Path
    language: str
    title: str
    text: str

    @property
    def where(self) -> str:
        """Page and first line."""
        return f"{self.page.relative_to(ROOT)}: {self.text.splitlines()[0] if self.text else ''}"


def blocks(*languages: str) -> list[Block]:
    """The blocks of all pages in these languages."""
    found = [Block(page, *match.groups("")) for page in PAGES for match in BLOCK.finditer(page.read_text("utf-8"))]
    return [block for block in found if block.language in languages]


def commands() -> Iterator[tuple[Block, list[str]]]:
    """Every line of a shell block, as words without its comment."""
    for block in blocks("bash", "sh"):
        for line in block.text.replace("\\\n", " ").splitlines():
            for part in line.split(" && "):
                if words := shlex.split(part, comments=True):
                    yield block, words


@pytest.mark.parametrize("page", CONTRIBUTING, ids=lambda page: page.stem)
def test_code_of_a_contributing_page_passes_its_own_tests(page: Path, tmp_path: Path) -> None:
    code = "\n\n".join(match[3] for match in BLOCK.finditer(page.read_text("utf-8")) if match[1] == "python")
    test = tmp_path / f"test_{page.stem}.py"
    test.write_text(code)
    assert pytest.main(["-q", "-p", "no:xdist", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(test)]) == pytest.ExitCode.OK


def test_python_elsewhere_compiles() -> None:
    for block in blocks("python"):
        compile(block.text, block.where, "exec")


def test_configs_fit_the_schema_of_their_kind() -> None:
    validators = {kind: Draft202012Validator(json.loads(schema_text(kind))) for kind in Kind}
    shown = blocks("toml")
    assert len(shown) > 10
    for block in shown:
        name = Path(block.title).stem
        assert name in KINDS, f"{block.where}: title= says which kind of file it is"
        assert [f"{e.json_path}: {e.message}" for e in validators[KINDS[name]].iter_errors(tomllib.loads(block.text))] == [], block.where


def test_commands_and_options_exist() -> None:
    known, seen = program().commands, 0
    for block, words in commands():
        if words[0] == "modelyard":
            name = two if (two := " ".join(words[1:3])) in known else words[1]
            assert name in known, block.where
            options = {flag for param in known[name].params for flag in (*param.opts, *param.secondary_opts)}
            unknown = [word for word in words[2:] if word.startswith("--") and word not in {*options, "--help"}]
            assert unknown == [], block.where
            seen += 1
    assert seen > 20


def test_make_targets_and_overridden_keys_exist() -> None:
    makefiles = [ROOT / "Makefile", *ROOT.glob("src/modelyard/commands/starts/*/Makefile")]
    targets = {name for file in makefiles for name in re.findall(r"^([a-z][\w-]*):", file.read_text(), flags=re.MULTILINE)}
    schema = json.loads(schema_text(Kind.pipeline))
    for block, words in commands():
        overrides = [word.partition("=")[0] for word in words[1:] if re.match(r"[\w.]+=", word)]
        if words[0] == "make":
            alone = words[1 : words.index("|")] if "|" in words else words[1:]
            assert {word for word in alone if "=" not in word and not word.startswith("-")} <= targets, block.where
        if words[0] == "make" or words[:2] == ["modelyard", "run"]:
            for key in set(overrides) - MAKE_VARIABLES:
                assert has_key(schema, key.split(".")), f"{block.where}: {key}"


def has_key(schema: dict[str, Any], keys: list[str]) -> bool:
    """Whether the schema has a dotted key."""
    nodes = [schema]
    for key in keys:
        nodes = [inner for node in nodes for inner in under(schema, node, key)]
    return bool(nodes)


def under(schema: dict[str, Any], node: dict[str, Any], key: str) -> Iterator[dict[str, Any]]:
    """What ``key`` of a node may be."""
    if "$ref" in node:
        yield from under(schema, schema["$defs"][node["$ref"].rpartition("/")[2]], key)
    for one in node.get("anyOf", ()):
        yield from under(schema, one, key)
    if key in node.get("properties", {}):
        yield node["properties"][key]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for link in LINK.findall(BLOCK.sub("", page.read_text("utf-8"))):
        if "://" in link or link.startswith("mailto:"):
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        if GENERATED in target.parents:
            continue
        assert target.exists(), f"{link}: no such file"
        assert not anchor or anchor in headings(target), f"{link}: no such heading"


GENERATED = ROOT / "docs/reference"
"""Pages that the site makes; MkDocs checks links to them."""


def headings(page: Path) -> set[str]:
    """Anchors of a page's headings, as MkDocs and forges make them."""
    titles = re.findall(r"^#+ (.+)$", BLOCK.sub("", page.read_text("utf-8")), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def test_readme_is_short() -> None:
    lines = (ROOT / "README.md").read_text("utf-8").splitlines()
    assert len(lines) <= 100
    assert max(len(line) for line in lines) <= 130
