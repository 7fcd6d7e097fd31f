"""What a way to align computes, in tokens and FLOPs, so that a table says how equal its rows are.

Counted are the tokens that the way's own stages draw, read and train on, without padding. A token that is drawn or read costs a third of one that
is trained on, and that is PaLM's count (appendix B; :meth:`ModelConfig.flops_per_token`) at the mean width of the rows. Ways that sample: prompts
by their mean length, completions by the history's; an iteration reads its texts as reward model, policy (unless its only update does), reference
and, for PPO, critic, and the one that only found ``kl_stop`` passed sampled too. Ways that learn from comparisons: as much of them as ``epochs``
says, and the pass of the reference model, which they share. FeedME: answers as long as they may be, and its SFT. Left out: what measures a finished
policy, judges of rules and verified rewards, all that the ways share, and that completions of one prompt may share its row: it counts once for each.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from modelyard.formats.feedback import DEMONSTRATIONS, PROMPTS, Demonstration, PromptRecord, read
from modelyard.formats.token_rows import TokenRows
from modelyard.model import model_directory
from modelyard.model.encoder import Encoder
from modelyard.model.network.model_config import ModelConfig
from modelyard.model.training.trainer import HISTORY
from modelyard.posttrain.feedme import FeedMEConfig
from modelyard.posttrain.policy.config import OnPolicyConfig, PPOConfig
from modelyard.posttrain.policy.prompts import asked
from modelyard.posttrain.preference.config import PreferenceConfig
from modelyard.posttrain.preference.ranked import TRAINING, Ranked, ranked
from modelyard.posttrain.rows.encoding import demonstration, fitting_prompts, longest_prompt
from modelyard.posttrain.sft import SFTConfig
from tasks.line import Line
from tasks.line_config import LineConfig
from tasks.stages import COMPARED, SFT, SHOWN


class Tokens(NamedTuple):
    """What passed through models of one size."""

    drawn: float = 0.0
    """Sampled, a step of generation each."""
    read: float = 0.0
    """In a forward pass alone."""
    trained: float = 0.0
    """Forward and backward."""

    def flops(self, model: ModelConfig, width: float) -> float:
        """FLOPs by ``model`` on rows of ``width`` tokens."""
        shown = model.model_copy(update={"seq_len": max(2, min(round(width), model.seq_len))})
        return shown.flops_per_token() * (self.trained + (self.drawn + self.read) / 3)


def together(parts: Iterable[Tokens]) -> Tokens:
    """All of them."""
    return Tokens(*(sum(column) for column in zip(*parts, strict=True)))


def of_sampling(config: OnPolicyConfig, prompt: float, answers: Sequence[float], text_row: int) -> Tokens:
    """A policy that samples: mean tokens of a ``prompt``, and of the ``answers`` of every iteration that was trained on; ``text_row``: tokens of a
    row of pretraining text."""
    rounds, answer = len(answers), fmean(answers) if answers else config.max_new_tokens
    sampled, critic = min(rounds + 1, config.iterations) * config.episodes, isinstance(config, PPOConfig)
    text = prompt + answer
    return Tokens(
        drawn=sampled * answer,
        read=sampled * (prompt + (3 + critic - config.one_update) * text),
        trained=rounds * (config.episodes * (1 + critic) * text + config.minibatches * config.ptx_rows * text_row),
    )


def of_comparisons(config: PreferenceConfig, found: Sequence[Ranked]) -> Tokens:
    """A policy that learns from comparisons, the pass of its reference model included."""
    lengths = [sum(example.length for example in one.examples) for one in found]
    train = [length for one, length in zip(found, lengths, strict=True) if one.said.split in TRAINING]
    return Tokens(read=sum(lengths), trained=config.epochs * sum(train))


def of_feedme(config: FeedMEConfig, prompts: Sequence[int]) -> Tokens:
    """FeedME's samples of prompts of so many tokens, and what the reward model reads of them."""
    answers = len(prompts) * config.samples * config.max_new_tokens
    return Tokens(drawn=answers, read=2 * config.samples * sum(prompts) + answers)


def of_sft(config: SFTConfig, lengths: Sequence[int], width: int) -> Tokens:
    """SFT on demonstrations of so many tokens in rows of ``width``, its pretraining text included."""
    shown = config.epochs * sum(length for length in lengths if length <= width)
    return Tokens(trained=shown / (1 - config.pretraining_share))


def computed(line: Line, config: LineConfig | None = None) -> float:
    """FLOPs of the stages that the way to align of ``config``, the line's own where it is absent, alone needs.

    Before they are built, answers count as long as they may be.
    """
    store, config = line.place.store, config or line.config
    start = store.fetch(line.artifact(*SFT))
    encoder, model = Encoder(start), model_directory.read(start).model
    policy, feedme, second = (config.of(name) for name in ("policy", "feedme", "sft_start"))
    parts, widths = list[Tokens](), list[float]()
    if isinstance(policy, OnPolicyConfig):
        prompt = fmean(map(len, asked(policy, store.fetch(line.artifact(*SHOWN)), encoder, model.seq_len).prompts))
        answers = [float(policy.max_new_tokens)] * policy.iterations
        if line.has("policy"):
            answers = [row["policy/objective/length"] for row in history(store.fetch(line.artifact("policy")))]
        parts.append(of_sampling(policy, prompt, answers, TokenRows(store.fetch(line.artifact("tokens")), "train").seq_len))
        widths.append(prompt + (fmean(answers) if answers else policy.max_new_tokens))
    if isinstance(policy, PreferenceConfig):
        found = ranked(store.fetch(line.artifact(*COMPARED)), encoder, policy.max_tokens or model.seq_len, thumbs=False).fitting
        parts.append(of_comparisons(policy, found))
        widths.append(fmean(example.length for one in found for example in one.examples))
    lengths = list[int]()
    if isinstance(feedme, FeedMEConfig):
        given = [one.prompt for one in read(store.fetch(line.artifact(*SHOWN)) / PROMPTS, PromptRecord, "train")]
        prompts = fitting_prompts(encoder, given, longest_prompt(model.seq_len, feedme.max_new_tokens))[: feedme.prompts]
        parts.append(of_feedme(feedme, [len(one) for one in prompts]))
        lengths = [] if line.has("feedme") else [len(one) + feedme.max_new_tokens for one in prompts]
    if isinstance(second, SFTConfig):
        if not lengths:
            shown = read(store.fetch(line.artifact("feedme", *SHOWN)) / DEMONSTRATIONS, Demonstration, "train")
            lengths = [demonstration(encoder, one).length for one in shown]
        parts.append(of_sft(second, lengths, second.max_tokens or model.seq_len))
        widths.append(fmean(lengths))
    return together(parts).flops(model, fmean(widths))


def history(directory: Path) -> list[dict[str, float]]:
    """Metrics of every iteration of a policy."""
    return [json.loads(row) for row in (directory / HISTORY).read_text("utf-8").splitlines()]
