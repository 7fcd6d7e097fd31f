"""An imported model stops where it was released to stop: at every id that ``transformers.generate`` stops at."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from modelyard.execution import ExecutionConfig
from modelyard.formats.feedback import Message
from modelyard.model.asked import Decoding
from modelyard.model.encoder import Encoder
from modelyard.model.hf.conversion import export_hf, import_hf
from modelyard.model.hf.tokenizer import HubEncoder
from modelyard.model.subject import Subject
from tests.unit import small_model
from tests.worlds.imported import TEMPLATE

SAID = "Which of these is red?"
LONGEST = 24


@pytest.fixture
def released(tmp_path: Path) -> Path:
    """A model with a chat template, whose answer meets no end of the template's by itself."""
    small_model.write(tmp_path, seed=6)
    edit(tmp_path / "hf" / "tokenizer_config.json", chat_template=TEMPLATE)
    return tmp_path / "hf"


def edit(file: Path, **changes: Any) -> None:
    settings = {**json.loads(file.read_text()), **changes}
    file.write_text(json.dumps({key: value for key, value in settings.items() if value is not None}))


def theirs(directory: Path) -> tuple[list[int], str]:
    """transformers' greedy answer, as its documentation asks for one: ids and text."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(directory), AutoTokenizer.from_pretrained(directory)
    asked = tokenizer.apply_chat_template(
        [{"role": "user", "content": SAID}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    new = model.generate(**asked, max_new_tokens=LONGEST, do_sample=False)[0, asked["input_ids"].shape[1] :]
    return new.tolist(), tokenizer.decode(new, skip_special_tokens=True)


def ours(directory: Path) -> tuple[list[int], str]:
    subject = Subject.open("it", directory, ExecutionConfig(threads=1), 2)
    [answer] = subject.reply([(Message(role="user", content=SAID),)], Decoding(max_new_tokens=LONGEST, temperature=0.0, seed=0, samples=1))
    return list(answer.tokens), answer.text


@pytest.mark.parametrize("file", ["generation_config.json", "config.json"])
def test_imported_model_answers_as_transformers_generates_with_an_end_that_only_its_config_names(
    released: Path, tmp_path: Path, file: str
) -> None:
    whole = theirs(released)[0]
    assert len(whole) == LONGEST
    at = next(i for i, token in enumerate(whole) if i > 4 and token not in whole[:i])
    if file == "config.json":
        (released / "generation_config.json").unlink()
    edit(released / file, eos_token_id=[0, whole[at]])
    expected = theirs(released)
    assert expected[0] == whole[: at + 1], "transformers stops there"
    import_hf(released, tmp_path / "imported")
    assert ours(tmp_path / "imported") == expected
    assert ours(released) == expected, "and so does the directory where it lies"
    assert whole[at] in Encoder(tmp_path / "imported").text_ends


def test_ends_travel_with_the_tokenizer_and_are_those_of_the_export(released: Path, tmp_path: Path) -> None:
    edit(released / "generation_config.json", eos_token_id=[0, 77, 88])
    import_hf(released, tmp_path / "imported")
    encoder = Encoder(tmp_path / "imported")
    assert set(encoder.ends) == {0, 77, 88, encoder.turn_end}
    export_hf(tmp_path / "imported", tmp_path / "export", end_id=encoder.ends)
    assert json.loads((tmp_path / "export" / "generation_config.json").read_text())["eos_token_id"] == encoder.ends
    edit(tmp_path / "export" / "generation_config.json", eos_token_id=5)
    assert set(HubEncoder(tmp_path / "export").ends) == {0, 5, encoder.turn_end}, "what lies there counts, not what was imported"


def test_ends_that_are_no_ids_are_refused_in_one_line(released: Path) -> None:
    edit(released / "generation_config.json", eos_token_id=["<|end|>"])
    with pytest.raises(ValueError, match=r"generation_config.json: eos_token_id: expected token ids, got \['<\|end\|>'\]"):
        HubEncoder(released)


def test_tokenizer_alone_names_its_own_ends(released: Path) -> None:
    for name in ("generation_config.json", "config.json"):
        (released / name).unlink()
    assert HubEncoder(released).text_ends == [0]
