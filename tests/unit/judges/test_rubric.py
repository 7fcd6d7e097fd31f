"""Rubric files: what they say is checked, and their id is what they say."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from modelyard.config import Config
from modelyard.judges.rubric import NamedRubric, Rubric, read_rubric

SHIPPED = sorted((Path(__file__).parents[3] / "configs" / "rubrics").glob("*.toml"))
PLAIN: dict[str, Any] = {
    "name": "plain",
    "version": 1,
    "question": "What is it?",
    "shows_prompt": True,
    "options": [{"name": "good", "text": "Good"}, {"name": "bad", "text": "Bad"}],
    "values": {"refuse": {"good": 1.0, "bad": -1.0}},
    "examples": [{"prompt": "p", "stance": "refuse", "responses": {"good": "yes", "bad": "no"}}],
}


class Holder(Config):
    rubric: NamedRubric


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_rubric_is_named_like_its_file_and_labelled_in_every_class(path: Path) -> None:
    rubric = Rubric.model_validate(read_rubric(path))

    assert rubric.name == path.stem
    for stance in rubric.values:
        worth = rubric.worth(stance)
        labels = {one.label for one in rubric.labelled() if one.stance == stance}
        assert worth is not None
        assert {max(worth), min(worth)} <= {worth[label] for label in labels}, "best and worst class need examples"


def test_refusal_style_has_the_reports_four_classes_and_both_stances() -> None:
    rubric = Rubric.model_validate(read_rubric(next(path for path in SHIPPED if path.stem == "refusal_style")))

    assert [option.name for option in rubric.options] == ["refusal", "bad_refusal", "disallowed", "answer"]
    refuse, answer = rubric.worth("refuse"), rubric.worth("answer")
    assert refuse is not None
    assert answer is not None
    assert max(refuse) == refuse[0] > refuse[1] > refuse[3] > refuse[2]
    assert max(answer) == answer[3] > max(answer[:3])


def test_rubric_in_a_config_holds_the_files_content(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    text = 'name = "r"\nversion = 2\nquestion = "q"\nshows_prompt = false\n'
    options = "".join(f'[[options]]\nname = "{name}"\ntext = "{name}"\n' for name in "ab")
    path.write_text(f"{text}{options}[values.refuse]\na = 1\nb = 0\n")

    held = Holder.model_validate({"rubric": str(path)})

    assert held.rubric == Rubric.model_validate(tomllib.loads(path.read_text()))
    assert held.rubric.id.startswith("r-v2-")
    path.write_text(path.read_text().replace('question = "q"', 'question = "another"'))
    assert Holder.model_validate({"rubric": str(path)}).rubric.id != held.rubric.id
    assert Holder.model_validate_json(held.model_dump_json()) == held


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"values": {"refuse": {"good": 1.0}}}, "values.refuse: needs one value for each of good, bad, got good"),
        ({"values": {"refuse": {"good": 1.0, "bad": -2.0}}}, "values.refuse.bad: must lie between -1 and 1, got -2"),
        ({"values": {"maybe": {"good": 1.0, "bad": 0.0}}}, "values.maybe"),
        ({"options": [{"name": "good", "text": "A"}] * 2}, "names must differ"),
        ({"options": [{"name": "good", "text": "A"}]}, "at least 2 items"),
        (
            {"examples": [{"prompt": "p", "stance": "refuse", "responses": {"ugly": "x"}}]},
            "examples.0.responses: 'ugly' is none of good, bad",
        ),
        ({"version": 0}, "greater than or equal to 1"),
        ({"lettering": 1}, "Extra inputs"),
    ],
)
def test_rubric_that_cannot_be_used_is_refused_by_key(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Rubric.model_validate({**PLAIN, **changes})


def test_rubric_file_that_is_missing_or_no_toml_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("name = ")

    with pytest.raises(ValidationError, match=r"nowhere.toml: no such file"):
        Holder.model_validate({"rubric": str(tmp_path / "nowhere.toml")})
    with pytest.raises(ValidationError, match=r"bad.toml: not valid TOML"):
        Holder.model_validate({"rubric": str(tmp_path / "bad.toml")})
