"""Feedback as it lies about: the formats in use become the same records, and what cannot be used is counted by its reason."""

import json
from pathlib import Path
from typing import Any

import pytest

from modelyard.data.corpus.document import DataError
from modelyard.data.feedback import files
from modelyard.data.feedback.files import FeedbackFile
from modelyard.store.file_hash import sha256_file

SKY = "Why is the sky blue?"
FINE = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]}


def chat(*turns: str) -> list[dict[str, Any]]:
    return [{"role": ("user", "assistant")[i % 2], "content": turn} for i, turn in enumerate(turns)]


def shared(*turns: str) -> list[dict[str, str]]:
    return [{"from": ("human", "gpt")[i % 2], "value": turn} for i, turn in enumerate(turns)]


def read(path: Path, shape: str, rows: list[Any] | str, **settings: Any) -> files.Read:
    path.write_text(rows if isinstance(rows, str) else "".join(json.dumps(row) + "\n" for row in rows))
    declared = {"name": "own", "path": str(path), "sha256": sha256_file(path), "licence": "MIT", "shape": shape, **settings}
    return files.read(FeedbackFile.model_validate(declared), "")


def spoken(prompt: Any) -> Any:
    return prompt if isinstance(prompt, str) else [(message.role, message.content) for message in prompt]


ASKED = [("user", SKY)]
BRIEF = {"role": "system", "content": "Be brief."}
PAIR = (ASKED, ("Scattering.", "Paint."), (1, 2))


@pytest.mark.parametrize(
    ("shape", "row", "expected"),
    [
        ("pairs", {"prompt": SKY, "chosen": chat(SKY, "Scattering."), "rejected": chat(SKY, "Paint.")}, PAIR),
        ("pairs", {"prompt": chat(SKY), "chosen": chat(SKY, "Scattering."), "rejected": "Paint."}, PAIR),
        ("pairs", {"prompt": chat(SKY), "chosen": chat("", "Scattering.")[1], "rejected": chat("", "Paint.")[1:]}, PAIR),
        (
            "pairs",
            {"prompt": [BRIEF, *chat(SKY)], "chosen": chat(SKY, "Scattering."), "rejected": chat(SKY, "Paint.")},
            ([("system", "Be brief."), *ASKED], *PAIR[1:]),
        ),
        ("pairs", {"conversations": shared(SKY), "chosen": shared("", "Scattering.")[1], "rejected": shared("", "Paint.")[1]}, PAIR),
        (
            "scored",
            {
                "instruction": SKY,
                "models": ["x", "y", "z"],
                "completions": [
                    {"response": "Paint.", "overall_score": 2.0, "critique": "No."},
                    {"response": "Scattering.", "overall_score": 9.5},
                    {"response": "Light.", "overall_score": 2.0},
                ],
            },
            (SKY, ("Paint.", "Scattering.", "Light."), (2, 1, 2)),
        ),
        ("messages", {"conversations": shared(SKY, "Scattering."), "id": "a"}, (ASKED, ("Scattering.",), ())),
        (
            "messages",
            {"system": "Be brief.", "conversations": shared(SKY, "Light.", "More?", "No.")},
            ([("system", "Be brief."), *ASKED, ("assistant", "Light."), ("user", "More?")], ("No.",), ()),
        ),
        (
            "messages",
            {
                "messages": [
                    {"role": "developer", "content": "Be brief."},
                    {"role": "user", "content": [{"type": "text", "text": "Why is "}, {"type": "text", "text": "the sky blue?"}]},
                    {"role": "assistant", "content": [{"type": "text", "text": "Scattering."}], "weight": 1},
                ],
                "tools": [],
            },
            ([("system", "Be brief."), *ASKED], ("Scattering.",), ()),
        ),
        ("thumbs", {"prompt": SKY, "completion": "Scattering.", "label": True}, (SKY, ("Scattering.",), ())),
        ("thumbs", {"prompt": chat(SKY), "completion": chat("", "Paint.")[1:], "label": False}, (ASKED, ("Paint.",), ())),
        ("thumbs", {"messages": chat(SKY, "Paint."), "label": False}, (ASKED, ("Paint.",), ())),
        ("prompts", {"conversations": shared(SKY)}, (ASKED, (), ())),
    ],
)
def test_shape_in_use_is_read_as_what_it_says(tmp_path: Path, shape: str, row: dict[str, Any], expected: object) -> None:
    (entry,) = read(tmp_path / "f.jsonl", shape, [row]).entries
    assert (spoken(entry.prompt), entry.completions, entry.ranks) == expected
    assert entry.label == row.get("label")


