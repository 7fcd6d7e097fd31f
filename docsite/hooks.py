"""MkDocs hooks: pages made from the code join the pages of docs, and links between the project's root and docs work on the site."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from docsite import command_reference, config_reference, decisions
from docsite.published import published
from flows.pipeline_config import PipelineConfig

ROOT = Path(__file__).parents[1]
ROOT_PAGES = ("CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")
"""Pages that lie beside docs."""
ALGORITHMS = ("dpo.toml", "kto.toml", "grpo.toml", "rloo.toml")
RECIPES = [ROOT / "configs/recipes" / name for name in ("instructgpt.toml", "two-sft-models.toml", *ALGORITHMS)]
"""Recipes that hold published values."""
MODULES = {
    "model": "networks, checkpoints, training, inference, Hugging Face, planning",
    "data": "sources, filters, corpus, tokens, feedback, contamination",
    "scaling": "ladders, power laws, forecasts",
    "pretrain": "pretraining, import, continued pretraining",
    "posttrain": "SFT, reward models, policy optimisation, AI feedback",
    "judges": "rubrics and the judges that answer them",
    "evals": "benchmarks, asking, scoring, metrics",
    "release": "gates, verdict, card, export",
    "stats": "estimates with intervals, paired tests, agreement, calibration",
    "formats": "what one stage writes and another reads",
    "store": "artifacts, storage, claims, lineage",
}
"""Package -> what it holds; each has a page of its docstrings."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    for uri, content in pages():
        files.append(File.generated(config, uri, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Headings for decisions; links to and from the root."""
    uri = page.file.src_uri
    if uri == "decisions.md":
        return decisions.with_headings(markdown)
    if uri in ROOT_PAGES:
        return markdown.replace("](docs/", "](")
    for name in ROOT_PAGES:
        markdown = markdown.replace(f"](../{name}", f"]({name}").replace(f"](../../{name}", f"](../{name}")
    return markdown


def pages() -> Iterator[tuple[str, str]]:
    """(place in the site, Markdown) of every generated page."""
    for name in ROOT_PAGES:
        yield name, (ROOT / name).read_text("utf-8")
    yield "reference/commands.md", command_reference.page()
    schema, values = PipelineConfig.model_json_schema(), published(RECIPES)
    tables = [name for name in schema["properties"] if name != "name"]
    yield "reference/config/index.md", overview(tables, schema)
    for name in tables:
        yield f"reference/config/{name}.md", config_reference.page(name, schema, values)
    for package, what in MODULES.items():
        yield f"reference/api/{package}.md", api(package, what)


def overview(tables: list[str], schema: dict[str, Any]) -> str:
    """The tables of a pipeline's config."""
    rows = [
        f"| [`[{name}]`]({name}.md) | {config_reference.text(config_reference.described(schema['properties'][name], schema))} |"
        for name in tables
    ]
    intro = (
        "# Config\n\nA pipeline's TOML file, table by table. `extends` names a file, or a list, that it is laid over. *Published* is the value\n"
        "that the recipe of the paper in `configs/recipes` holds; *(ours)* marks those that the paper does not give. For completion in an\n"
        "editor: `modelyard schema --out pipeline.schema.json`.\n\n`name` is the name of the pipeline: its MLflow experiment and its\n"
        "registered model.\n\n| table | what it decides |\n| --- | --- |\n"
    )
    return intro + "\n".join(rows) + "\n"


def api(package: str, what: str) -> str:
    """The docstrings of every module of a package."""
    root = ROOT / "src/modelyard" / package
    modules = sorted(path.relative_to(ROOT / "src").with_suffix("") for path in root.rglob("*.py") if path.name != "__init__.py")
    blocks = [f"::: {'.'.join(module.parts)}" for module in modules]
    return f"# modelyard.{package}\n\n{what[0].upper()}{what[1:]}.\n\n" + "\n\n".join(blocks) + "\n"
