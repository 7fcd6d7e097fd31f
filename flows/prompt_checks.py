"""Whether a line has the prompts that its tables ask for: some at all, some held out, of the categories named, and with room for a completion.

What a file's lines say of themselves is known once the ``feedback`` stage has read them (:mod:`tasks.gathered_feedback`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelyard.posttrain import categories
from modelyard.posttrain.policy.config import RewardedConfig

if TYPE_CHECKING:
    from flows.pipeline_config import PipelineConfig

ADD = "add [[feedback.tasks]], or [[feedback.files]] of shape 'prompts' or with also_prompts = true"


def check_prompts(config: PipelineConfig) -> None:
    """Raise ValueError naming the key that asks for prompts that the line does not have."""
    check_any(config)
    check_held_out(config)
    check_categories(config)
    check_answers(config)
    check_room(config)


def from_corpus(config: PipelineConfig) -> bool:
    """Whether openings of the corpus's reviews are prompts; all of them are trained on."""
    return config.feedback.from_corpus and bool(config.held_out.reviews)


def from_files(config: PipelineConfig) -> bool:
    """Whether files hold prompts, of categories that a line may say itself."""
    return any(file.shape == "prompts" or file.also_prompts for file in config.feedback.files)


def taught(config: PipelineConfig) -> tuple[str, ...]:
    """The category of a teacher's prompts, all of which are trained on."""
    return (config.instructions.category,) if config.instructions and config.instructions.also_prompts else ()


def check_any(config: PipelineConfig) -> None:
    """Whoever samples has prompts to sample from; a policy that is trained on comparisons is measured on its samples."""
    asks = [key for key, table in (("policy", config.policy), ("feedme", config.feedme and config.feedme.prompts)) if table]
    if asks and not (from_corpus(config) or from_files(config) or config.feedback.tasks or taught(config)):
        raise ValueError(f"{asks[0]}: samples from prompts, and feedback has none; {ADD}")


def check_held_out(config: PipelineConfig) -> None:
    """Epochs are compared on prompts that nothing was trained on."""
    chooses = [key for key in ("selection", "start_selection") if getattr(config, key)]
    if not chooses:
        return
    if not (from_files(config) or config.feedback.tasks):
        raise ValueError(f"{chooses[0]}: chooses by held-out prompts, and those of the corpus are all trained on; {ADD}")
    if not config.feedback.splits.held_out:
        raise ValueError(f"feedback.splits.held_out: 0 leaves {chooses[0]} no held-out prompts to choose by")


def check_categories(config: PipelineConfig) -> None:
    """No table names a category of prompts or comparisons that nothing can have, as far as no file's lines say theirs."""
    if not from_files(config):
        known = {*(["review"] if from_corpus(config) else []), *(task.name for task in config.feedback.tasks), *taught(config)}
        categories.require_known(categories.of_prompts(config.policy, config.rbrm, config.ai_feedback), known, "prompt")
    if config.policy and (chosen := config.policy.prompt_categories):
        for key, named in categories.rewarded(config.policy, config.rbrm).items():
            if named and not set(named) & set(chosen):
                raise ValueError(f"{key}: {', '.join(named)}: policy.prompt_categories ({', '.join(chosen)}) leaves out every prompt of it")


def check_answers(config: PipelineConfig) -> None:
    """A reward that compares with a prompt's answer has prompts with answers: those of tasks, and of files of prompts."""
    if config.feedback.tasks or any(file.shape == "prompts" for file in config.feedback.files):
        return
    for name, reward in config.policy.rewards.items() if isinstance(config.policy, RewardedConfig) else ():
        if reward.expects != "match":
            raise ValueError(
                f"policy.rewards.{name}.expects: {reward.expects!r} compares with answers, and no prompt of the line has one; add "
                "[[feedback.tasks]], or [[feedback.files]] of shape 'prompts'"
            )


def check_room(config: PipelineConfig) -> None:
    """Every completion that the line's own models sample leaves a prompt a token and one that closes it."""
    limit = config.base.seq_len
    for key, new in sampled(config).items():
        if new + 2 > limit:
            raise ValueError(f"{key} {new} leaves no room for a prompt in seq_len {limit}")
    if config.ai_feedback and (rankings := config.ai_feedback.rankings) and rankings.max_prompt_tokens + rankings.max_new_tokens > limit:
        raise ValueError(
            f"ai_feedback.rankings.max_prompt_tokens {rankings.max_prompt_tokens} and max_new_tokens {rankings.max_new_tokens} are more than "
            f"seq_len {limit}: prompts would be cut"
        )


def sampled(config: PipelineConfig) -> dict[str, int]:
    """Key -> most new tokens of a completion."""
    tables = {key: getattr(config, key) for key in ("policy", "selection", "feedme", "start_selection")}
    if made := config.ai_feedback:
        tables |= {"ai_feedback.rankings": made.rankings, "ai_feedback.rlaif": made.rlaif}
    found = {f"{key}.max_new_tokens": table.max_new_tokens for key, table in tables.items() if table}
    if made and (closed := made.closed_domain):
        found["ai_feedback.closed_domain.response_tokens"] = closed.response_tokens
        if closed.judge.kind == "policy":
            found["ai_feedback.closed_domain.list_tokens"] = closed.list_tokens
    return found