@pytest.mark.parametrize(
    ("row", "settings", "expected"),
    [
        ({"prompt": SKY, "completion": "Paint.", "correction": "Light."}, {"chat": True}, (ASKED, ("Paint.",), "Light.")),
        ({"messages": chat(SKY, "Paint."), "correction": " \u200b"}, {}, (ASKED, ("Paint.",), "")),
        (
            {"prompt": SKY, "completion": f"{SKY} Paint.", "correction": f"{SKY} Light."},
            {"prompt_in_answers": True, "chat": True},
            (ASKED, ("Paint.",), "Light."),
        ),
    ],
)
def test_flag_is_read_with_its_correction(tmp_path: Path, row: dict[str, Any], settings: dict[str, Any], expected: object) -> None:
    (entry,) = read(tmp_path / "f.jsonl", "flags", [{**row, "factual": False}], source="user", **settings).entries
    assert (spoken(entry.prompt), entry.completions, entry.correction) == expected
    assert entry.label is False


def test_marks_of_a_pair_are_kept_and_keys_that_no_record_has_are_counted(tmp_path: Path) -> None:
    row = {"prompt": SKY, "prompt_id": "7", "chosen": chat(SKY, "a"), "rejected": chat(SKY, "b"), "score_chosen": 8.5, "score_rejected": 4}
    row["chosen"][1]["model"] = "x"
    found = read(tmp_path / "f.jsonl", "pairs", [row])
    assert found.entries[0].scores == (8.5, 4.0)
    assert found.ignored == {"prompt_id": 1, "chosen.model": 1}
    scored = read(
        tmp_path / "s.jsonl", "scored", [{"prompt": "p", "completions": [{"text": t, "score": s, "by": "me"} for t, s in ("a1", "b2")]}]
    )
    assert (scored.entries[0].scores, scored.ignored) == ((1.0, 2.0), {"completions.by": 1})


CALLS = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}


def picture(*parts: dict, role: str = "user") -> dict:
    return {"role": role, "content": [{"type": "text", "text": "What is it?"}, *parts]}


def image_url(url: str) -> dict:
    return {"type": "image_url", "image_url": {"url": url}}


