"""A model's own chat template, a Jinja text in Hugging Face's form, rendered by transformers with a clock that stands still."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from modelyard.complaint import complaint
from modelyard.formats import json_file
from modelyard.formats.feedback import Message
from modelyard.formats.tokenizer_files import SETTINGS
from modelyard.model.control_tokens import spelled
from modelyard.model.image_token import IMAGE

TODAY = datetime.date(2024, 7, 26)
"""The day for templates that ask which it is, or tokens would change overnight; Llama 3.1's own where nobody says."""
KEY = "chat_template"
"""Key of ``model.json`` that holds the hash of the template a model was trained with."""


def hash_of(template: str) -> str:
    """First 16 hex digits of the template's sha256; "" without one."""
    return hashlib.sha256(template.encode()).hexdigest()[:16] if template else ""


def text_of(directory: Path) -> str:
    """The chat template beside a tokenizer; "" without one."""
    return str(json_file.table(directory / SETTINGS).get("chat_template") or "")


def rendered(template: str, messages: Sequence[Message], special: Mapping[str, str], open_turn: bool = False) -> str:
    """The conversation as text; with ``open_turn`` the assistant's next turn is opened. ``special``: what the template calls its tokens.

    Raises:
        ValueError: no template, or one that refuses the conversation.
    """
    if not template:
        raise ValueError("the tokenizer has no chat template, so it cannot encode conversations")
    from jinja2 import TemplateError
    from transformers.utils.chat_template_utils import render_jinja_template

    written = [message.model_dump() | {"content": spelled(message.content, lambda image: IMAGE)} for message in messages]
    try:
        found, _ = render_jinja_template([written], chat_template=dated(template), add_generation_prompt=open_turn, **special)
    except TemplateError as error:
        raise ValueError(f"chat template: {complaint(error)}") from None
    return str(found[0])


def dated(template: str) -> str:
    """The template with a clock that stands still at :data:`TODAY`: transformers takes no function from outside, so it is a macro."""
    if "strftime_now" not in template:
        return template
    codes = [f"%{code}" for code in "aAbBdjmyYHIMSp"] + ["%-d", "%-m"]
    spelled = "".join(f"|replace('{code}', '{TODAY.strftime(code)}')" for code in codes)
    # the empty expression keeps a newline at the template's beginning, which Jinja takes away behind a block
    return f"{{% macro strftime_now(format) %}}{{{{ format{spelled} }}}}{{% endmacro %}}{{{{ '' }}}}{template}"
