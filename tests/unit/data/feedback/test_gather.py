"""The feedback stage: every shape becomes the same records; what is dropped has a reason; nothing crosses a split."""

import gzip
import hashlib
import json
from collections import Counter
from pathlib import Path

import pytest
from pydantic import ValidationError

from modelyard.data.corpus.document import DataError
from modelyard.data.feedback import gather as human_feedback
from modelyard.data.feedback.config import FeedbackConfig
from modelyard.formats.feedback import (
    COMPARISONS,
    DEMONSTRATIONS,
    PROMPTS,
    THUMBS,
    Comparison,
    Demonstration,
    PromptRecord,
    Thumb,
    prompt_text,
    records,
)
from modelyard.formats.flags import FLAGS, Flag, flags_of
from modelyard.progress import silent

SPLITS = {"held_out": 0.2, "gold": 0.3, "held_out_raters": 0.3}


def file(tmp_path: Path, name: str, shape: str, rows: list, **settings: object) -> dict:
    path = tmp_path / f"{name}.jsonl"
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"name": name, "path": path.name, "sha256": digest, "licence": "MIT", "shape": shape, **settings}


def config(*files: dict, **changes: object) -> FeedbackConfig:
    pii = {"kinds": ["email", "phone"], "region": "US"}
    settings = {"seed": 1, "files": files, "splits": SPLITS, "pii": pii, "prefix_characters": 16, "prompts_per_user": 3}
    return FeedbackConfig.model_validate({**settings, **changes})


def run(made: FeedbackConfig, root: Path, held_out: Path | None = None) -> tuple[dict[str, float], list, list, list]:
    out = root / "out"
    out.mkdir(exist_ok=True)
    metrics = human_feedback.run(made, {"held_out": held_out} if held_out else {}, out, silent, str(root))
    shapes = ((DEMONSTRATIONS, Demonstration), (COMPARISONS, Comparison), (PROMPTS, PromptRecord))
    return metrics, *(list(records(out / name, shape)) for name, shape in shapes)


def chat(*turns: str) -> list[dict]:
    return [{"role": ("user", "assistant")[i % 2], "content": turn} for i, turn in enumerate(turns)]


def test_every_shape_becomes_the_same_records(tmp_path: Path) -> None:
    everything = {"held_out": 0.0, "gold": 0.0, "held_out_raters": 0.0}
    pair = {"chosen": chat("Q", "good"), "rejected": chat("Q", "bad")}
    made = config(
        file(
            tmp_path,
            "chat",
            "messages",
            [{"messages": chat("Q", "A", "R", "B"), "extra": 1}, {"prompt": chat("P"), "completion": chat("", "C")[1:]}],
        ),
        file(tmp_path, "text", "messages", [{"prompt": "once", "completion": " upon", "category": "story"}]),
        file(tmp_path, "alpaca", "instructions", [{"instruction": "Add", "input": "1 2", "output": "3"}], chat=True, also_prompts=True),
        file(tmp_path, "seeds", "instructions", [{"instruction": "Say", "instances": [{"input": "", "output": "x "}]}], category="words"),
        file(tmp_path, "pairs", "pairs", [pair, {"prompt": "Q", "chosen": "fine", "rejected": "bad"}], chat=True, system="Be kind."),
        file(tmp_path, "hh", "transcripts", [{"chosen": "\n\nHuman: Q\n\nAssistant: good", "rejected": "\n\nHuman: Q\n\nAssistant: bad"}]),
        file(
            tmp_path,
            "ranked",
            "ranked",
            [{"prompt": "p", "completions": ["a", "b", "c"], "ranks": [1, 3, 3], "scores": [5, 1, 1], "rater": 7}],
        ),
        file(
            tmp_path,
            "asked",
            "prompts",
            [{"prompt": "Write a poem", "category": "brainstorm", "source": "labeler_few_shot", "answer": "a poem"}],
            chat=True,
        ),
        splits=everything,
    )
    metrics, demonstrations, comparisons, prompts = run(made, tmp_path)
    assert [(len(d.prompt), d.completion) for d in demonstrations] == [(3, "B"), (1, "C"), (4, " upon"), (1, "3"), (3, "x")]
    assert (demonstrations[4].prompt, demonstrations[4].category) == ("Say", "words")
    assert demonstrations[2].prompt == "once"
    assert demonstrations[2].category == "story"
    assert [c.completions for c in comparisons] == [("good", "bad"), ("fine", "bad"), ("good", "bad"), ("a", "b", "c")]
    assert comparisons[0].prompt == comparisons[1].prompt
    assert [(m.role, m.content) for m in comparisons[0].prompt] == [("system", "Be kind."), ("user", "Q")]
    assert [(m.role, m.content) for m in comparisons[2].prompt] == [("user", "Q")]
    assert (comparisons[3].prompt, comparisons[3].ranks, comparisons[3].scores, comparisons[3].rater) == ("p", (1, 3, 3), (5, 1, 1), "7")
    assert prompts[0].prompt == demonstrations[3].prompt
    assert prompt_text(prompts[0].prompt) == "Add\n\n1 2"
    assert (prompts[1].source, prompts[1].category, prompts[1].prompt[0].role) == ("labeler_few_shot", "brainstorm", "user")
    assert [prompt.answer for prompt in prompts] == [None, "a poem"]
    assert metrics["feedback/ignored_keys/extra"] == 1
    assert {row["name"] for row in json.loads((tmp_path / "out" / "sources.json").read_text())} == {f.name for f in made.files}