@pytest.mark.parametrize(
    ("shape", "row", "reason"),
    [
        ("messages", {"messages": []}, "empty_prompt"),
        ("messages", {"messages": chat("One", "", "Two", "2")}, "empty_completion"),
        ("messages", {"messages": chat("One", "1", " ", "2")}, "empty_prompt"),
        ("messages", {"messages": chat("One", "1", "Two")}, "unanswered"),
        ("messages", {"conversations": shared("One", "1", "Two")}, "unanswered"),
        ("messages", {"messages": [*chat("Look it up"), CALLS, {"role": "tool", "content": "7"}, *chat("", "It is 7.")[1:]]}, "tool_calls"),
        ("messages", {"messages": chat("Q", "A"), "tools": [{"type": "function"}]}, "tool_calls"),
        ("messages", {"conversations": [*shared("Q"), {"from": "function_call", "value": "{}"}, *shared("", "A")[1:]]}, "tool_calls"),
        ("messages", {"messages": [picture({"type": "input_audio"}), *chat("", "A cat.")[1:]]}, "not_text"),
        ("messages", {"messages": [*chat("Q"), picture(image_url("x.png"), role="assistant")]}, "not_text"),
        ("messages", {"messages": [picture(image_url("x.png")), *chat("", "A cat.")[1:]]}, "image_missing"),
        ("messages", {"messages": [picture(image_url("../f.jsonl")), *chat("", "A cat.")[1:]]}, "image_elsewhere"),
        ("messages", {"messages": [picture(image_url("https://a.b/c.png")), *chat("", "A cat.")[1:]]}, "image_behind_url"),
        ("messages", {"messages": [picture(image_url("data:image/png;base64,AAAA")), *chat("", "A cat.")[1:]]}, "image_broken"),
        ("messages", {"image": "x.png", "messages": chat("What is it?", "A cat.")}, "images_without_place"),
        ("messages", {"messages": [*chat("Q"), {"role": "assistant", "content": "A", "weight": 0}, *chat("R", "B")]}, "turn_weight"),
        ("messages", {"messages": [*chat("Q"), {"role": "assistant", "content": None}]}, "empty_completion"),
        ("pairs", {"prompt": SKY, "chosen": f"{SKY} Scattering.", "rejected": f"{SKY} Paint."}, "prompt_repeated"),
        ("pairs", {"chosen": chat("One", "", "Two", "2"), "rejected": chat("One", "", "Two", "3")}, "empty_completion"),
        ("pairs", {"prompt": "p", "chosen": "a", "rejected": "b", "score_chosen": 1, "score_rejected": 2}, "scores_against_order"),
        ("pairs", {"prompt": "p", "chosen": "a", "rejected": " a\n"}, "tie"),
        ("pairs", {"prompt": "p", "chosen": "a", "rejected": "b", "score_chosen": 2, "score_rejected": 2}, "tie"),
        ("thumbs", {"prompt": SKY, "completion": " ", "label": True}, "empty_completion"),
        ("thumbs", {"prompt": SKY, "completion": f"{SKY} Paint.", "label": False}, "prompt_repeated"),
        ("thumbs", {"messages": chat("One", "1", "Two"), "label": True}, "unanswered"),
        ("thumbs", {"prompt": SKY, "completion": "\u200b \ufeff\u2800", "label": True}, "empty_completion"),
        ("messages", {"messages": chat("One", "1", "\u200b", "2")}, "empty_prompt"),
        ("messages", {"messages": chat("One", "\u200d", "Two", "2")}, "empty_completion"),
        ("pairs", {"prompt": "Name a colour.", "chosen": "Name a colour. Red.", "rejected": "Name a colour.\tOx."}, "prompt_repeated"),
        ("pairs", {"prompt": "2+2?", "chosen": "2+2? 4", "rejected": "2+2? 5"}, "prompt_repeated"),
        ("pairs", {"prompt": "Count", "chosen": "Count\n1, 2", "rejected": "Count\n2, 1"}, "prompt_repeated"),
        ("pairs", {"prompt": "Why is  the sky\nblue?", "chosen": f"{SKY} Light.", "rejected": f"  {SKY} Paint."}, "prompt_repeated"),
        (
            "pairs",
            {"prompt": SKY, "chosen": f"\n\nHuman: {SKY}\n\nAssistant: Light.", "rejected": f"Human: {SKY}\n\nAssistant: Paint."},
            "prompt_repeated",
        ),
        (
            "pairs",
            {
                "prompt": chat("Hi", "Hello", "Tea"),
                "chosen": "Human: Hi\n\nAssistant: Hello\n\nHuman: Tea\n\nAssistant: Yes.",
                "rejected": "Human: Hi\n\nAssistant: Hello\n\nHuman: Tea\n\nAssistant: No.",
            },
            "prompt_repeated",
        ),
        (
            "ranked",
            {"prompt": "\n\nHuman: Hi\n\nAssistant:", "completions": [f"Human: Hi\n\nAssistant: {n}" for n in range(2)], "ranks": [1, 2]},
            "prompt_repeated",
        ),
        ("ranked", {"prompt": "p", "completions": ["a", "b", "a "], "ranks": [1, 2, 3]}, "text_at_two_ranks"),
        ("ranked", {"prompt": SKY, "completions": [f"{SKY} {n}" for n in range(3)], "ranks": [1, 2, 3]}, "prompt_repeated"),
        ("scored", {"prompt": "p", "completions": [{"text": "a", "score": 1}, {"text": "b", "score": None}]}, "no_score"),
        ("scored", {"prompt": "p", "completions": [{"text": "a", "score": 1}]}, "one_completion"),
        ("scored", {"prompt": "p", "completions": [{"text": "a", "score": 1}, {"text": "b", "score": 1}]}, "tie"),
    ],
)
def test_line_that_cannot_be_used_is_dropped_with_its_reason_and_place(
    tmp_path: Path, shape: str, row: dict[str, Any], reason: str
) -> None:
    fine = {"messages": FINE, "pairs": {"prompt": "p", "chosen": "a", "rejected": "b"}}
    fine["ranked"] = {"prompt": "p", "completions": ["a", "b"], "ranks": [1, 2]}
    fine["thumbs"] = {"prompt": "p", "completion": "a", "label": True}
    fine["scored"] = {"prompt": "p", "completions": [{"text": "a", "score": 1}, {"text": "b", "score": 2}]}
    found = read(tmp_path / "f.jsonl", shape, [fine[shape], row])
    assert len(found.entries) == 1
    assert found.dropped == [(f"{tmp_path / 'f.jsonl'}:2", reason)]
    with pytest.raises(DataError, match=f"feedback file own: .*f.jsonl: no line of it can be used: 2 {reason}$"):
        read(tmp_path / "f.jsonl", shape, [row, row])


