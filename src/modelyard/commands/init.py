"""``modelyard init``: a project of one's own, in one of three starts.

What it writes are the files of ``starts/{start}`` beside this module, with the project's name, the model and the hashes of
the example data filled in, and the JSON schema of the config for editors. A config extends the pipelines and recipes that
come with Modelyard (``configs/...``) and holds what its user decides.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from modelyard.commands.command import say
from modelyard.commands.convert import require_new
from modelyard.commands.schema import Kind, schema_text

Start = StrEnum("Start", ["scratch", "model", "evals"])
STARTS = Path(__file__).with_name("starts")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
NOT_YET = "PATH"
"""Stands for a model that is not named yet."""
SCHEMAS = {Start.scratch: Kind.pipeline, Start.model: Kind.pipeline, Start.evals: Kind.suite}
NEXT = {
    Start.scratch: "make check, then make run",
    Start.model: "make check says what is missing, then make run",
    Start.evals: "make measure MODEL=... NEW=old",
}
DIRECTORY = typer.Argument(help="Directory to write; must not exist, or be empty.")
START = typer.Option(help="From raw text, from somebody's model, or evaluation and gates only.")
MODEL = typer.Option(help="Start model: Hugging Face directory or GGUF file; it can be named in the config later.")
PROJECT = typer.Option("--name", help="Of the pipeline and its registered model; without it, the directory's.")


def init(
    directory: Annotated[Path, DIRECTORY],
    start: Annotated[Start, START] = Start.scratch,
    model: Annotated[Path | None, MODEL] = None,
    name: Annotated[str | None, PROJECT] = None,
) -> None:
    """Write a project: a config with comments, example data, a benchmark, a Makefile."""
    called = name or directory.resolve().name
    if not NAME.fullmatch(called):
        raise ValueError(f"--name {called!r}: expected letters, digits, '.', '_' and '-', the first a letter or digit")
    if model is not None and start is not Start.model:
        raise ValueError(f"--model: has no meaning beside --start {start}")
    require_new(directory)
    filled = {"NAME": called, "MODELYARD": program(), **(_declared(model) if start is Start.model else {})}
    for source in sorted(path for path in (STARTS / start).rglob("*") if path.is_file()):
        write(source, directory / source.relative_to(STARTS / start), filled)
    write(STARTS / "gitignore", directory / ".gitignore", {})
    schema = SCHEMAS[start]
    (directory / f"{schema}.schema.json").write_text(schema_text(schema), "utf-8")
    say(f"{directory}: a project from {start}; next: cd {directory}, {NEXT[start]}")


def program() -> str:
    """How the project's Makefile calls this program: by its name where the shell finds it, else by its path."""
    own = Path(sys.executable).with_name("modelyard")
    return str(own) if shutil.which("modelyard") is None and own.is_file() else "modelyard"


def write(source: Path, target: Path, filled: Mapping[str, str]) -> None:
    """Copy a file with ``@KEY@`` replaced."""
    text = source.read_text("utf-8")
    for key, value in filled.items():
        text = text.replace(f"@{key}@", value)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, "utf-8")


def _declared(model: Path | None) -> dict[str, str]:
    """The model with the hash of its weights, and the hashes of the example data. Raises ValueError where the model is not there."""
    from modelyard.store.file_hash import sha256_file, sha256_weights

    data = STARTS / Start.model / "data"
    hashes = {key: sha256_file(data / f"{key.lower()}.jsonl") for key in ("DEMONSTRATIONS", "COMPARISONS")}
    if model is None:
        return {**hashes, "MODEL": NOT_YET, "SHA256": "0" * 64}
    try:
        return {**hashes, "MODEL": str(model.absolute()), "SHA256": sha256_weights(model)}
    except ValueError as error:
        raise ValueError(f"--model {error}") from None