def test_share_of_questions_with_answers_is_demonstrated_on_the_side_of_the_split_where_they_lie(tmp_path: Path) -> None:
    solved = [{"question": f"What is {n} + 1?", "answer": f"{n} + 1 = {n + 1}\n#### {n + 1}"} for n in range(300)]
    rows = [*solved, solved[0], {"question": "And what now?"}, {"question": "Or then?", "answer": " "}]
    metrics, demonstrations, _, prompts = run(config(file(tmp_path, "gsm8k", "prompts", rows, chat=True, demonstrated=0.5)), tmp_path)
    asked = {one.id: one for one in prompts}
    assert len(asked) == 302
    assert metrics["feedback/dropped/shared_prefix"] == 1
    assert 100 < len(demonstrations) < 200
    for one in demonstrations:
        assert (one.prompt, one.split, one.completion) == (asked[one.id].prompt, asked[one.id].split, asked[one.id].answer)
    assert {one.split for one in demonstrations} == {"train", "validation"}
    with pytest.raises(ValidationError, match=r"demonstrated: is of shape 'prompts', not of 'pairs'"):
        config(file(tmp_path, "p", "pairs", [], demonstrated=0.5))


def test_instructions_with_an_input_may_be_a_category_of_their_own(tmp_path: Path) -> None:
    rows = [
        {"instruction": "Add", "input": "1 2", "output": "3"},
        {"instruction": "Say", "instances": [{"input": " ", "output": "x"}]},
        {"instruction": "Cut", "instances": [{"input": "a b", "output": "a"}]},
        {"instruction": "Cut", "input": "c d", "output": "c", "category": "editing"},
    ]
    made = file(tmp_path, "seeds", "instructions", rows, category="instruction", category_with_input="closed_domain")

    _, demonstrations, _, _ = run(config(made), tmp_path)

    assert [one.category for one in demonstrations] == ["closed_domain", "instruction", "closed_domain", "editing"]
    with pytest.raises(ValidationError, match="category_with_input: is of shape 'instructions', not of 'pairs'"):
        config(file(tmp_path, "pairs", "pairs", [], category_with_input="x"))