def test_text_that_stands_twice_at_one_rank_is_compared_once(tmp_path: Path) -> None:
    (entry,) = read(tmp_path / "f.jsonl", "ranked", [{"prompt": "p", "completions": ["a", "b", "b "], "ranks": [1, 2, 2]}]).entries
    assert (entry.completions, entry.ranks) == (("a", "b"), (1, 2))


def test_prompt_in_answers_is_cut_where_the_config_says_so(tmp_path: Path) -> None:
    rows = [{"prompt": f"{SKY} ", "chosen": f"{SKY} Scattering.", "rejected": f" {SKY} Paint."}]
    (text,) = read(tmp_path / "f.jsonl", "pairs", rows, prompt_in_answers=True).entries
    (turn,) = read(tmp_path / "f.jsonl", "pairs", rows, prompt_in_answers=True, chat=True).entries
    assert text.completions == (" Scattering.", " Paint.")
    assert turn.completions == ("Scattering.", "Paint.")
    (restated,) = read(tmp_path / "f.jsonl", "pairs", [{"prompt": SKY, "chosen": f"{SKY} Well.", "rejected": "Paint."}]).entries
    assert restated.completions == (f"{SKY} Well.", "Paint."), "one answer that restates its question is an answer"
    written = {"prompt": f"\n\nHuman: {SKY}\n\nAssistant:", "chosen": f"{SKY}  Light.", "rejected": f"Human: {SKY}\n\nAssistant: Paint."}
    (spaced,) = read(tmp_path / "f.jsonl", "pairs", [written], prompt_in_answers=True, chat=True).entries
    assert spaced.completions == ("Light.", "Paint.")
    for greeting, *answers in (("Good morning", "Good morning! Tea?", "Good morning."), ("Hi", "Hi there", "Hi Ada")):
        rows = [{"prompt": greeting, "chosen": answers[0], "rejected": answers[1]}]
        assert read(tmp_path / "f.jsonl", "pairs", rows).dropped == []
    hello = read(tmp_path / "f.jsonl", "pairs", [{"prompt": "Hello", "chosen": "Hello! How are you?", "rejected": "Hello."}])
    assert (len(hello.entries), hello.dropped) == (1, []), "a greeting is answered by a greeting"
    same = read(tmp_path / "f.jsonl", "messages", [{"messages": chat(SKY, f"{SKY} A good question.")}])
    assert (len(same.entries), same.dropped) == (1, []), "what stands in one conversation is what was said"


@pytest.mark.parametrize("indent", [None, 2])
def test_array_is_read_like_lines_with_the_line_of_each_item(tmp_path: Path, indent: int | None) -> None:
    rows: list[Any] = [{"instruction": f"Name city {n}.", "input": "", "output": "Oslo"} for n in range(3)]
    path = tmp_path / "alpaca_data.json"
    found = read(path, "instructions", "\ufeff\n" + json.dumps(rows, indent=indent) + "\n")
    assert [entry.completions for entry in found.entries] == [("Oslo",)] * 3
    assert [entry.where for entry in found.entries] == [f"{path}:{2 if indent is None else 3 + 5 * n}" for n in range(3)]
    with pytest.raises(DataError, match=rf"alpaca_data.json:{2 if indent is None else 18}: instruction: Field required"):
        read(path, "instructions", "\n" + json.dumps([*rows, {"output": "Oslo"}], indent=indent))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"prompt": "a"}\n{"prompt": "b"}]', "f.json:1: not JSON: what begins here is followed neither by a comma"),
        ('[{"prompt": "a"},\n{"prompt": }]', "f.json:2: not JSON: Expecting value"),
        ('[{"prompt": "a"},\n3]', "f.json:2: not a JSON object but int"),
        ('[{"prompt": "a"}]\n[]', "f.json: not JSON: text behind the array's end"),
        ('[{"prompt": "a"},', "f.json:1: not JSON: Expecting value"),
        ("[]", "no line of it can be used"),
        ("[" * 100_000, "not JSON"),
        ('[{"prompt": "\\udc00"}]', "f.json:1: prompt: half of a surrogate pair"),
    ],
)
def test_array_that_is_broken_is_one_line_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError) as caught:
        read(tmp_path / "f.json", "prompts", text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
