"""Judges: what is asked, how a judge's love of places is averaged and divided out, and the same answer from a directory and a server."""

import json
import math
import shutil
from pathlib import Path

import pytest
from pydantic import ValidationError

from modelyard.execution import ExecutionConfig
from modelyard.judges.agreement import measure
from modelyard.judges.judge import Asking, Judge, Response, answering
from modelyard.judges.open_judge import JudgeConfig, open_judge
from modelyard.judges.rubric import Example, Rubric
from modelyard.model.asked import InChat
from modelyard.model.endpoint import Endpoint
from modelyard.model.subject import Subject
from tests.unit import small_model
from tests.unit.completions_server import scripted, serving

from .scripted import Scripted, biased, listed

RUBRIC = Rubric.model_validate(
    {
        "name": "colour",
        "version": 1,
        "question": "Which colour does the response name?",
        "shows_prompt": True,
        "options": [{"name": name, "text": name.capitalize()} for name in ("red", "green", "blue")],
        "values": {"answer": {"red": 1, "green": 0, "blue": -1}},
    }
)
RESPONSES = [Response("say red", "It is red."), Response("say blue", "It is blue."), Response("say red", "It is green.")]
ALL_WAYS: list[tuple[int, str]] = [(1, "none"), (1, "nothing"), (3, "none"), (3, "nothing")]


def knows(context: str, option: str) -> float:
    """2 nats for the colour that the response names."""
    return 2.0 * (f"It is {option.lower()}." in context)


def asking(orders: int, calibrate: str, chat: bool = False, shots: int = 0) -> Asking:
    return Asking.model_validate({"orders": orders, "calibrate": calibrate, "chat": chat, "shots": shots})


@pytest.mark.parametrize(("orders", "calibrate"), ALL_WAYS)
def test_judge_without_bias_gives_its_probabilities_however_it_is_asked(orders: int, calibrate: str) -> None:
    judge = Judge(Scripted(biased(knows, "")), asking(orders, calibrate))

    found = judge.classify(RUBRIC, RESPONSES)

    right, wrong = math.exp(2) / (math.exp(2) + 2), 1 / (math.exp(2) + 2)
    for line, named in zip(found, (0, 2, 1), strict=True):
        assert line == pytest.approx([right if option == named else wrong for option in range(3)])


def test_judge_that_loves_the_first_place_is_wrong_as_written_and_right_when_turned_or_calibrated() -> None:
    model = Scripted(biased(knows, "A"))
    best = {way: [line.index(max(line)) for line in Judge(model, asking(*way)).classify(RUBRIC, RESPONSES)] for way in ALL_WAYS}

    assert best[1, "none"] == [0, 0, 0]
    assert best[1, "nothing"] == best[3, "nothing"] == [0, 2, 1]
    exact = Judge(model, asking(3, "nothing")).classify(RUBRIC, RESPONSES)
    assert exact[1] == pytest.approx([1 / (math.exp(2) + 2)] * 2 + [math.exp(2) / (math.exp(2) + 2)]), (
        "a bias that always is there goes whole"
    )
    turned = Judge(model, asking(3, "none")).classify(RUBRIC, RESPONSES)
    assert turned[1][2] > max(turned[1][:2])
    assert turned[1][0] == pytest.approx(turned[1][1])


def test_judge_question_shows_prompt_response_and_lettered_options() -> None:
    model = Scripted()
    Judge(model, asking(2, "none")).classify(RUBRIC, [Response("say red", "  It is red. ")])
    Judge(model, asking(1, "none")).classify(RUBRIC.model_copy(update={"shows_prompt": False}), [Response("secret", "")])

    assert model.asked[0] == (
        "Which colour does the response name?\nA. Red\nB. Green\nC. Blue\n\nUser's message:\nsay red\n\nResponse:\nIt is red.\n\nAnswer:"
    )
    assert listed(model.asked[1]) == {"A": "Green", "B": "Blue", "C": "Red"}
    assert "secret" not in model.asked[2]
    assert "Response:\n(empty)" in model.asked[2]


LABELLED = RUBRIC.model_copy(
    update={
        "examples": tuple(
            Example(prompt=f"p{i}", stance="answer", responses={name: f"It is {name}. {i}" for name in ("red", "green", "blue")})
            for i in range(3)
        )
    }
)


def test_judge_shown_examples_reads_their_letters_in_every_order_and_is_not_measured_on_them() -> None:
    model = Scripted(biased(lambda context, option: 2.0 * (f"It is {option.lower()}." in context.rpartition("Response:")[2]), ""))
    judge = Judge(model, asking(3, "none", shots=1))

    found = measure(judge, LABELLED, seed=0)

    assert found.n == 6
    assert found.accuracy == 1.0
    for by, letters in enumerate(({"red": "A", "green": "B", "blue": "C"}, {"red": "C", "green": "A", "blue": "B"})):
        for name, letter in letters.items():
            assert f"Response:\nIt is {name}. 0\n\nAnswer: {letter}" in model.asked[by]
    assert not any("It is red. 0" in context.rpartition("Response:")[2] for context in model.asked)
    with pytest.raises(ValueError, match="no labelled examples that the judge is not shown"):
        measure(Judge(model, asking(3, "none", shots=3)), LABELLED, seed=0)
    with pytest.raises(ValueError, match="no labelled example is left to calibrate the judge on"):
        Judge(model, asking(3, "examples", shots=3)).classify(LABELLED, RESPONSES)