def test_prompts_without_consent_with_a_shared_prefix_or_beyond_a_users_share_are_dropped_and_counted(tmp_path: Path) -> None:
    rows = [{"prompt": f"{n} is a number, is it?", "user": "u", "consent": True} for n in range(5)]
    rows += [{"prompt": "Tell me about BIRDS\n of prey please", "user": "v", "consent": True}]
    rows += [{"prompt": "tell  me about birds of the sea", "user": "w", "consent": True}]
    rows += [{"prompt": "secret", "user": "v"}, {"prompt": "secret 2", "user": "v", "consent": False}]
    rows += [{"prompt": "mail me at ann.smith@example.com or (212) 555-2368", "user": "x", "consent": True}]
    rows += [{"prompt": "  ", "user": "x", "consent": True}]
    metrics, _, _, prompts = run(config(file(tmp_path, "traffic", "prompts", rows, source="user", chat=True, split_by="user")), tmp_path)
    texts = [prompt_text(prompt.prompt) for prompt in prompts]
    assert texts == [
        "0 is a number, is it?",
        "1 is a number, is it?",
        "2 is a number, is it?",
        "Tell me about BIRDS\n of prey please",
        "mail me at [EMAIL] or [PHONE]",
    ]
    dropped = {key.rpartition("/")[2]: value for key, value in metrics.items() if "/dropped/" in key}
    assert dropped == {"no_consent": 2, "shared_prefix": 1, "too_many_of_user": 2, "empty_prompt": 1}
    assert (metrics["feedback/redacted/email"], metrics["feedback/redacted/phone"]) == (1, 1)
    listed = [json.loads(line) for line in (tmp_path / "out" / "dropped.jsonl").read_text().splitlines()]
    assert Counter(row["reason"] for row in listed) == Counter({key: int(value) for key, value in dropped.items()})
    assert f"{tmp_path / 'traffic.jsonl'}:7" in {row["where"] for row in listed}


def test_splits_keep_a_prompt_or_a_user_on_one_side_of_all_sets_and_strangers_out_of_training(tmp_path: Path) -> None:
    names = [f"Question number {n}?" for n in range(200)]
    shown = [{"messages": chat(name, f"answer {k}"), "user": n % 20} for n, name in enumerate(names) for k in range(2)]
    rated = [
        {"prompt": name, "completions": ["a", "b"], "ranks": [1, 2] if (n + r) % 3 else [2, 1], "rater": f"r{r}"}
        for n, name in enumerate(names)
        for r in range(12)
    ]
    made = config(file(tmp_path, "shown", "messages", shown), file(tmp_path, "rated", "ranked", rated, chat=True))
    metrics, demonstrations, comparisons, _ = run(made, tmp_path)
    sides: dict[str, set[str]] = {}
    for one in (*demonstrations, *comparisons):
        sides.setdefault(prompt_text(one.prompt), set()).add("out" if one.split in ("validation", "test") else "in")
    assert {len(found) for found in sides.values()} == {1}
    by_split = {split: {prompt_text(c.prompt) for c in comparisons if c.split == split} for split in ("reward", "gold", "test")}
    assert not by_split["reward"] & by_split["gold"]
    assert 20 <= len(by_split["test"]) <= 60
    assert 40 <= len(by_split["gold"]) <= 80
    trained = {c.rater for c in comparisons if c.split != "test"}
    tested = {c.rater for c in comparisons if c.split == "test"}
    assert trained < tested
    strangers = tested - trained
    assert metrics["feedback/dropped/held_out_rater"] == len(strangers) * (200 - len(by_split["test"]))
    for c in comparisons:
        if c.split == "test":
            n, r = int(prompt_text(c.prompt).split()[-1][:-1]), int(c.rater[1:])
            others = [((n + r) % 3 > 0) == ((n + other) % 3 > 0) for other in range(12) if other != r]
            assert c.agreement == pytest.approx(sum(others) / 11)
    users = config(file(tmp_path, "shown", "messages", shown, split_by="user"))
    _, by_user, _, _ = run(users, tmp_path)
    sides = {}
    for row, one in zip(shown, by_user, strict=True):
        sides.setdefault(str(row["user"]), set()).add(one.split)
    assert {len(found) for found in sides.values()} == {1}


