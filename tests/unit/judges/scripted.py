"""A judge's model whose log-probabilities are a function of the text: what real models do to letters, exactly known."""

import math
from collections.abc import Callable, Sequence

from modelyard.formats.feedback import Prompt, prompt_text
from modelyard.model.asked import Decoding, Likelihood, Sampled


class Scripted:
    """``answer(context, letter)`` is the log-probability of a letter; ``say(prompt)`` what is generated."""

    def __init__(
        self, answer: Callable[[str, str], float] = lambda context, letter: 0.0, say: Callable[[str], str] = lambda prompt: ""
    ) -> None:
        self.name, self.weights = "scripted", "0123"
        self.answer, self.say = answer, say
        self.cuts = False
        """Whether what is said ends after so many characters as tokens are allowed."""
        self.asked: list[str] = []
        self.decodings: list[Decoding] = []

    def likelihoods(self, questions: Sequence[Sequence[tuple[str, str]]]) -> list[list[Likelihood]]:
        self.asked += [question[0][0] for question in questions]
        return [[Likelihood([self.answer(context, text.strip())], 0.0) for context, text in question] for question in questions]

    def complete(self, prompts: Sequence[str], decoding: Decoding) -> list[Sampled]:
        self.asked += prompts
        self.decodings.append(decoding)
        said = [self.say(prompt) for prompt in prompts]
        most = decoding.max_new_tokens if self.cuts else max(map(len, said), default=0)
        return [Sampled([], [], [], text[:most], False, ended=len(text) <= most) for text in said]

    def reply(self, said: Sequence[Prompt], decoding: Decoding) -> list[Sampled]:
        return self.complete([one if isinstance(one, str) else one[-1].content for one in said], decoding)

    def follow(self, prompts: Sequence[Prompt], decoding: Decoding) -> list[Sampled]:
        return self.complete([prompt_text(prompt) for prompt in prompts], decoding)


def listed(context: str) -> dict[str, str]:
    """Letter -> option of a question."""
    return {line[0]: line[3:] for line in context.split("\n") if line[1:3] == ". "}


def biased(truth: Callable[[str, str], float], places: str) -> Callable[[str, str], float]:
    """A judge that knows the ``truth`` (context, option) -> log weight and likes the first of ``places`` by 3 nats, whatever is there."""

    def answer(context: str, letter: str) -> float:
        weights = {mark: truth(context, option) + 3.0 * (mark in places) for mark, option in listed(context).items()}
        return weights[letter] - math.log(sum(math.exp(weight) for weight in weights.values()))

    return answer
