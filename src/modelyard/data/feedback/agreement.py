"""Which records are about the same thing, what was said of it, and how often people who compared the same completions agree.

InstructGPT (arXiv:2203.02155, section 3.4) reports agreement among labelers of 73% on the same comparisons; it is the ceiling for any model of their
preferences. Left out: chance-corrected coefficients, which pairs without ties do not need (chance is one half).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from modelyard.data.feedback.files import Entry
from modelyard.formats.feedback import Comparison, Prompt, images_of, is_text, prompt_text


def agreements(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The comparisons, each that other raters made too with how often these order its pairs in the same way (their ties left out)."""
    by_item: dict[tuple[str, ...], list[int]] = {}
    for place, one in enumerate(comparisons):
        by_item.setdefault((folded(prompt_text(one.prompt)), *images_of(one.prompt), *sorted(one.completions)), []).append(place)
    found = list(comparisons)
    for places in by_item.values():
        for place in places:
            others = [comparisons[other] for other in places if comparisons[other].rater != comparisons[place].rater]
            agreed = [same for other in others for same in _same_order(comparisons[place], other)]
            if agreed:
                found[place] = comparisons[place].model_copy(update={"agreement": sum(agreed) / len(agreed)})
    return found


def _same_order(one: Comparison, other: Comparison) -> list[float]:
    """For each pair that both decide, 1 where they decide alike."""
    rank = dict(zip(other.completions, other.ranks, strict=True))
    pairs = [(rank[one.completions[better]], rank[one.completions[worse]]) for better, worse in one.pairs()]
    return [float(better < worse) for better, worse in pairs if better != worse]


def said(prompt: Prompt) -> str:
    """What the prompt says, system messages apart: they are the same for many."""
    return prompt_text(prompt) if is_text(prompt) else prompt_text(tuple(message for message in prompt if message.role != "system"))


def folded(text: str) -> str:
    """Text without case and spacing: two records with the same are about the same."""
    return " ".join(text.casefold().split())


def opinions_of(entries: Iterable[Entry]) -> Mapping[str, set[object]]:
    """What each rater (those without a name together) said of an answer, or of the order of the same answers."""
    found: dict[str, set[object]] = defaultdict(set)
    for entry in entries:
        places = sorted(set(entry.ranks))
        order = frozenset((folded(text), places.index(rank)) for text, rank in zip(entry.completions, entry.ranks, strict=False))
        found[about(entry)].add((order, entry.label))
    return found


def about(entry: Entry) -> str:
    """Who speaks of what, whatever they say; demonstrations and prompts contradict nothing."""
    return folded(repr((entry.prompt, sorted(map(folded, entry.completions)), entry.rater)))