def test_thumbs_lie_on_their_prompts_side_and_none_teaches_what_the_gold_model_or_a_held_out_rater_says(tmp_path: Path) -> None:
    names = [f"Question number {n}?" for n in range(120)]
    rated = [{"prompt": name, "completions": ["a", "b"], "ranks": [1, 2]} for name in names]
    said = [
        {"prompt": name, "completion": f"Mail ann.smith@example.com, said {n}", "label": n % 3 == 0, "rater": f"r{n % 12}", "stars": 4}
        for n, name in enumerate(names)
    ]
    made = config(
        file(tmp_path, "rated", "ranked", rated, chat=True),
        file(tmp_path, "said", "thumbs", [*said, said[0], {**said[1], "label": True}], chat=True, also_prompts=True),
        file(tmp_path, "user", "thumbs", [{**said[0], "consent": True}, said[1]], chat=True, source="user"),
        prefix_characters=64,
    )
    metrics, _, comparisons, prompts = run(made, tmp_path)
    thumbs = list(records(tmp_path / "out" / THUMBS, Thumb))
    by_split = {split: {prompt_text(c.prompt) for c in comparisons if c.split == split} for split in ("reward", "gold", "test")}
    for one in thumbs:
        assert prompt_text(one.prompt) in by_split["test" if one.split == "test" else "reward"]
    own = [one for one in thumbs if one.source == "said"]
    listed = [json.loads(line) for line in (tmp_path / "out" / "dropped.jsonl").read_text().splitlines()]
    reasons = Counter(row["reason"] for row in listed if row["id"].startswith("said-"))
    assert reasons["gold_prompt"] >= len(by_split["gold"]) - 1 > 0, "the contradicted thumbs may be of one of its prompts"
    assert reasons["held_out_rater"] > 0
    assert reasons["duplicate"] == 1
    assert reasons["contradicted"] == 2, "a rater's thumb up and thumb down on one answer say nothing"
    assert len(own) + sum(reasons[name] for name in ("gold_prompt", "held_out_rater", "duplicate", "contradicted")) == 122
    strangers = {one.rater for one in own if one.split == "test"} - {one.rater for one in own if one.split == "train"}
    assert strangers
    assert all("[EMAIL]" in one.completion and "@" not in one.completion for one in own)
    assert {one.label for one in own} == {True, False}
    for split in ("train", "test"):
        sides = [metrics[f"feedback/thumbs/{split}/{side}"] for side in ("up", "down")]
        assert metrics[f"feedback/thumbs/{split}"] == sum(sides) == sum(one.split == split for one in thumbs)
    assert metrics["feedback/ignored_keys/stars"] == 124
    assert metrics["feedback/dropped/no_consent"] == 1
    assert len(prompts) == 120
    assert {row["name"] for row in json.loads((tmp_path / "out" / "sources.json").read_text())} == {"rated", "said", "user"}


def test_flags_are_redacted_and_lie_on_their_prompts_side_with_consent_alone(tmp_path: Path) -> None:
    names = [f"Mail ann.smith@example.com about question number {n}?" for n in range(120)]
    rated = [{"prompt": name, "completions": ["a", "b"], "ranks": [1, 2]} for name in names]
    said = [
        {
            "id": n,
            "prompt": chat(name),
            "completion": f"Ask bob@example.com, said {n}",
            "factual": n % 3 == 0,
            "correction": "" if n % 3 == 0 else "Ask eve@example.com",
            "rater": f"r{n % 12}",
            "consent": n != 119,
        }
        for n, name in enumerate(names)
    ]
    again = [{**said[0], "id": "again"}, {**said[1], "id": "other", "factual": True}]
    made = config(
        file(tmp_path, "rated", "ranked", rated, chat=True),
        file(tmp_path, "app", "flags", [*said, *again], source="user", also_prompts=True),
        prefix_characters=64,
    )
    metrics, _, comparisons, prompts = run(made, tmp_path)

    flags = flags_of(tmp_path / "out")
    by_split = {split: {prompt_text(c.prompt) for c in comparisons if c.split == split} for split in ("reward", "gold", "test")}
    assert {one.split for one in flags} == {"reward", "gold", "test"}
    assert all(prompt_text(one.prompt) in by_split[one.split] for one in flags)
    assert "@" not in (tmp_path / "out" / FLAGS).read_text()
    assert {one.correction for one in flags if not one.factual} == {"Ask [EMAIL]"}
    assert {one.correction for one in flags if one.factual} == {""}
    assert metrics["feedback/redacted/email"] == 120 + 122 + 122 + 81
    dropped = {key.rpartition("/")[2]: int(value) for key, value in metrics.items() if "/dropped/" in key}
    strangers = {one.rater for one in flags if one.split == "test"} - {one.rater for one in flags if one.split != "test"}
    assert strangers
    assert dropped.pop("shared_prefix") == 1, "of the contradicted flag's prompt"
    assert dropped.keys() == {"no_consent", "duplicate", "contradicted", "held_out_rater"}
    assert (dropped["no_consent"], dropped["duplicate"], dropped["contradicted"]) == (1, 1, 2)
    assert len(flags) + sum(dropped.values()) == 122
    for split in ("reward", "gold", "test"):
        sides = [metrics[f"feedback/flags/{split}/{side}"] for side in ("factual", "not_factual")]
        assert metrics[f"feedback/flags/{split}"] == sum(sides) == sum(one.split == split for one in flags)
    assert len(prompts) == 119
    (row,) = [row for row in json.loads((tmp_path / "out" / "sources.json").read_text()) if row["name"] == "app"]
    assert (row["licence"], row["sha256"]) == ("MIT", made.files[1].sha256)
    with pytest.raises(ValidationError, match=r"source: flags are what users said, so it must be 'user', not 'labeler_plain'"):
        config(file(tmp_path, "app", "flags", said))


