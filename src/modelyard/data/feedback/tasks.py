"""Questions with answers that reasoning-gym makes and checks (arXiv:2505.24760; the extra ``tasks``): what a policy learns by rewards that a rule
verifies (:mod:`modelyard.posttrain.policy.verified`), shown in demonstrations as far as is wanted.

A question is a prompt record with its answer; those held out are the benchmark ``answers``. Everything follows from the table and the library's
version, which it names. Left out: tasks of which only the library's own scorer can tell a right answer (``countdown`` has many). Several of those
scorers evaluate what they are given as Python, and that would be a policy's.
"""

from __future__ import annotations

import string
from collections.abc import Iterator, Mapping
from importlib import metadata
from typing import Any, NamedTuple

from pydantic import Field, model_validator

from modelyard.config import Config
from modelyard.data.corpus.document import DataError

LIBRARY = "reasoning-gym"
OWN = ("question", "answer")
ONE_ANSWER = frozenset({
    "ab", "chain_sum", "circuit_logic", "coin_flip", "color_cube_rotation", "decimal_chain_sum", "dice", "emoji_mystery", "family_relationships",
    "figlet_font", "game_of_life", "gsm_symbolic", "needle_haystack", "path_star", "products", "rectangle_count", "self_reference",
    "sentence_reordering", "spell_backward", "spiral_matrix", "string_insertion", "tsumego", "zebra_puzzles",
})  # fmt: skip
"""Tasks whose scorer looks for the one stated answer, beside all that have the library's plain scorer: at most it is spelled in several ways, or
earns a part where it is nearly said."""


class TaskSet(Config):
    """One kind of question."""

    name: str = Field(pattern=r"^[A-Za-z0-9_.-]+$")
    """Source of the demonstrations and category of the prompts."""
    task: str
    """Name of the data set in reasoning-gym, such as ``chain_sum``."""
    version: str
    """Of reasoning-gym: another version makes other questions."""
    options: dict[str, bool | int | float | str] = Field(default_factory=dict)
    """What its data set is told beside seed and size, such as ``max_digits``."""
    seed: int
    """Of the questions."""
    size: int = Field(ge=1)
    """Questions that are made; one that was made before is left out."""
    prompt: str = "{question}"
    """``str.format`` template over ``question`` and what the library says of an item (``expression``)."""
    answer: str = "{answer}"
    """The same over these and the library's ``answer``: what completions are held against, such as ``#### {answer}`` or
    ``assert total() == {answer}``."""
    completion: str | None = None
    """What a demonstration shows, by such a template; absent: the answer. Of assert statements it is the program that passes them."""
    demonstrated: float = Field(ge=0, le=1)
    """Share of the questions whose answer is shown in a demonstration."""
    chat: bool = False
    """Whether the prompt is a user's turn instead of text to be continued."""

    @model_validator(mode="after")
    def _template(self) -> TaskSet:
        if not (named := _fields("prompt", self.prompt)) or "answer" in named:
            raise ValueError(f"prompt {self.prompt!r}: needs fields by name, such as {{question}}, and not the answer")
        for key in ("answer", "completion"):
            if (template := getattr(self, key)) is not None and not _fields(key, template):
                raise ValueError(f"{key} {template!r}: needs fields by name, such as {{answer}}")
        return self


def _fields(key: str, template: str) -> set[str]:
    """What a template names; nothing where it has a field without a name. Raises ValueError naming ``key`` where it is no template."""
    try:
        named = {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}
    except ValueError as error:
        raise ValueError(f"{key} {template!r}: {error}") from None
    return named if all(name.isidentifier() for name in named) else set()


class Question(NamedTuple):
    """What is asked and the right answer."""

    number: int
    """Its place in the library's data set, from 0."""
    prompt: str
    answer: str
    shown: str
    """What a demonstration of it says."""


def require_library(task: TaskSet) -> None:
    """Raise DataError unless the library is installed in the version that the table names."""
    where = f"feedback.tasks: {task.name}"
    try:
        installed = metadata.version(LIBRARY)
    except metadata.PackageNotFoundError:
        raise DataError(f"{where}: needs {LIBRARY} {task.version}: pip install 'modelyard[tasks]'") from None
    if installed != task.version:
        raise DataError(f"{where}: version: {LIBRARY} {task.version} is asked for, {installed} is installed")


def questions(task: TaskSet) -> Iterator[Question]:
    """The questions in order, each prompt once.

    Raises:
        DataError: the library is missing or of another version, or does not make what the table asks for; the line names the key.
    """
    require_library(task)
    where = f"feedback.tasks: {task.name}"
    seen: set[str] = set()
    for number, item in enumerate(_made(task, where)):
        fields = {**item["metadata"], "question": item["question"]}
        prompt = _filled("prompt", task.prompt, fields, task, where)
        stated = str(item["answer"]).strip()
        if not stated:
            raise DataError(f"{where}: task: {task.task} states no answer for item {number}")
        if prompt not in seen:
            seen.add(prompt)
            fields["answer"] = stated
            answer = _filled("answer", task.answer, fields, task, where)
            shown = answer if task.completion is None else _filled("completion", task.completion, fields, task, where)
            yield Question(number, prompt, answer, shown)


def _filled(key: str, template: str, fields: Mapping[str, Any], task: TaskSet, where: str) -> str:
    try:
        return template.format(**fields)
    except KeyError as error:
        raise DataError(f"{where}: {key}: {task.task} says no {error} of an item; it says {', '.join(sorted(fields))}") from None


def _made(task: TaskSet, where: str) -> list[dict[str, Any]]:
    import reasoning_gym

    try:
        made = reasoning_gym.create_dataset(task.task, seed=task.seed, size=task.size, **task.options)
        _require_one_answer(type(made), task.task)
        return list(made)
    except (ValueError, TypeError, AssertionError) as error:
        said = str(error).partition("__init__() ")[2] or str(error)
        raise DataError(f"{where}: {LIBRARY}: {said}") from None


def _require_one_answer(kind: type[Any], task: str) -> None:
    from reasoning_gym.dataset import ProceduralDataset

    if kind.score_answer is not ProceduralDataset.score_answer and task not in ONE_ANSWER:
        raise ValueError(
            f"a right answer of {task} need not be the one that it states, which is all that a reward compares with; there are tasks with one "
            "right answer, such as chain_sum, gcd or number_sequence"
        )
