"""Edits of a Hugging Face directory beside its weights: those after which it says other things, and those after which it does not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

Edit = Callable[[Path], None]


def _changed(path: Path, **values: object) -> None:
    said = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps({**said, **values}))


def template(directory: Path) -> None:
    """Another chat template."""
    _changed(directory / "tokenizer_config.json", chat_template="{% for message in messages %}<{{ message['content'] }}>{% endfor %}")


def base_of_positions(directory: Path) -> None:
    """Another rotary base."""
    config = json.loads((directory / "config.json").read_text())
    _changed(directory / "config.json", rope_parameters={**config["rope_parameters"], "rope_theta": 5e5})


def ends(directory: Path) -> None:
    """One more id at which it stops."""
    _changed(directory / "generation_config.json", eos_token_id=[3, 7])


def layout_of_files(directory: Path) -> None:
    """The same values, written otherwise."""
    for name in ("config.json", "tokenizer_config.json", "generation_config.json"):
        said = json.loads((directory / name).read_text())
        (directory / name).write_text(json.dumps(said, indent=7, sort_keys=True))


def temperature(directory: Path) -> None:
    """How others are to draw from it."""
    _changed(directory / "generation_config.json", temperature=0.3, do_sample=True)


def words_about_it(directory: Path) -> None:
    """A card."""
    (directory / "README.md").write_text("It is a good model.")


OTHERWISE: tuple[Edit, ...] = (template, base_of_positions, ends)
ALIKE: tuple[Edit, ...] = (layout_of_files, temperature, words_about_it)