def test_judge_bias_over_labelled_examples_is_divided_out_where_nothing_gives_another_bias() -> None:
    def likes_green_of_responses(context: str, option: str) -> float:
        """A love of an option, which turning cannot mend and an empty response does not show."""
        last = context.rpartition("Response:")[2]
        return 2.0 * (f"It is {option.lower()}." in last) + 3.0 * (option == "Green" and "N/A" not in last)

    model = Scripted(biased(likes_green_of_responses, ""))
    best = {
        way: [line.index(max(line)) for line in Judge(model, asking(3, way)).classify(LABELLED, RESPONSES)]
        for way in ("none", "nothing", "examples")
    }

    assert best == {"none": [1, 1, 1], "nothing": [1, 1, 1], "examples": [0, 2, 1]}


def test_judge_bias_is_asked_once() -> None:
    model = Scripted()
    judge = Judge(model, asking(3, "nothing"))
    judge.classify(RUBRIC, RESPONSES)
    judge.classify(RUBRIC, RESPONSES[:1])

    assert sum("N/A" in context for context in model.asked) == 3
    assert judge.classify(RUBRIC, []) == []


def test_judge_identity_is_weights_and_way_of_asking() -> None:
    other = Scripted()
    other.weights = "4567"
    identities = [
        Judge(Scripted(), asking(1, "nothing")).identity,
        Judge(other, asking(1, "nothing")).identity,
        Judge(Scripted(), asking(2, "nothing")).identity,
    ]

    assert len(set(identities)) == 3
    assert Judge(Scripted(), asking(1, "nothing")).identity == identities[0]


def test_judge_with_an_edited_chat_template_is_another_judge(directory: Path, tmp_path: Path) -> None:
    known = []
    for number, closing in enumerate(("\n", " \n")):
        copied = shutil.copytree(directory, tmp_path / str(number))
        settings = json.loads((copied / "tokenizer_config.json").read_text())
        template = "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}" + closing + "{% endfor %}"
        (copied / "tokenizer_config.json").write_text(json.dumps({**settings, "chat_template": template}))
        model = Subject.open("x", copied, ExecutionConfig(threads=1), 4)
        known.append((model.weights, Judge(model, asking(1, "nothing")).identity, answering(model), answering(InChat(model))))

    (weights, *one), (same_weights, *other) = known
    assert weights == same_weights
    assert not set(one) & set(other)


