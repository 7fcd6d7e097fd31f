"""Personal data taken out of people's records, and counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from modelyard.data.feedback.files import Entry
from modelyard.data.filters.pii import PiiConfig, redact
from modelyard.formats.feedback import Part, Prompt, TextPart, is_text


def cleaner(config: PiiConfig, counts: Counter[str]) -> Callable[[str], str]:
    """Takes personal data out of a text, and counts it."""

    def clean(text: str) -> str:
        found = redact(text, config)
        counts.update({f"redacted/{kind}": count for kind, count in found.found.items()})
        return found.text

    return clean


def redacted(entry: Entry, config: PiiConfig, counts: Counter[str]) -> Entry:
    """The entry without personal data in its prompt, completions and correction."""
    clean = cleaner(config, counts)

    def written(content: str | tuple[Part, ...]) -> str | tuple[Part, ...]:
        if isinstance(content, str):
            return clean(content)
        return tuple(TextPart(text=clean(part.text)) if isinstance(part, TextPart) else part for part in content)

    prompt: Prompt
    if is_text(entry.prompt):
        prompt = written(entry.prompt)
    else:
        prompt = tuple(message.model_copy(update={"content": written(message.content)}) for message in entry.prompt)
    completions = tuple(clean(completion) for completion in entry.completions)
    return entry._replace(prompt=prompt, completions=completions, correction=clean(entry.correction))
