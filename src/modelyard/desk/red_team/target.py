"""Talking to a model under attack, behind an OpenAI-compatible server such as ``modelyard serve``.

The answer is what the target's users would get: a content filter's refusal is an answer too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from modelyard.formats.feedback import Message
from modelyard.model.asked import Decoding
from modelyard.model.endpoint import Endpoint

TIMEOUT_SECONDS, TRIES, PATIENCE_SECONDS = 120.0, 5, 20.0
"""How long a red-teamer waits for an answer, and for a busy target in all."""
HELD = "(held by the target's content filter)"


def answer(target: str, messages: Sequence[dict[str, Any]], seed: int, most_tokens: int) -> str:
    """What the target ``http://host:port/v1#MODEL`` replies. Raises ValueError where it cannot be asked."""
    asked = tuple(Message.model_validate(message) for message in messages)
    how = Decoding(max_new_tokens=most_tokens, temperature=0.7, samples=1, seed=seed)
    try:
        (said,) = Endpoint(target, pause=0.1, timeout=TIMEOUT_SECONDS, tries=TRIES, patience=PATIENCE_SECONDS).reply([asked], how)
    except ValueError as error:
        if "content_filter" in str(error):
            return HELD
        raise
    return said.text or "(nothing)"
