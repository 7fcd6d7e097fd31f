"""One benchmark asked in several ways: letters for options without any, chat, and a conversation of two turns."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from modelyard.evals import ways
from modelyard.evals.asking import CUT_PROMPT, CUT_REPLY, cut
from modelyard.evals.benchmark import NOTHING_DRAWN, Benchmark
from modelyard.evals.catalog import code, short_answers
from modelyard.evals.catalog.choice import mmlu_explained, scored
from modelyard.evals.catalog.safety import mt_bench_turns
from modelyard.evals.item import Item
from modelyard.evals.methods import ask
from modelyard.evals.scorers import CODE_STOPS
from modelyard.evals.summary import summarise
from modelyard.evals.tools import SANDBOX, Tools, bound
from modelyard.formats.feedback import Message, Prompt
from modelyard.formats.json_file import parse
from modelyard.judges.sandbox.run import resolved
from modelyard.model.asked import Decoding, InChat, Sampled, conversation, ended, plain_turns
from tests.unit.judges.scripted import Scripted


class Talker(Scripted):
    """A model that answers conversations; ``heard`` holds them."""

    def __init__(self, say: Sequence[str]) -> None:
        super().__init__()
        self.lines = list(say)
        self.heard: list[Prompt] = []

    def reply(self, said: Sequence[Prompt], decoding: Decoding) -> list[Sampled]:
        self.heard += said
        return [Sampled([], [], [], f"{self.lines[len(conversation(one)) // 2]} {conversation(one)[0].content}", False) for one in said]

    def turn(self, said: Prompt) -> str:
        return plain_turns(said)


def options(count: int, right: int = 0) -> Benchmark:
    items = tuple(
        Item(id=f"q/{k}", fields={"question": f"Which {k}?"}, target="", choices=("ant", "bee", "cow", "dog"), right=(right,))
        for k in range(count)
    )
    made = scored("animals", items, "Question: {question}\nAnswer:", "acc_norm", {"": "unused"})
    return made.model_copy(update={"examples": {"": items[:1]}})


def test_options_get_letters_before_the_last_line_and_examples_too() -> None:
    made = ways.by_letter(options(3, right=2))

    first = "Question: Which 0?\nA. ant\nB. bee\nC. cow\nD. dog\nAnswer:"
    assert made.prompt_of(made.items[1]) == f"{ways.INSTRUCTION}{first} C\n\n{first.replace('0', '1')}"
    assert [item.target for item in made.items] == ["C", "C", "C"]
    assert made.question_of(made.items[1]) == "Which 1?", "what training sets are searched for stays"
    assert [made.score(made.parse(said), made.items[0]) for said in (" (C)", "**C**", "B", "C or D")] == [1.0, 1.0, 0.0, 0.0]


@pytest.mark.parametrize("said", ["Dr. Seuss", "\nDr. Seuss.", "The answer is **Dr. Seuss**.", "Answer: Dr. Seuss\nHe wrote it in 1957."])
def test_short_answer_of_a_chat_model_is_what_its_first_line_says(said: str) -> None:
    asked = short_answers.Asked("", "Who wrote it", "", (("Dr. Seuss",),))
    plain = short_answers.drawn(
        "trivia_qa",
        [short_answers.item("trivia_qa/0", asked)],
        short_answers.FORMS["trivia_qa"],
        {"": "Question: Where?\nAnswer: Rome\n\n"},
    )
    made = ways.in_chat(plain, True)

    assert made.score(made.parse(said), made.items[0]) == 1.0
    assert made.prompt_of(made.items[0]).startswith(f"{ways.SHORTLY}Question: Where?")
    assert (plain.decoding.stops, made.decoding.stops) == (("\n", ".", ","), ())


def test_note_says_whether_prompt_or_reply_was_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    model, asked = Talker(["A"]), ways.asked(options(3), "letter", True)
    cuts = iter([(False, True), (False, False), (True, False)])
    said = lambda prompts, decoding: [Sampled([], [], [], "A", *next(cuts)) for _ in prompts]  # noqa: E731
    monkeypatch.setattr(model, "reply", said)

    records = ask(model, asked, Tools())

    assert [record.note for record in records] == ["", "reply cut", "prompt cut; reply cut"]
    assert (cut(records, CUT_PROMPT), cut(records, CUT_REPLY)) == (1, 2)


def test_note_of_a_judged_reply_says_what_the_judge_said_and_that_it_was_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    model, judge = Talker([]), Scripted(say=lambda prompt: "[[4]]")
    item = Item(id="q/0", fields={"question": "One?", "follow_up": "Two?", "reference_1": "", "reference_2": ""}, target="")
    drawn = options(1).model_copy(update={"items": (item,), "parser": "rating", "decoding": ways.LETTER, "scorer": "tenths", "chat": True})
    ways_of = {"judge": "{question} {answer}", "turns": "{conversation} {reply} {reference}"}
    ends = iter([False, False, True])  # of one reply, and of two turns
    monkeypatch.setattr(model, "reply", lambda prompts, decoding: [Sampled([], [], [], "A", False, next(ends))])

    asked = [drawn.model_copy(update={"method": method, "closing": closing}) for method, closing in ways_of.items()]
    records = [record for one in asked for record in ask(model, bound(one, Tools(judge=judge)), Tools(judge=judge))]

    assert [record.note for record in records] == ["[[4]]; reply cut", "[[4]]\n\n[[4]]; reply cut"]
    assert cut(records, CUT_REPLY) == 2


def test_right_options_that_always_come_first_are_shuffled_the_same_way_each_time() -> None:
    made = ways.by_letter(options(40))

    assert made == ways.by_letter(options(40))
    assert {item.target for item in made.items} == set("ABCD")
    for item in made.items:
        assert f"\n{item.target}. ant\n" in item.fields["asked"] + "\n"


def test_every_way_has_an_id_of_its_own() -> None:
    plain = options(2, right=1)
    made = [ways.asked(plain, choose_by, chat) for choose_by in ("likelihood", "letter") for chat in (False, True)]

    assert len({one.id for one in made}) == 4
    assert made[0].id == plain.id, "the way it was asked before keeps its id"
    assert made[1].delimiter == "", "an open turn is followed by the answer itself"
    assert made[3].decoding.stops == (), "a chat model may begin with a line of its own"


def test_program_that_goes_on_from_its_prompt_ends_where_a_statement_begins_and_in_chat_by_itself(tmp_path: Path) -> None:
    (tmp_path / "human_eval").mkdir()
    row = dict.fromkeys(code.PROBLEM, "x")
    (tmp_path / "human_eval" / "HumanEval.jsonl").write_text(json.dumps(row) + "\n")
    plain = code.human_eval(tmp_path, None)
    chat = ways.asked(plain, None, True)

    assert plain.decoding.stops == CODE_STOPS
    assert chat.decoding.stops == ()
    assert ways.asked(chat, None, False).id == plain.id

    limits = {how: SANDBOX.model_copy(update={"isolation": how}) for how in ("namespaces", "seccomp", "available")}
    ids = {how: bound(plain, Tools(sandbox=one)).id for how, one in limits.items()}
    assert ids["namespaces"] != ids["seccomp"], "scores from either are not compared"
    assert ids["available"] == ids[resolved(limits["available"]).isolation], "what ran is what is named"


@pytest.mark.parametrize(
    ("change", "choose_by", "chat", "message"),
    [
        (
            {"items": (Item(id="q", fields={"question": "x"}, target="", choices=("a", "b"), right=(0, 1)),)},
            "letter",
            None,
            "q has several right",
        ),
        ({"method": "loss", "decoding": NOTHING_DRAWN}, None, True, "scores whole texts, so it has no chat form"),
        ({"method": "contexts"}, None, True, "ask it by letter"),
        ({"method": "generate"}, "letter", None, "does not choose by likelihood"),
    ],
)
def test_way_without_meaning_is_refused(change: dict, choose_by: ways.ChooseBy, chat: bool, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ways.asked(options(1, right=1).model_copy(update=change), choose_by, chat)


WORKED = "Take each in turn.\n\nAnts are small.\n\nSo it is the dog."


class Reasoner(Scripted):
    """Reasons in paragraphs and goes on to a next question, as base models do; its answer is the dog's letter once its reasons named it."""

    def __init__(self, runs_on: str, answer: str = "D") -> None:
        super().__init__()
        self.runs_on, self.answer = runs_on, answer

    def complete(self, prompts: Sequence[str], decoding: Decoding) -> list[Sampled]:
        self.asked += prompts
        if prompts[0].endswith("\nThe answer is"):
            reasons = [prompt.removesuffix("\nThe answer is").rstrip() for prompt in prompts]
            finals = [f" {self.answer if text.endswith(WORKED) else 'A'}\n\nQuestion: Tom has 15" for text in reasons]
            return [Sampled([], [], [], ended(final, decoding.stops), False) for final in finals]
        return [Sampled([], [], [], ended(f" {WORKED}{self.runs_on}", decoding.stops), False) for _ in prompts]


