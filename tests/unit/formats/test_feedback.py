"""Records of human feedback: what is accepted, and the one line that says what is wrong where."""

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.formats.feedback import (
    Comparison,
    Demonstration,
    FeedbackError,
    Line,
    Message,
    PromptRecord,
    json_lines,
    prompt_text,
    read,
    record,
    records,
    write,
)

USER, SAID = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}
COMPARISON = {"id": "c", "split": "reward", "source": "s", "prompt": [USER], "completions": ["a", "b", "c"], "ranks": [2, 1, 2]}


def one(tmp_path: Path, *rows: object) -> Path:
    path = tmp_path / "file.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return path


def test_records_written_are_read_again(tmp_path: Path) -> None:
    made = Comparison.model_validate(COMPARISON)
    write(tmp_path / "c.jsonl", [made, made.model_copy(update={"scores": (1.0, 2.0, 1.0), "split": "test"})])
    assert read(tmp_path / "c.jsonl", Comparison, "reward") == [made]
    assert list(made.pairs()) == [(1, 0), (1, 2)]
    assert prompt_text(made.prompt) == "Hi"
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress((tmp_path / "c.jsonl").read_bytes()))
    assert len(list(records(tmp_path / "c.jsonl.gz", Comparison))) == 2
    with pytest.raises(FeedbackError, match=r"^c.jsonl: no c of split 'nowhere'$"):
        read(tmp_path / "c.jsonl", Comparison, "nowhere")


@pytest.mark.parametrize(
    ("shape", "changes", "message"),
    [
        (Comparison, {"ranks": [1, 2]}, "ranks: 2 for 3 completions"),
        (Comparison, {"ranks": [0, 1, 2]}, "ranks: count from 1 (best), got 0"),
        (Comparison, {"ranks": [1, 1, 1]}, "ranks: all completions tie"),
        (Comparison, {"ranks": ["best", 2, 3]}, "ranks.0: Input should be a valid integer"),
        (Comparison, {"completions": ["a"], "ranks": [1]}, "completions: List should have at least 2 items"),
        (Comparison, {"completions": list("abcdefghij"), "ranks": list(range(1, 11))}, "completions: List should have at most 9 items"),
        (Comparison, {"scores": [1.0]}, "1 scores for 3 completions"),
        (Comparison, {"prompt": [USER, SAID]}, "prompt: ends with the assistant's turn"),
        (
            Comparison,
            {"prompt": [{"role": "robot", "content": ""}]},
            "prompt.0.role: Input should be 'system', 'user' or 'assistant'",
        ),
        (Comparison, {"prompt": []}, "prompt: List should have at least 1 item"),
        (Comparison, {"split": "training"}, "split: Input should be 'reward', 'gold' or 'test'"),
        (Comparison, {"judge": "me"}, "judge: unknown key"),
        (Comparison, {"agreement": 1.5}, "agreement: Input should be less than or equal to 1"),
        (Demonstration, {"split": "train"}, "completion: Field required"),
        (PromptRecord, {"split": "train", "source": "somewhere"}, "source: Input should be 'labeler_plain', 'labeler_few_shot'"),
    ],
)
def test_record_wrong_field_is_one_line_with_file_line_and_key(tmp_path: Path, shape: type, changes: dict, message: str) -> None:
    fields = {
        key: value for key, value in {**COMPARISON, **changes}.items() if shape is Comparison or key in ("id", "split", "source", "prompt")
    }
    path = one(tmp_path, "", {**fields})
    with pytest.raises(FeedbackError) as caught:
        list(records(path, shape))
    assert str(caught.value).startswith(f"{path}:2: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [('{"id": "a"', "not JSON"), ("[1]", "not a JSON object but list"), ("[" * 100_000, "not JSON")],
)
def test_json_lines_what_is_no_object_is_named(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(FeedbackError, match=message):
        list(json_lines(one(tmp_path, {"fine": 1}, line)))
    with pytest.raises(FeedbackError, match=r"nowhere.jsonl: no such file"):
        list(json_lines(tmp_path / "nowhere.jsonl"))
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(b"{}" * 1000)[:-9])
    with pytest.raises(FeedbackError, match=r"cut.jsonl.gz: cannot be read"):
        list(json_lines(tmp_path / "cut.jsonl.gz"))


@settings(max_examples=60, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=5),
        lambda x: st.lists(x, max_size=3) | st.dictionaries(st.sampled_from(["role", "content", "x"]), x, max_size=3),
        max_leaves=6,
    )
)
def test_record_whatever_stands_in_a_field_it_is_a_record_or_one_clear_line(value: object) -> None:
    for key in ("prompt", "completions", "ranks", "scores", "id"):
        said = "f:1: "
        try:
            record(Comparison, Line("f:1", {**COMPARISON, key: value}))
        except FeedbackError as error:
            said = str(error)
        assert said.startswith("f:1: ")
        assert "\n" not in said


def test_message_conversations_keep_their_order_and_roles() -> None:
    shown = Demonstration(id="d", split="train", source="s", prompt=(Message(**USER), Message(**SAID), Message(**USER)), completion="x")
    assert [message.role for message in shown.prompt] == ["user", "assistant", "user"]
