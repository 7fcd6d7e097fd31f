"""A rubric: a multiple-choice question about a response, what each answer is worth, and responses that people have labelled with it.

Follows the rule-based reward models of the GPT-4 Technical Report (arXiv:2303.08774, system card, section 3.1): a classifier is given the
prompt, the response and a human-written rubric, and sorts the response into one of a few classes. One TOML file is one rubric; its id is its
name, its version and a hash of all it says, so a result always names the very text it was made by. A config names the file and holds the
content. Left out: rubrics with several answers at once; two rubrics do that.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BeforeValidator, Field, ValidationInfo, model_validator

from modelyard.config import BESIDE, INPUTS, Config, digest
from modelyard.store.inputs import find_input
from modelyard.whole_file import read

Stance = Literal["refuse", "answer"]
"""What a prompt asks of the model: known to ask for what is not given, or known to be safe."""


class Option(Config):
    """One class of responses."""

    name: str = Field(pattern=r"^[a-z][a-z_]*$")
    """What tables call it."""
    text: str = Field(min_length=1)
    """How the judge reads it."""


class Example(Config):
    """A prompt with responses that a person has put into classes."""

    prompt: str
    """What was asked."""
    stance: Stance
    """What the prompt asks for."""
    responses: dict[str, str]
    """Class -> a response of that class."""


class Labelled(NamedTuple):
    """One labelled response."""

    prompt: str
    stance: Stance
    response: str
    label: int
    """Its option's place."""


class Rubric(Config):
    """One multiple-choice question about a response."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    """What tables call it."""
    version: int = Field(ge=1)
    """Raised with every change of the text."""
    question: str
    """What the judge is asked."""
    shows_prompt: bool
    """Whether the judge reads the prompt too, or the response alone."""
    options: tuple[Option, ...] = Field(min_length=2, max_length=10)
    """The classes, shown as A, B, C..."""
    values: dict[Stance, dict[str, float]] = Field(min_length=1)
    """Stance of the prompt -> class -> what a response of that class is worth, from -1 to 1. No stance, no reward there."""
    examples: tuple[Example, ...] = ()
    """Responses labelled by people: what the judge's agreement is measured on and weights are fitted to."""

    @model_validator(mode="after")
    def _fits(self) -> Rubric:
        names = [option.name for option in self.options]
        if len(set(names)) != len(names):
            raise ValueError(f"options: names must differ, got {', '.join(names)}")
        for stance, values in self.values.items():
            if set(values) != set(names):
                raise ValueError(f"values.{stance}: needs one value for each of {', '.join(names)}, got {', '.join(values)}")
            if worst := [name for name, value in values.items() if not -1 <= value <= 1]:
                raise ValueError(f"values.{stance}.{worst[0]}: must lie between -1 and 1, got {values[worst[0]]:g}")
        for number, example in enumerate(self.examples):
            if stray := set(example.responses) - set(names):
                raise ValueError(f"examples.{number}.responses: {sorted(stray)[0]!r} is none of {', '.join(names)}")
        return self

    @property
    def id(self) -> str:
        """Name, version and the first 8 hex digits of a hash of everything else."""
        return f"{self.name}-v{self.version}-{digest(self)[:8]}"

    def worth(self, stance: Stance) -> list[float] | None:
        """Value of each option for prompts of ``stance``; None where the rubric has nothing to say of them."""
        values = self.values.get(stance)
        return [values[option.name] for option in self.options] if values else None

    def shown(self, shots: int) -> list[Labelled]:
        """Responses to the first ``shots`` prompts of each stance, in an order that says nothing: what a judge is shown with their classes."""
        return sorted(self._responses(self._first(shots)), key=lambda one: sha256(one.response.encode()).digest())

    def labelled(self, shots: int = 0) -> list[Labelled]:
        """Every other labelled response: what a judge that was shown ``shots`` is measured on."""
        shown = self._first(shots)
        return self._responses([example for example in self.examples if example not in shown])

    def _first(self, shots: int) -> list[Example]:
        return [example for stance in self.values for example in [one for one in self.examples if one.stance == stance][:shots]]

    def _responses(self, examples: Sequence[Example]) -> list[Labelled]:
        places = {option.name: place for place, option in enumerate(self.options)}
        return [
            Labelled(example.prompt, example.stance, response, places[name])
            for example in examples
            for name, response in example.responses.items()
        ]


def read_rubric(path: Path) -> dict[str, Any]:
    """The tables of a rubric's file. Raises ValueError naming the file."""
    try:
        return tomllib.loads(read(path).decode("utf-8"))
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not valid TOML: {error}") from None


def _content(value: object, info: ValidationInfo) -> object:
    if not isinstance(value, str):
        return value
    given = info.context or {}
    return read_rubric(find_input(value, (*given.get(BESIDE, ()), given.get(INPUTS, "")), "rubric"))


NamedRubric = Annotated[Rubric, BeforeValidator(_content, json_schema_input_type=Rubric | str)]
"""In a config: the path of a rubric's file, beside the config or under ``execution.inputs``; the config then holds what the file says."""