def test_flags_bring_a_file_only_where_there_are_any(tmp_path: Path) -> None:
    run(config(file(tmp_path, "asked", "prompts", [{"prompt": "p"}])), tmp_path)
    assert not (tmp_path / "out" / FLAGS).exists()
    assert flags_of(tmp_path / "out") == []


def test_flags_from_one_rater_with_two_corrections_are_both_kept(tmp_path: Path) -> None:
    flag = {"prompt": "Who?", "completion": "Ann", "factual": False, "rater": "r", "consent": True}
    rows = [{**flag, "correction": "Bob"}, {**flag, "correction": "Bob Hill"}, {**flag, "correction": "bob"}]
    nobody = {"held_out": 0.0, "gold": 0.0, "held_out_raters": 0.0}
    metrics, *_ = run(config(file(tmp_path, "app", "flags", rows, source="user"), splits=nobody), tmp_path)
    expected = {"split": "reward", "source": "app", "rater": "r", "prompt": "Who?", "completion": "Ann", "factual": False}
    assert flags_of(tmp_path / "out") == [Flag(id=f"app-{n}", correction=text, **expected) for n, text in enumerate(("Bob", "Bob Hill"))]
    assert metrics["feedback/dropped/duplicate"] == 1


def test_rater_who_orders_the_same_answers_in_two_ways_is_counted_and_others_may_disagree(tmp_path: Path) -> None:
    pair = {"prompt": "Q", "chosen": "good", "rejected": "bad"}
    swapped = {**pair, "chosen": "bad ", "rejected": "Good"}
    named = [{**pair, "rater": "a"}, {**swapped, "rater": "b"}, {**pair, "rater": "c"}, {**swapped, "rater": "c"}]
    rows = [pair, swapped, *named, {"prompt": "Q", "chosen": "good", "rejected": "worse"}]
    nobody = {"held_out": 0.0, "gold": 0.0, "held_out_raters": 0.0}
    metrics, _, comparisons, _ = run(config(file(tmp_path, "own", "pairs", rows), splits=nobody), tmp_path)
    assert [one.rater for one in comparisons] == ["", "", "a", "b", ""]
    assert (metrics["feedback/dropped/contradicted"], metrics["feedback/disagreed"]) == (2, 2)