def test_judge_ways_of_asking_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"orders\n  Input should be greater than or equal to 1"):
        asking(0, "nothing")
    with pytest.raises(ValueError, match="scripted: its chat template is not known"):
        Judge(Scripted(), asking(1, "nothing", chat=True))


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small real model as a Hugging Face directory."""
    root = tmp_path_factory.mktemp("judge")
    small_model.write(root, seq_len=512)
    return root / "hf"


@pytest.mark.parametrize("chat", [False, True])
def test_judge_behind_a_server_gives_the_directorys_probabilities(
    chat: bool, directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelyard.model.endpoint.WORKERS", 1)
    execution = ExecutionConfig(threads=1)
    config = {"orders": 2, "calibrate": "nothing", "shots": 0, "chat": chat}
    if chat:
        directory = shutil.copytree(directory, tmp_path / "hf")
        settings = json.loads((directory / "tokenizer_config.json").read_text())
        template = (
            "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}\n{% endfor %}{% if add_generation_prompt %}[assistant]:{% endif %}"
        )
        (directory / "tokenizer_config.json").write_text(json.dumps({**settings, "chat_template": template}))
    local = Subject.open("x", directory, execution, 4)
    here = Judge(local, asking(2, "nothing", chat=chat)).classify(RUBRIC, RESPONSES)
    with serving(local, only="chat/completions" if chat else "completions") as url:
        monkeypatch.setenv("MODELYARD_JUDGE", url)
        monkeypatch.setattr(Endpoint, "__init__", _quick(Endpoint.__init__))
        judge = open_judge(JudgeConfig(kind="endpoint", model="tiny", **config), execution, lambda: local)
        there = judge.classify(RUBRIC, RESPONSES)
        assert judge.classify(RUBRIC, []) == []
    for ours, theirs in zip(here, there, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-4)
        assert sum(ours) == pytest.approx(1)
        assert max(ours) - min(ours) > 1e-3, "a judge without opinions would pass whatever it is"

    monkeypatch.setenv("MODELYARD_JUDGE", str(directory))
    opened = open_judge(JudgeConfig(kind="directory", weights=local.weights[:12], **config), execution, lambda: local)
    assert opened.classify(RUBRIC, RESPONSES) == here
    with pytest.raises(ValueError, match=rf"its weights are {local.weights[:16]}, not judge.weights abcdabcd"):
        open_judge(JudgeConfig(kind="directory", weights="abcdabcd", **config), execution, lambda: local)
    policy = open_judge(JudgeConfig(kind="policy", **config), execution, lambda: local)
    assert policy.classify(RUBRIC, RESPONSES) == here


@pytest.mark.parametrize("chat", [True, False])
def test_letter_of_a_reply_is_the_answer_of_a_judge_whose_server_keeps_probabilities_to_itself(
    chat: bool, caplog: pytest.LogCaptureFixture
) -> None:
    said = {"red.": "The answer is **{}**", "blue.": "<think>A or B?</think>{}.", "green.": "I cannot say."}

    def reply(question: str) -> str:
        colour = next(name for name in said if f"It is {name}" in question)
        letter = next(mark for mark, option in listed(question).items() if option.lower() == colour[:-1])
        return said[colour].format(letter)

    with scripted(lambda question: (reply(question), "stop")) as url:
        model = Endpoint(f"{url}#hosted") if chat else Scripted(say=reply)
        judge = Judge(model, Asking(orders=3, calibrate="none", shots=0, chat=chat, choose_by="letter"))
        assert judge.classify(RUBRIC, RESPONSES) == [[1, 0, 0], [0, 0, 1], pytest.approx([1 / 3] * 3)]
        if chat:
            with pytest.raises(ValueError, match=r'gives no log-probabilities of a reply; read what hosted says: choose_by = "letter"'):
                Judge(model, asking(3, "none", chat=True)).classify(RUBRIC, RESPONSES)
    assert (judge.replies, judge.no_letter, judge.unread["no_letter"]) == (9, 3, pytest.approx(1 / 3))
    assert f"{model.name}: 3 of 9 replies name none of A, B, C; these questions stay open" in caplog.text


def test_long_list_of_questions_is_put_in_parts_and_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    responses = [RESPONSES[number % 3] for number in range(10)]
    whole = Judge(Scripted(biased(knows, "A")), asking(3, "nothing")).classify(RUBRIC, responses)
    monkeypatch.setattr("modelyard.judges.judge.TOGETHER", 4)
    judge = Judge(Scripted(biased(knows, "A")), asking(3, "nothing"))
    told: list[tuple[int, int]] = []
    judge.report = lambda done, total, metrics={}, unit="step": told.append((done, total))  # type: ignore[assignment]
    assert judge.classify(RUBRIC, responses) == whole
    assert told == [(4, 10), (8, 10), (10, 10)]


def test_judge_that_cannot_decide_agrees_with_nobody() -> None:
    silent = Judge(Scripted(say=lambda prompt: "Hm."), Asking(orders=1, calibrate="none", shots=0, chat=False, choose_by="letter"))
    labelled = tuple(Example(prompt=colour, stance="answer", responses={colour: colour}) for colour in ("red", "blue"))
    assert measure(silent, RUBRIC.model_copy(update={"examples": labelled}), seed=0).accuracy == 0


def test_bias_of_a_letter_without_probability_is_refused() -> None:
    with pytest.raises(ValidationError, match="calibrate 'nothing' divides probabilities, and a letter of a reply has none"):
        Asking(orders=1, calibrate="nothing", shots=0, chat=True, choose_by="letter")
    with pytest.raises(ValidationError, match="max_new_tokens: is of choose_by 'letter'"):
        Asking(orders=1, calibrate="none", shots=0, chat=True, max_new_tokens=512)


def _quick(init: object) -> object:
    """The endpoint without its waiting between tries."""
    return lambda self, url: init(self, url, pause=0.0)  # type: ignore[operator]


def test_model_cut_over_ranks_is_asked_by_the_training_forward(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    local = Subject.open("x", directory, ExecutionConfig(threads=1), 4)
    long = " the king" * 400  # longer than the context: read in windows
    questions = [[("the king of the castle", " A"), ("the king of the castle", " B")], [("a film", " A")], [("", long)]]
    whole = local.likelihoods(questions)

    monkeypatch.setattr(Subject, "split", True)
    slow = local.likelihoods(questions)

    for ours, theirs in zip(whole, slow, strict=True):
        assert [one.total for one in theirs] == pytest.approx([one.total for one in ours], rel=1e-6, abs=1e-4)
        for one in theirs:
            with pytest.raises(ValueError, match="cut over several ranks"):
                _ = one.greedy


def test_judge_that_is_nowhere_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MODELYARD_JUDGE", raising=False)
    config = JudgeConfig(kind="endpoint", model="tiny", orders=1, calibrate="none", shots=0, chat=False)
    with pytest.raises(ValueError, match="the environment variable MODELYARD_JUDGE must say where the judge is"):
        open_judge(config, ExecutionConfig(), lambda: pytest.fail("not asked for"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "endpoint"}, "model: names the model of an endpoint"),
        ({"kind": "policy", "model": "x"}, "model: names the model of an endpoint"),
        ({"kind": "directory"}, "weights: the fingerprint"),
    ],
)
def test_judge_config_half_named_is_refused(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        JudgeConfig.model_validate(json.loads(json.dumps({"orders": 1, "calibrate": "nothing", "shots": 0, "chat": False, **settings})))
