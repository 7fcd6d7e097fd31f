"""Which instructions and answers of a teacher are left out, each with its reason.

An instruction is left out as self-instruct does it (Wang et al. 2022, arXiv:2212.10560, section 2.2): where its ROUGE-L with one that is there
already reaches a bound, where it is too short or too long, and where a word asks for more than text; where it resembles what is held out, the
measurement would be of a copy. An answer is left out where it is empty, cut, too short or too long, a refusal, or the instruction again. Left out:
whether an answer is right, which needs a judge or a rule.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rapidfuzz import process
from rapidfuzz.distance import Indel

from modelyard.data.contamination.overlap import ContaminationConfig, check
from modelyard.data.feedback.agreement import folded
from modelyard.data.filters import words
from modelyard.data.instructions.config import InstructionsConfig, WordBounds
from modelyard.data.instructions.teacher import Said
from modelyard.formats.questions import Question
from modelyard.judges.refusal import refusal
from modelyard.printable import is_blank

ROUGE_L = Indel.normalized_similarity
"""(spelled, spelled) -> ROUGE-L's F1 (Lin 2004): twice the longest common subsequence over the sum of both lengths."""
SURROGATES, POINTS = range(0xD800, 0xE000), 0x110000


class Spelling:
    """Texts as strings with one character a word, so that subsequences of words are subsequences of characters.

    There are more characters than words in any set of instructions; past the last of them different words would share one.
    """

    def __init__(self) -> None:
        self._characters: dict[int, str] = {}

    def of(self, text: str) -> str:
        """The text's words, whatever their case; a character of a script without spaces is a word."""
        found = (words.words(block, unspaced=True).hashes.tolist() for _, block in words.blocks([text]))
        return "".join(self._character(word) for some in found for word in some)

    def _character(self, word: int) -> str:
        number = len(self._characters) % (POINTS - len(SURROGATES))
        return self._characters.setdefault(word, chr(number if number < SURROGATES.start else number + len(SURROGATES)))


class Instructions:
    """Instructions that are there already: people's, held-out ones, and the teacher's as they come."""

    def __init__(self, config: InstructionsConfig, known: Sequence[str], held_out: Sequence[str]) -> None:
        """Args: ``known``: texts that are trained on; ``held_out``: texts that are measured on."""
        self.config, self.spelling = config, Spelling()
        self.excluded = {word.casefold() for word in config.excluded}
        self.known = [spelled for text in known if (spelled := self.spelling.of(text))]
        self.held_out = [spelled for text in held_out if (spelled := self.spelling.of(text))]

    def refuse(self, text: str) -> str | None:
        """Why the instruction is left out; None where it stays, and then it is one of those that are there."""
        if reason := off(text, self.config.instruction_words, "instruction"):
            return reason
        if self.excluded & {word.strip(".,:;!?\"'()").casefold() for word in text.split()}:
            return "excluded_word"
        spelled = self.spelling.of(text)
        if self._near(spelled, self.held_out):
            return "like_held_out"
        if self._near(spelled, self.known):
            return "near_duplicate"
        self.known.append(spelled)
        return None

    def _near(self, spelled: str, others: Sequence[str]) -> bool:
        return process.extractOne(spelled, others, scorer=ROUGE_L, score_cutoff=self.config.similarity) is not None


def refused_answer(instruction: str, said: Said, config: InstructionsConfig) -> str | None:
    """Why an answer is left out; None where it stays."""
    text = said.text.strip()
    if not said.whole:
        return "long_prompt"
    if not said.ended:
        return "cut_answer"
    if is_blank(text):
        return "empty_answer"
    if reason := off(text, config.answer_words, "answer"):
        return reason
    if refusal(text) == "refusal":
        return "refusal"
    return "prompt_repeated" if folded(text) == folded(instruction) else None


def length(text: str) -> float:
    """Words of a text."""
    return sum(float(words.words(block, unspaced=True).counts.sum()) for _, block in words.blocks([text]))


def off(text: str, bounds: WordBounds, what: str) -> str | None:
    """``short_{what}`` or ``long_{what}`` of a text outside of its bounds."""
    count = length(text)
    return f"short_{what}" if count < bounds.least else f"long_{what}" if count > bounds.most else None


def contaminated(texts: Sequence[str], benchmarks: Mapping[str, Sequence[Question]], config: ContaminationConfig) -> set[int]:
    """Places of the texts that hold an item of any benchmark, by content."""
    if not texts:
        return set()
    found = check([[question.text for question in questions] for questions in benchmarks.values()], texts, config)
    return {place for one in found for place in one.content.documents}
