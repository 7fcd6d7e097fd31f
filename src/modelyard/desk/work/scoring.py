"""A reward model's score of every answer, from which the value of an item follows (:mod:`modelyard.desk.work.value`)."""

from __future__ import annotations

from collections.abc import Sequence

from modelyard.desk.work.batches import ItemRow
from modelyard.model.scorer_model import ScorerModel
from modelyard.posttrain.rows.encoding import whole


def scored(items: Sequence[ItemRow], reward: ScorerModel) -> list[ItemRow]:
    """The items with scores; those that bring scores, judges or a value of their own stay as they are.

    Raises ValueError for an answer that is longer than the reward model reads.
    """
    wanted = [item for item in items if item.value is None and not item.scores and not item.judges]
    documents = [whole(reward.encoder, item.prompt, text) for item in wanted for text in item.texts]
    longest, width = max(map(len, documents), default=0), reward.engine.model.seq_len
    if longest > width:
        raise ValueError(f"an answer with its prompt has {longest} tokens, and the reward model reads {width}")
    scores = iter(reward.scores(documents))
    found = {item.id: tuple(next(scores) for _ in item.texts) for item in wanted}
    return [item.model_copy(update={"scores": found[item.id]}) if item.id in found else item for item in items]
