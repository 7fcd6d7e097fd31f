"""What users say reaches the next line's feedback if they agreed, and goes again when they withdraw."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from modelyard.commands.app import main
from modelyard.data.feedback import gather
from modelyard.data.feedback.config import FeedbackConfig
from modelyard.formats.feedback import Comparison, Demonstration, Message, PromptRecord, Thumb, records
from modelyard.formats.flags import flags_of
from modelyard.progress import silent
from modelyard.serving.book import Book, Entry, Opinion, UnknownAnswerError
from modelyard.store.artifacts import Store
from modelyard.store.manifest import Spec
from tests.unit import small_model
from tests.unit.serving.running import Server
from tests.worlds.imported import TEMPLATE
from tests.worlds.line import PLAIN

SAID = "Mail ada@example.org what is red"


def entry(receipt: str, user: str = "u", *, consent: bool = False) -> Entry:
    prompt = (Message(role="user", content=SAID),)
    return Entry(receipt, user, "m", "fp_1", prompt, "Call +1 202-456-1111 now", "stop", consent)


def test_book_keeps_no_personal_data_and_forgets_whoever_did_not_agree(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/book.db"
    book = Book(url, retention_hours=1e-9)
    book.note(entry("kept", consent=True))
    book.note(entry("short"))
    time.sleep(0.01)
    book.note(entry("other", consent=True))
    assert [one.entry.receipt for one in book.agreed()] == ["kept", "other"]
    assert book.agreed()[0].entry.prompt[0].content == "Mail [EMAIL] what is red"
    assert book.agreed()[0].entry.reply == "Call [PHONE] now"
    assert b"ada@example" not in (tmp_path / "book.db").read_bytes()
    with pytest.raises(UnknownAnswerError, match="no answer short of this user is kept"):
        book.hear("short", Opinion("up", False, "", ""), "u", True)


def test_consent_may_be_given_later_by_the_same_user_and_withdrawn_with_all_that_was_said(tmp_path: Path) -> None:
    book = Book(f"sqlite:///{tmp_path}/book.db")
    book.note(entry("a"))
    book.note(entry("b", "other", consent=True))
    assert [one.entry.receipt for one in book.agreed()] == ["b"]
    with pytest.raises(UnknownAnswerError):
        book.hear("a", Opinion("up", False, "", ""), "somebody", True)
    book.hear("a", Opinion("down", True, "It is ada@example.org", "no"), "u", True)
    (found,) = [one for one in book.agreed() if one.entry.receipt == "a"]
    assert found.opinions == [Opinion("down", True, "It is [EMAIL]", "no")]
    assert book.withdraw("u") == ["a"]
    assert [one.entry.receipt for one in book.agreed()] == ["b"]
    assert book.withdraw("u") == []


def test_book_knows_whose_traces_are_still_to_be_removed_when_the_answers_time_is_over(tmp_path: Path) -> None:
    book = Book(f"sqlite:///{tmp_path}/book.db", retention_hours=1e-9)
    for receipt, user in (("a", "u"), ("b", "u"), ("c", "other")):
        book.note(entry(receipt, user, consent=True))
        book.hear(receipt, Opinion(None, False, "", ""), user, False)
    time.sleep(0.01)
    book.note(entry("kept", consent=True))
    assert sorted(book.withdrawn()) == ["a", "b", "c"]
    book.removed(["b"])
    assert book.receipts("u") == ["kept", "a"]
    assert book.withdraw("u") == ["kept"]
    assert (book.receipts("u"), book.withdrawn()) == ([], ["c"])


def test_book_that_many_write_at_once_loses_nothing(tmp_path: Path) -> None:
    book = Book(f"sqlite:///{tmp_path}/book.db")

    def write(number: int) -> None:
        book.note(entry(f"r{number}", consent=True))
        book.hear(f"r{number}", Opinion("up", False, "", ""), "u", None)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(60)))
    assert sorted(one.entry.receipt for one in book.agreed()) == sorted(f"r{number}" for number in range(60))
    assert all(len(one.opinions) == 1 for one in book.agreed())


def test_book_that_cannot_be_opened_is_named_without_its_password() -> None:
    with pytest.raises(ValueError, match="postgresql://") as said:
        Book("postgresql://u:secret@127.0.0.1:1/x")
    assert "secret" not in str(said.value)


@pytest.mark.integration
def test_prompts_and_flags_of_a_served_model_stand_in_the_next_lines_feedback_until_their_user_withdraws(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    small_model.write(tmp_path)
    settings = tmp_path / "hf" / "tokenizer_config.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "chat_template": TEMPLATE}))
    url = f"sqlite:///{tmp_path}/book.db"
    with monkeypatch.context() as away:  # a tracking server that nobody answers at holds no answer
        away.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
        away.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        server = Server(tmp_path / "hf", "--book", url, "--traces", "said", directory=tmp_path)
    given = {"model": "hf", "max_tokens": 12, "temperature": 0}

    def ask(text: str, user: str, *, store: bool) -> str:
        messages = [{"role": "user", "content": text}]
        answer = server.client.chat.completions.create(messages=messages, user=user, store=store, stream=True, **given)
        return [chunk.id for chunk in answer][-1]

    agreed, silent_user = ask("Which is red?", "ann", store=True), ask("Which is blue?", "bob", store=False)
    told = {"id": agreed, "user": "ann", "not_factual": True, "better": "The king.", "rating": "down"}
    assert httpx.post(f"{server.url}/feedback", json=told).json() == {"id": agreed, "object": "feedback", "kept": True}
    assert httpx.post(f"{server.url}/feedback", json={**told, "user": "eve"}).status_code == 404
    assert httpx.post(f"{server.url}/feedback", json={**told, "stars": 5}).status_code == 400
    assert server.end() == (0, "")

    assert main(["feedback", "--book", url, "--out", str(tmp_path / "said")]) == 0
    listed = {Path(line.split()[0]).name: line.split() for line in capsys.readouterr().out.splitlines()}
    assert {name: int(words[1]) for name, words in listed.items()} == {
        "prompts.jsonl": 1,
        "demonstrations.jsonl": 1,
        "comparisons.jsonl": 1,
        "thumbs.jsonl": 1,
        "flags.jsonl": 1,
    }
    shapes = {"prompts": "prompts", "demonstrations": "messages", "comparisons": "pairs", "thumbs": "thumbs", "flags": "flags"}
    files = [
        {
            "name": name,
            "path": f"said/{name}.jsonl",
            "sha256": listed[f"{name}.jsonl"][-1],
            "licence": "own",
            "shape": shape,
            "source": "user",
        }
        for name, shape in shapes.items()
    ]
    config = FeedbackConfig.model_validate(
        {
            "seed": 0,
            "from_corpus": False,
            "files": files,
            "splits": {"held_out": 0.0, "gold": 0.0, "held_out_raters": 0.0},
            "pii": {"kinds": ["email"], "region": "US"},
            "prefix_characters": 60,
            "prompts_per_user": 9,
        }
    )
    store = Store(f"file://{tmp_path}/store", str(tmp_path / "scratch"))

    def produce(out: Path, _: Path) -> dict[str, float]:
        return gather.run(config, {}, out, silent, [str(tmp_path)])

    made = store.build(Spec("feedback", PLAIN, {}, "code"), produce).artifact
    held = store.fetch(made)
    (prompt,), (shown,) = records(held / "prompts.jsonl", PromptRecord), records(held / "demonstrations.jsonl", Demonstration)
    (compared,) = records(held / "comparisons.jsonl", Comparison)
    assert prompt.prompt[0].content == shown.prompt[0].content == "Which is red?"
    assert agreed in prompt.id
    assert shown.completion == compared.completions[0] == "The king."
    (thumb,) = records(held / "thumbs.jsonl", Thumb)
    assert (thumb.label, thumb.rater, thumb.completion) == (False, "ann", compared.completions[1])
    (flag,) = flags_of(held)
    assert (flag.factual, flag.correction, flag.rater, flag.completion) == (False, "The king.", "ann", thumb.completion)
    assert agreed in flag.id
    assert silent_user not in (tmp_path / "said" / "prompts.jsonl").read_text()

    after = store.build(Spec("sft", PLAIN, {"feedback": made}, "code"), lambda out, _: {}).artifact

    def shown_to_a_teacher(out: Path, _: Path) -> dict[str, float]:
        (out / "instructions.jsonl").write_text(json.dumps({"id": "instructions/0", "shown": [f"prompts-{agreed}"]}) + "\n")
        return {}

    taught = store.build(Spec("instructions", PLAIN, {}, "code"), shown_to_a_teacher).artifact
    assert main(["feedback", "--book", url, "--withdraw", "ann", "--store", f"file://{tmp_path}/store"]) == 0
    said = capsys.readouterr().out
    assert f"held by {taught.ref}" in said
    assert "1 answers removed" in said
    assert f"held by {made.ref}" in said
    assert f"held by {after.ref}" in said
    assert main(["feedback", "--book", url]) == 2
