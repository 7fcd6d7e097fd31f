"""Asking for text: how a model is asked, and what becomes of the replies: records.

``generate`` judges text as a user sees it; ``explain`` draws an explanation and then asks for the letter at temperature 0
(GPT-4 report, appendix A); ``code`` runs tests; ``judge`` lets another model rate, ``turns`` each of the two replies of a
conversation; ``toxicity`` lets a classifier judge, ``scalar`` a scorer model. The function ``ask_{method}`` is what runs and
what a benchmark's id hashes; :mod:`modelyard.evals.methods` calls it by name. Left out: conversations of more than two turns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from modelyard.evals.benchmark import Benchmark
from modelyard.evals.item import Item
from modelyard.evals.metrics import repetition
from modelyard.evals.recorder import Recorder
from modelyard.evals.tools import TOXIC, Tools
from modelyard.formats.feedback import Message, Prompt
from modelyard.formats.records import Record
from modelyard.judges.judge import asked_once
from modelyard.judges.replies.thoughts import without_thoughts
from modelyard.judges.sandbox.run import Program
from modelyard.model.asked import Decoding, Model, Sampled, together

CUT_PROMPT, CUT_REPLY = "prompt cut", "reply cut"
"""What a record's note says of a prompt that lost its beginning, and of a reply that lost its end."""


def shown(model: Model, benchmark: Benchmark, item: Item) -> str:
    """The text that the model is shown."""
    return model.turn(said(benchmark, item)) if benchmark.chat else benchmark.prompt_of(item)


def said(benchmark: Benchmark, item: Item) -> Prompt:
    """What a user says: a text, or a message that holds images."""
    parts = benchmark.parts_of(item)
    return parts if isinstance(parts, str) else (Message(role="user", content=parts),)


def put(benchmark: Benchmark, item: Item) -> Prompt:
    """What the model continues: :func:`shown`, before the model's own encoder renders it."""
    parts = benchmark.parts_of(item)
    return (Message(role="user", content=parts),) if benchmark.chat else parts


def drawn(model: Model, benchmark: Benchmark) -> list[tuple[int, Item, Sampled]]:
    """(sample number, item, output) of every output; each sample number has a seed of its own."""
    draw = model.reply if benchmark.chat else model.complete
    prompts = [said(benchmark, item) if benchmark.chat else benchmark.parts_of(item) for item in benchmark.items]
    outputs: list[tuple[int, Item, Sampled]] = []
    for number in range(benchmark.decoding.samples):
        decoding = benchmark.decoding.model_copy(update={"seed": benchmark.decoding.seed + number})
        outputs += [(number, item, one) for item, one in zip(benchmark.items, draw(prompts, decoding), strict=True)]
    order = {item.id: place for place, item in enumerate(benchmark.items)}
    return sorted(outputs, key=lambda output: (order[output[1].id], output[0]))


Score = Callable[[str, str, Item], float]
"""(text, what was parsed of it, item) -> score."""


def scored(model: Model, benchmark: Benchmark, write: Recorder, score: Score) -> list[Record]:
    """Records of drawn texts."""
    records = []
    for number, item, one in drawn(model, benchmark):
        parsed = benchmark.parse(one.text)
        found = score(one.text, parsed, item)
        values = {benchmark.scorer: found, "parsed": float(bool(parsed))}
        prompt = shown(model, benchmark, item)
        records.append(write(item, prompt, one.text, parsed, found, one.logprobs, cut_note(one), values=values, sample=number))
    return records


def ask_generate(model: Model, benchmark: Benchmark, tools: Tools, write: Recorder) -> list[Record]:
    """Black-box: text drawn, parsed and compared; a reply that cannot be parsed scores 0."""
    return scored(model, benchmark, write, lambda text, parsed, item: benchmark.score(parsed, item))