@pytest.mark.parametrize(
    ("shape", "row", "settings", "message"),
    [
        ("messages", {"messages": chat("", "A")[1:]}, {}, "messages: an assistant's turn that answers nothing"),
        (
            "messages",
            {"messages": [{"role": "boss", "content": "Q"}]},
            {},
            "messages.0.role: expected one of system, developer, user, human",
        ),
        ("messages", {"conversations": [{"from": "human", "value": 3}]}, {}, "conversations.0.value: "),
        ("messages", {"messages": [{"role": "user", "content": [{"type": "text", "text": 1}]}]}, {}, "messages.0.content.0.text: "),
        ("messages", r'{"messages": [{"role": "user", "content": "smile \ud83d"}]}', {}, "messages.0.content: half of a surrogate pair"),
        ("messages", {"prompt": "p", "completion": "c", "system": "s"}, {}, "system: is of a conversation"),
        ("messages", {"system": "a"}, {}, ":2: messages: needed, or prompt and completion"),
        ("messages", {"messages": chat("Q", "A", "B", "C")[1:]}, {}, ""),
        ("instructions", {"instruction": "i"}, {}, "output: needed, or instances in its place"),
        ("instructions", {"instruction": "i", "instances": [{"input": "x"}]}, {}, "instances.0.output: Field required"),
        ("pairs", {"chosen": "a", "rejected": "b"}, {}, "prompt: needed where chosen and rejected are strings"),
        (
            "pairs",
            {"prompt": "p", "chosen": chat("a", "b"), "rejected": "c"},
            {},
            "chosen: a conversation that does not begin with the prompt",
        ),
        ("pairs", {"prompt": "p", "chosen": "p, b", "rejected": "c"}, {"prompt_in_answers": True}, "does not begin with the prompt"),
        ("scored", {"prompt": "p", "completions": [{"text": "a"}]}, {}, "completions.0.score: Field required"),
        ("pairs", {"prompt": "p", "chosen": "a"}, {}, "rejected: Field required"),
        ("transcripts", {"chosen": "hello", "rejected": "b"}, {}, "chosen: no transcript of Human: and Assistant: turns"),
        ("ranked", {"prompt": "p", "completions": ["a", "b"], "ranks": [1]}, {}, "ranks: 1 for 2 completions"),
        ("ranked", {"prompt": "p", "completions": ["a", "b"], "ranks": [1, 0]}, {}, "ranks: count from 1"),
        ("thumbs", {"prompt": "p", "completion": "c"}, {}, "label: Field required"),
        ("thumbs", {"prompt": "p", "completion": "c", "label": "up"}, {}, "label: Input should be a valid boolean"),
        ("thumbs", {"prompt": "p", "completion": "c", "label": 1}, {}, "label: Input should be a valid boolean"),
        ("thumbs", {"prompt": "p", "label": True}, {}, ":2: completion: needed beside prompt"),
        ("thumbs", {"completion": "c", "label": True}, {}, ":2: prompt: needed beside completion"),
        ("thumbs", {"prompt": "p", "completion": "c", "messages": chat("Q", "A"), "label": True}, {}, ":2: messages: stands beside prompt"),
        ("flags", {"prompt": "p", "completion": "c"}, {}, "factual: Field required"),
        ("flags", {"prompt": "p", "completion": "c", "factual": "perhaps"}, {}, "factual: Input should be a valid boolean"),
        ("flags", {"prompt": "p", "factual": False}, {}, ":2: completion: needed beside prompt"),
        ("flags", {"prompt": "p", "completion": "c", "factual": False, "correction": 3}, {}, "correction: Input should be a valid string"),
        ("prompts", {"prompt": chat("Q", "A")}, {}, "prompt: ends with the assistant's turn"),
        ("prompts", {"prompt": "p", "source": "web"}, {}, "source: Input should be 'labeler_plain'"),
        ("prompts", {"prompt": "p"}, {"split_by": "user"}, "user: needed, since the file is split by user"),
        ("prompts", '{"prompt": "p"', {}, "not JSON"),
    ],
)
def test_bad_line_is_named_by_file_line_and_key(tmp_path: Path, shape: str, row: object, settings: dict, message: str) -> None:
    fine = {
        "messages": {"messages": chat("Q", "A")},
        "instructions": {"instruction": "i", "output": "o"},
        "pairs": {"prompt": "p", "chosen": "a", "rejected": "b"},
        "transcripts": {"chosen": "\n\nHuman: Q\n\nAssistant: a", "rejected": "\n\nHuman: Q\n\nAssistant: b"},
        "ranked": {"prompt": "p", "completions": ["a", "b"], "ranks": [1, 2]},
        "scored": {"prompt": "p", "completions": [{"text": "a", "score": 1}, {"text": "b", "score": 2}]},
        "thumbs": {"prompt": "p", "completion": "c", "label": False},
        "flags": {"prompt": "p", "completion": "c", "factual": False, "consent": True},
        "prompts": {"prompt": "p", "user": "u"},
    }[shape]
    settings = {"source": "user", **settings} if shape == "flags" else settings
    fine |= {"chosen": "p: a", "rejected": "p: b"} if settings.get("prompt_in_answers") else {}
    made = config(file(tmp_path, "mine", shape, [fine, row], **settings))
    if not message:
        run(made, tmp_path)
        return
    with pytest.raises(DataError) as caught:
        run(made, tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / 'mine.jsonl'}:2: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_or_changed_file_is_one_line_naming_it(tmp_path: Path) -> None:
    declared = file(tmp_path, "mine", "prompts", [{"prompt": "p"}])
    with pytest.raises(DataError, match=r"mine: .*mine.jsonl has changed: sha256 \w+, the config says 00"):
        run(config({**declared, "sha256": "00"}), tmp_path)
    with pytest.raises(DataError, match=r"mine: .*nowhere: no such file \(a relative path starts at execution.inputs"):
        run(config({**declared, "path": "nowhere"}), tmp_path)


