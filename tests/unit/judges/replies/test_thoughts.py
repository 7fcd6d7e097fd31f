"""What a model thought is no part of what it answers, whichever parser reads it."""

import pytest

from modelyard.evals.benchmark import Benchmark
from modelyard.evals.item import Item
from modelyard.judges.replies.thoughts import without_thoughts
from modelyard.model.asked import Decoding


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ("<think>B? No.</think>\n\nC", "\n\nC"),
        ("B? No.\n</think>\n\nC", "\n\nC"),
        ("<think>one</think>A<think>two</think>", "A"),
        ("<think>one</think>A</think>B", "B"),
        ("<think>The answer is B. But", ""),
        ("So A. <think>The answer is", ""),
        ("    return a < b", "    return a < b"),
        ("I think so", "I think so"),
    ],
)
def test_thoughts_are_taken_off_and_a_cut_thought_is_no_answer(reply: str, said: str) -> None:
    assert without_thoughts(reply) == said


@pytest.mark.parametrize(
    ("parser", "reply", "parsed"),
    [
        ("letter", "<think>The answer is B.</think>The answer is C.", "C"),
        ("final_number", "<think>#### 5</think>It is 7.", "7"),
        ("math_answer", "\\boxed{5}</think>\\boxed{7}", "7"),
        ("stated_answer", "<think>the answer is no.</think>So the answer is yes.", "yes"),
        ("program", "<think>```python\ndef f(): 1\n```</think>```python\ndef f(): 2\n```", "def f(): 2\n"),
        ("rating", "<think>[[3]]</think>[[9]]", "9"),
        ("refusal", "<think>I cannot say that.</think>Here you are.", "answer"),
        ("letter", "<think>The answer is B.", ""),
    ],
)
def test_every_parser_reads_what_was_said_after_thinking(parser: str, reply: str, parsed: str) -> None:
    made = Benchmark(
        name="own",
        items=(Item(id="0", fields={}, target="x"),),
        prompt="",
        decoding=Decoding(max_new_tokens=9, temperature=0.0, samples=1, seed=0),
        parser=parser,
        scorer="exact",
        metrics=("exact",),
    )

    assert made.parse(reply) == parsed