def ask_toxicity(model: Model, benchmark: Benchmark, tools: Tools, write: Recorder) -> list[Record]:
    """Text drawn and classified: 1 for harmless text. Only the output is judged, never the prompt.

    The GPT-4 report and GPT-Fathom count toxic continuations judged by the Perspective API. The judge here is the
    classifier that filtered the data (the card says what it learned from): good for comparing our models and for nothing absolute.
    """
    classifier = tools.classifier
    assert classifier
    return scored(model, benchmark, write, lambda text, parsed, item: float(classifier.probability(without_thoughts(text)) < TOXIC))


def ask_scalar(model: Model, benchmark: Benchmark, tools: Tools, write: Recorder) -> list[Record]:
    """Completions judged by a scorer model that no policy was trained against, and how much they repeat themselves."""
    assert tools.scorer
    outputs = drawn(model, benchmark)
    found = tools.scorer.completed([one for _, _, one in outputs], benchmark.chat)
    records = []
    for (number, item, one), value in zip(outputs, found, strict=True):
        prompt, values = shown(model, benchmark, item), {"repetition": repetition(one.tokens)}
        parsed = benchmark.parse(one.text)
        records.append(write(item, prompt, one.text, parsed, value, one.logprobs, cut_note(one), values=values, sample=number))
    return records


FINALLY = "So what is the answer? Reply with it alone."
"""What a chat model is asked after its explanation."""


def concluded(model: Model, benchmark: Benchmark, explained: Sequence[tuple[Item, str]]) -> list[Sampled]:
    """The answer after each explanation, greedily: the rest of a line that closes it, or of a conversation the reply to a further question."""
    room = 4 if benchmark.parser == "letter" else 16
    decoding = Decoding(max_new_tokens=room, temperature=0.0, samples=1, seed=0, stops=("\n",))
    if not benchmark.chat:
        return model.complete([together(benchmark.parts_of(item), text + benchmark.closing) for item, text in explained], decoding)
    talks = [
        (*put(benchmark, item), Message(role="assistant", content=text), Message(role="user", content=FINALLY)) for item, text in explained
    ]
    return model.reply(talks, decoding.model_copy(update={"max_new_tokens": 32, "stops": ()}))


PHRASED = ("stated_answer", "math_answer")
"""Parsers that look for the words that ask for the answer."""


def ask_explain(model: Model, benchmark: Benchmark, tools: Tools, write: Recorder) -> list[Record]:
    """Chain of thought: an explanation is drawn, then the letter or the answer greedily (:func:`concluded`).

    What a reasoning model thought is no part of the explanation; one whose thoughts were cut has given none, and no answer.
    """
    outputs = drawn(model, benchmark)
    texts = [without_thoughts(one.text) for _, _, one in outputs]
    finals = concluded(model, benchmark, [(item, text) for (_, item, _), text in zip(outputs, texts, strict=True)])
    between = f"{benchmark.closing} " if benchmark.chat else benchmark.closing
    goes_on = benchmark.parser == "letter" and not benchmark.chat  # `: A` behind `The answer is`
    asks = between if benchmark.parser in PHRASED or goes_on else ""
    records = []
    for (number, item, one), text, final in zip(outputs, texts, finals, strict=True):
        parsed = benchmark.parse(asks + final.text) if text or not one.text else ""
        score = benchmark.score(parsed, item)
        whole, prompt = one.text + between + final.text, shown(model, benchmark, item)
        values = {"acc": score, "parsed": float(bool(parsed))}
        records.append(write(item, prompt, whole, parsed, score, one.logprobs, cut_note(one), values=values, sample=number))
    return records


def ask_code(model: Model, benchmark: Benchmark, tools: Tools, write: Recorder) -> list[Record]:
    """Functions written by the model, run against their tests."""
    outputs = drawn(model, benchmark)
    bodies = [benchmark.parse(one.text) for _, _, one in outputs]
    programs = [
        Program(item.fields["head"] + body, item.fields["entry_point"], item.fields["setup"], item.fields["test"])
        for (_, item, _), body in zip(outputs, bodies, strict=True)
    ]
    records = []
    for (number, item, one), body, verdict in zip(outputs, bodies, tools.run(programs, tools.sandbox), strict=True):
        note = joined(f"{verdict.reason or 'passed'} ({verdict.isolation or 'not run'})", cut_note(one))
        score, prompt = float(verdict.passed), shown(model, benchmark, item)
        records.append(write(item, prompt, one.text, body, score, one.logprobs, note, values={"passed": score}, sample=number))
    return records