def test_useless_lines_are_dropped_with_a_reason_and_limits_are_kept(tmp_path: Path) -> None:
    rows = [{"prompt": "p", "chosen": "a", "rejected": "a"}, {"prompt": "q", "chosen": "a", "rejected": " "}]
    rows += [{"chosen": chat("p", "a"), "rejected": chat("q", "a")}] + [{"prompt": "r", "chosen": "a", "rejected": "b"}] * 3
    packed = tmp_path / "pairs.jsonl.gz"
    packed.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    digest = hashlib.sha256(packed.read_bytes()).hexdigest()
    declared = {"name": "pairs", "path": packed.name, "sha256": digest, "licence": "MIT", "shape": "pairs"}
    metrics, _, comparisons, _ = run(config({**declared, "limit": 5}), tmp_path)
    assert len(comparisons) == 1
    assert [metrics[f"feedback/dropped/{reason}"] for reason in ("tie", "empty_completion", "different_prompts", "duplicate")] == [
        1,
        1,
        1,
        1,
    ]


def test_corpus_and_files_meet_in_the_same_files(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    held_out = tmp_path / "held_out"
    held_out.mkdir()
    shown = [("review", "the film", " was good"), ("dialog", "hello", "hi there")]
    (held_out / "demonstrations.jsonl").write_text(
        "".join(json.dumps({"id": k, "kind": k, "prompt": p, "completion": c, "split": "train"}) + "\n" for k, p, c in shown)
    )
    (held_out / "prompts.jsonl").write_text(json.dumps({"id": "m", "prompt": "the plot"}) + "\n")
    rows = [
        {"id": f"{s}{i}", "domain": "movie", "split": s, "text": f"{s} {i}", "votes": [i % 5, i % 4, i % 3, i % 5]}
        for s in ("reward", "gold", "test")
        for i in range(30)
    ]
    pq.write_table(pa.Table.from_pylist(rows), held_out / "ratings.parquet")
    drawn = {"domains": ["movie"], "test_domains": ["movie"], "completions": 4}
    votes = {**drawn, "reward": {"raters": "even", "passes": 1}, "gold": {"raters": "odd", "passes": 1}}
    made = config(file(tmp_path, "mine", "messages", [{"messages": chat("Q", "A")}]), votes=votes)
    metrics, demonstrations, comparisons, prompts = run(made, tmp_path, held_out)
    assert {(d.source, isinstance(d.prompt, str)) for d in demonstrations} == {("mine", False), ("corpus", True), ("corpus", False)}
    assert {c.split for c in comparisons} == {"reward", "gold", "test"}
    assert [p.prompt for p in prompts] == ["the plot"]
    made_of = [metrics[f"feedback/{key}"] for key in ("comparisons/reward", "comparisons/gold", "comparisons/test", "dropped/tied_votes")]
    assert sum(made_of) == 7 + 7 + 15 + 15
    own = config(file(tmp_path, "mine", "messages", [{"messages": chat("Q", "A")}]), from_corpus=False)
    _, demonstrations, comparisons, prompts = run(own, tmp_path, held_out)
    assert ({d.source for d in demonstrations}, comparisons, prompts) == ({"mine"}, [], [])
