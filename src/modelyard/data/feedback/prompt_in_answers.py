"""Whether answers begin with their prompt, as text or as a transcript, and the answers without it.

Where a file says so (``prompt_in_answers``) it is cut from them; a line of any other file whose answers all repeat what stands beside them is
dropped, since whoever learned from it would learn to say the question again.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from modelyard.data.feedback.content import Content, UselessError
from modelyard.formats.feedback import Prompt, content_text, is_text

REPEATED = 16
"""Characters from which a prompt that all answers begin with is a copy in any case: a greeting is answered by a greeting."""
ASKING = "?:\uff1f\uff1a"
"""What a shorter prompt ends with that no answer says again by chance; the last two are full width."""
_USER, _ASSISTANT = re.compile(r"\s*(?:Human|User):\s*"), re.compile(r"\s*Assistant:")
"""How a transcript writes whose turn it is."""
_SPACES = re.compile(r"\s*")


def without_prompt(found: Content, expected: bool) -> Content:
    """The content with the prompt cut from the completions that begin with it, where that is ``expected`` of the file.

    Raises:
        UselessError: all completions repeat the prompt, which stands beside them, and nobody said so.
        ValueError: a completion does not although the file's do.
    """
    conversation = not isinstance(found.prompt, str)
    spelled = _spellings(found.prompt)
    asked = next((one for one in spelled if all(_end_of(one, text) for text in found.completions)), spelled[-1])
    ends = [_end_of(asked, text) for text in found.completions]
    if not expected:
        if ends and found.beside and all(end and _is_copy(asked, text, end) for end, text in zip(ends, found.completions, strict=True)):
            raise UselessError("prompt_repeated")
        return found
    if not all(ends):
        raise ValueError("prompt_in_answers: a completion does not begin with the prompt")
    cut = (text[end:] for end, text in zip(ends, found.completions, strict=True))
    return found._replace(completions=tuple(text.strip() if conversation else text for text in cut))


def _spellings(prompt: Prompt) -> list[list[str]]:
    """The words that an answer which repeats the prompt may begin with: those of the whole conversation, and of its last turn."""
    if is_text(prompt):
        return [_bare_prompt(content_text(prompt))]
    turns = (f"{'Human' if one.role == 'user' else 'Assistant'}: {content_text(one.content)}" for one in prompt if one.role != "system")
    return [_bare_prompt(one) for one in ("\n\n".join(turns), content_text(prompt[-1].content))]


def _bare_prompt(asked: str) -> list[str]:
    """The words of a prompt, without the marks of a transcript around them."""
    start = _USER.match(asked)
    words = asked[start.end() if start else 0 :].split()
    return words[:-1] if words[-1:] == ["Assistant:"] else words


def _end_of(asked: Sequence[str], text: str) -> int:
    """Where in ``text``, a transcript or not, the prompt ends that it begins with, whatever its spaces; 0 where it does not."""
    start = _USER.match(text)
    place = start.end() if start else 0
    for number, word in enumerate(asked):
        spaces = _end(_SPACES, text, place)
        if not text.startswith(word, spaces) or (number and spaces == place):
            return 0
        place = spaces + len(word)
    return max(place, _end(_ASSISTANT, text, place)) if asked else 0


def _end(pattern: re.Pattern[str], text: str, place: int) -> int:
    """Where the pattern ends that ``text`` has at ``place``; 0 where it does not."""
    found = pattern.match(text, place)
    return found.end() if found else 0


def _is_copy(asked: Sequence[str], text: str, end: int) -> bool:
    """Whether the prompt that ends in ``text`` at ``end`` was copied there, not said again as a greeting is."""
    words, after = " ".join(asked), text[end : end + 1]
    marked = bool(_USER.match(text)) or text[:end].endswith("Assistant:")
    return len(words) >= REPEATED or words[-1] in ASKING or marked or after == "\n" or (len(asked) > 1 and after.isspace())
