"""How demonstrations and completions become token ids, the same in every stage of alignment.

Plain text runs from the model's own beginning of a text to the token that ends a document; a conversation runs as the chat template renders it
up to the token that ends the assistant's last turn. A prompt is followed by its completion exactly as generation would have followed it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from modelyard.formats.feedback import Demonstration, Message, Prompt, images_of, is_text
from modelyard.model.encoder import Encoder
from modelyard.posttrain.rows.masking import Example


def demonstration(encoder: Encoder, shown: Demonstration) -> Example:
    """The demonstration with every turn of the assistant marked as trained on."""
    if is_text(shown.prompt):
        return response(encoder, shown.prompt, shown.completion)
    turns = encoder.turns((*shown.prompt, Message(role="assistant", content=shown.completion)))
    start, stop = turns.spoken[-1]
    return Example(turns.ids[:start], turns.ids[start:stop], tuple(turns.spoken[:-1]), images_of(shown.prompt))


def response(encoder: Encoder, prompt: Prompt, completion: str) -> Example:
    """The completion, closed, behind its prompt as generation would have written it; of a conversation only this turn is trained on."""
    if is_text(prompt):
        return Example(encoder.opening(prompt), [*encoder.continued(completion), encoder.document_end], images=images_of(prompt))
    turns = encoder.turns((*prompt, Message(role="assistant", content=completion)))
    start, stop = turns.spoken[-1]
    return Example(turns.ids[:start], turns.ids[start:stop], images=images_of(prompt))


def never_stopping(encoder: Encoder, examples: Iterable[Example]) -> int:
    """How many of ``examples`` teach never to stop: something of them is trained on that no token closes which ends an answer.

    Examples are left out rather than cut, so it is 0 unless a chat template or an encoder goes wrong. Rows of pretraining text, which go on from
    one to the next, are none.
    """
    ends = set(encoder.ends)

    def closed(one: Example) -> bool:
        return one.completion[-1] in ends and all(one.prompt[stop - 1] in ends for _, stop in one.earlier)

    return sum(not closed(one) for one in examples)


def whole(encoder: Encoder, prompt: Prompt, completion: str) -> list[int]:
    """Prompt and completion, closed: what the reward model reads."""
    if isinstance(prompt, str):
        return encoder.document(prompt + completion)
    turns = encoder.turns((*prompt, Message(role="assistant", content=completion)))
    return turns.ids[: turns.spoken[-1][1]]


def longest_prompt(seq_len: int, new: int) -> int:
    """Tokens of the longest prompt that leaves ``new`` ones their place, and one that closes a completion which was cut, as it is scored."""
    return seq_len - new - 1


def fitting_prompts(encoder: Encoder, prompts: Sequence[Prompt], width: int) -> list[list[int]]:
    """The prompts of at most ``width`` tokens, as token ids. Raises ValueError if there is none."""
    fitting = [ids for ids in map(encoder.prompt, prompts) if len(ids) <= width]
    if not fitting:
        raise ValueError(f"none of {len(prompts)} prompts fits in {width} tokens")
    return fitting


def closing(encoder: Encoder, prompts: Sequence[Prompt]) -> int:
    """The token that ends completions of ``prompts``. Raises ValueError where some are text and some conversations: they end differently."""
    forms = {isinstance(prompt, str) for prompt in prompts}
    if len(forms) > 1:
        raise ValueError("prompts: some are plain text and some are conversations; a policy is trained on one form")
    return encoder.document_end if forms == {True} else encoder.turn_end