def ask_judge(model: Model, benchmark: Benchmark, tools: Tools, write: Recorder) -> list[Record]:
    """Replies rated by another model; a rating that cannot be parsed scores 0 and the note holds what the judge said."""
    judge = tools.judge
    assert judge
    outputs = drawn(model, benchmark)
    prompts = [benchmark.closing.format(question=item.fields["question"], answer=without_thoughts(one.text)) for _, item, one in outputs]
    greedy = Decoding(max_new_tokens=256, temperature=0.0, samples=1, seed=0)
    verdicts = asked_once(judge, lambda: judge.complete(prompts, greedy))
    records = []
    for (number, item, one), verdict in zip(outputs, verdicts, strict=True):
        parsed = benchmark.parse(verdict.text)
        score, prompt = benchmark.score(parsed, item), shown(model, benchmark, item)
        values = {"rating": score, "parsed": float(bool(parsed))}
        note = joined(verdict.text, cut_note(one))
        records.append(write(item, prompt, one.text, parsed, score, one.logprobs, note, values=values, sample=number))
    return records


def ask_turns(model: Model, benchmark: Benchmark, tools: Tools, write: Recorder) -> list[Record]:
    """Two turns (MT-Bench): the follow-up is put after the model's own first reply, and another model rates each reply.

    The record holds the second reply and, in its prompt, the first; ratings are of both turns and their mean.
    """
    judge = tools.judge
    assert judge
    greedy = Decoding(max_new_tokens=256, temperature=0.0, samples=1, seed=0)
    firsts = drawn(model, benchmark)
    talks = [
        (
            Message(role="user", content=benchmark.prompt_of(item)),
            Message(role="assistant", content=without_thoughts(one.text).strip()),
            Message(role="user", content=item.fields["follow_up"]),
        )
        for _, item, one in firsts
    ]
    seconds = model.reply(talks, benchmark.decoding)
    judged = []
    for (_, item, one), talk, two in zip(firsts, talks, seconds, strict=True):
        for turn, shown_turns, reply in ((1, talk[:1], one), (2, talk, two)):
            said = "\n\n".join(f"{message.role.capitalize()}: {message.content}" for message in shown_turns)
            heard = without_thoughts(reply.text).strip()
            judged.append(benchmark.closing.format(conversation=said, reply=heard, reference=item.fields[f"reference_{turn}"]))
    verdicts = iter(asked_once(judge, lambda: judge.complete(judged, greedy)))
    records = []
    for (number, item, one), talk, two in zip(firsts, talks, seconds, strict=True):
        words = [next(verdicts).text for _ in (1, 2)]
        parsed = [benchmark.parse(text) for text in words]
        ratings = [benchmark.score(text, item) for text in parsed]
        mean = sum(ratings) / 2
        values = {"rating": mean, "rating_1": ratings[0], "rating_2": ratings[1], "parsed": float(all(parsed))}
        note = joined("\n\n".join(words), cut_note(one, two))
        records.append(write(item, model.turn(talk), two.text, " ".join(parsed), mean, two.logprobs, note, values=values, sample=number))
    return records


def cut_note(*outputs: Sampled) -> str:
    """What a record says of a prompt that was too long, and of a reply that was cut at the longest output."""
    prompts, replies = any(one.cut for one in outputs), any(not one.ended for one in outputs)
    return joined(CUT_PROMPT if prompts else "", CUT_REPLY if replies else "")


def joined(*notes: str) -> str:
    """Notes as a record holds them, one after another."""
    return "; ".join(filter(None, notes))


def cut(records: Sequence[Record], what: str) -> int:
    """How many records say that prompt or reply was cut (:data:`CUT_PROMPT`, :data:`CUT_REPLY`)."""
    return sum(what in record.note.split("; ") for record in records)