def test_explained_reply_with_a_blank_line_before_its_answer_is_read() -> None:
    benchmark = ways.asked(options(2, right=3), "letter", None, explain=True)

    found = ask(Reasoner("Question: Which 7?\nA. ant"), benchmark, Tools())

    assert benchmark.decoding.stops == ("Question:",)
    assert [(one.parsed, one.score) for one in found] == [("D", 1.0), ("D", 1.0)]
    assert found[0].output == f" {WORKED}\nThe answer is D"


@pytest.mark.parametrize(("thought", "parsed"), [("<think>A? No.</think>", "D"), ("<think>D. But", "")])
def test_thoughts_are_no_explanation_and_cut_ones_give_no_answer(thought: str, parsed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Reasoner("")
    plain = model.complete

    def thinking(prompts: Sequence[str], decoding: Decoding) -> list[Sampled]:
        (said,) = plain(prompts, decoding)
        begun = "" if prompts[0].endswith("\nThe answer is") else thought
        return [said._replace(text=begun + (said.text if begun in ("", "<think>A? No.</think>") else ""))]

    monkeypatch.setattr(model, "complete", thinking)
    (found,) = ask(model, ways.asked(options(1, right=3), "letter", None, explain=True), Tools())

    assert (found.parsed, found.score) == (parsed, float(bool(parsed)))
    assert "<think>" not in model.asked[-1]
    assert thought in found.output


@pytest.mark.parametrize(
    ("parser", "scorer", "target", "answer"),
    [
        ("stated_answer", "exact", "(B)", "(B)."),
        ("math_answer", "equivalent", "5", "$5$. I hope it is correct."),
        ("final_number", "same_number", "72", "72."),
        ("whole", "any_exact", '["Paris"]', "Paris."),
        ("letter", "exact", "B", "B."),
        ("letter", "exact", "B", ": B"),
    ],
)
def test_explained_answer_is_read_by_every_parser_up_to_the_end_of_its_line(parser: str, scorer: str, target: str, answer: str) -> None:
    item = Item(id="q/0", fields={"question": "Which?"}, target=target)
    drawn = scored("own", (item,), "Question: {question}\nAnswer:", "acc", {})
    drawn = drawn.model_copy(update={"method": "generate", "parser": parser, "scorer": scorer, "decoding": ways.LETTER})

    (found,) = ask(Reasoner("", answer), ways.asked(drawn, None, None, explain=True), Tools())

    assert found.score == 1.0, found.parsed


def test_more_options_than_letters_are_refused_and_eleven_are_not_many() -> None:
    def of(count: int) -> Benchmark:
        made = options(1)
        many = made.items[0].model_copy(update={"choices": tuple(f"name{k}" for k in range(count))})
        return made.model_copy(update={"items": (many,), "examples": {}})

    (asked,) = ways.by_letter(of(13)).items
    assert (len(asked.choices), asked.fields["asked"].count("name")) == (13, 13)
    with pytest.raises(ValueError, match="q/0 has 14 options, and there are 13 letters"):
        ways.by_letter(of(14))


@pytest.mark.parametrize(
    ("prompt", "stops"),
    [
        ("Question: {question}\nAnswer:", ("Question:",)),
        ("Frage\uff1a{question}\nAntwort\uff1a", ("Frage\uff1a",)),
        ("{question}\nAnswer:", ("Question:", "\nAnswer:")),
        ("{question}", ("Question:",)),
    ],
)
def test_explanation_ends_where_a_next_question_opens_never_at_a_blank_line(prompt: str, stops: tuple[str, ...]) -> None:
    items = tuple(Item(id=f"q/{k}", fields={"question": text}, target="x") for k, text in enumerate(("Which: a?", "So, which: b?")))
    drawn = scored("own", items, prompt, "acc", {}).model_copy(update={"method": "generate"})

    assert ways.explained(drawn).decoding.stops == stops


def test_mmlu_explained_opens_every_question_with_the_word_that_ends_a_reply(tmp_path: Path) -> None:
    (tmp_path / "mmlu").mkdir()
    row = '{"question": "Which?", "choices": ["a", "b", "c", "d"], "answer": 3, "subject": "birds"}\n'
    for name in ("test", "fewshot"):
        (tmp_path / "mmlu" / f"{name}.jsonl").write_text(row)
    benchmark = mmlu_explained(tmp_path, 1)

    (found,) = ask(Reasoner("\n\nQuestion: Which?"), benchmark, Tools())

    assert found.prompt.count("\n\nQuestion: Which?\nA. a\n") == 2
    assert (found.parsed, found.score) == ("D", 1.0)


def test_second_turn_follows_the_models_own_first_reply_and_both_are_rated(tmp_path: Path) -> None:
    folder = tmp_path / "mt_bench"
    folder.mkdir()
    (folder / "question.jsonl").write_text('{"question_id": 1, "category": "math", "turns": ["One?", "Two?"]}\n')
    (folder / "gpt-4.jsonl").write_text('{"question_id": 1, "choices": [{"turns": ["It is 1.", "It is 2."]}]}\n')
    model, judge = Talker(["first of", "second of"]), Scripted(say=lambda prompt: "[[9]]" if "It is 1." in prompt else "fair [[4]]")
    tools = Tools(judge=judge)

    benchmark = bound(mt_bench_turns(tmp_path, None), tools)
    (record,) = ask(model, benchmark, tools)

    talk = (Message(role="user", content="One?"), Message(role="assistant", content="first of One?"), Message(role="user", content="Two?"))
    assert model.heard == ["One?", talk]
    assert record.prompt == "User: One?\nAssistant: first of One?\nUser: Two?\nAssistant:"
    assert (record.output, record.score, record.values["rating_1"], record.values["rating_2"]) == ("second of One?", 0.65, 0.9, 0.4)
    assert "User: One?\n\nAssistant: first of One?\n\nUser: Two?\n\nLast reply:\nsecond of One?" in judge.asked[1]
    assert "It is 2." in judge.asked[1]
    assert "Two?" not in judge.asked[0]
    assert list(summarise(benchmark, [record])) == ["rating", "rating_1", "rating_2", "parsed"]
    assert benchmark.id != bound(mt_bench_turns(tmp_path, None), Tools(judge=InChat(judge))).id, "a judge in chat is another judge"
    assert parse(benchmark.model_dump_json(), "x")["method"] == "turns"
