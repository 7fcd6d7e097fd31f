"""Whether the tables by which a line is aligned fit together: demonstrations, reward models, the policy and what it learns from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelyard.closest import did_you_mean
from modelyard.data.feedback.rows import COMPARED
from modelyard.data.instructions.config import InstructionsConfig
from modelyard.posttrain.policy.config import OnPolicyConfig, OPDConfig, RewardedConfig
from modelyard.posttrain.preference.config import KTOConfig, PreferenceConfig

if TYPE_CHECKING:
    from flows.pipeline_config import PipelineConfig


def check_alignment(config: PipelineConfig) -> None:
    """Raise ValueError naming the key that does not fit."""
    check_chosen(config)
    check_rewards(config)
    check_flags(config)
    if config.instructions:
        check_instructions(config, config.instructions)
    check_repeats(config)


def check_chosen(config: PipelineConfig) -> None:
    """A chosen epoch is one of several, and FeedME's demonstrations are for a second SFT model."""
    if config.selection and not config.sft.keep_epochs:
        raise ValueError("sft.keep_epochs must be true for selection to have something to choose from")
    if config.start_selection and not (config.sft_start and config.sft_start.keep_epochs):
        raise ValueError("sft_start.keep_epochs must be true for start_selection to have something to choose from")
    if config.feedme and not config.sft_start:
        raise ValueError("feedme makes demonstrations for sft_start, and there is no table sft_start")


def check_rewards(config: PipelineConfig) -> None:
    """What a policy learns from is what its algorithm can take."""
    if config.rbrm and isinstance(config.policy, PreferenceConfig):
        raise ValueError(f"rbrm rewards samples, and policy.algorithm {config.policy.algorithm!r} takes none; remove the table")
    if isinstance(config.policy, RewardedConfig) and not config.policy.is_rewarded and not config.rbrm:
        raise ValueError(
            "policy.reward_weight is 0, policy.rewards has none with a weight and there is no table rbrm: nothing would be learned"
        )
    if isinstance(config.policy, OPDConfig):
        check_distilled(config, config.policy)
    if isinstance(config.policy, OnPolicyConfig) and config.policy.rollouts.backend == "server" and not config.execution.sampler:
        raise ValueError("policy.rollouts.backend 'server': execution.sampler must say which, an address or a command such as 'vllm serve'")
    if not isinstance(config.policy, KTOConfig) and (unused := [file.name for file in config.feedback.files if file.shape == "thumbs"]):
        raise ValueError(
            f"feedback.files: {unused[0]} holds thumbs, which only a policy by KTO learns from; policy.algorithm must be 'kto', or the file's shape "
            "'prompts' where its prompts are wanted"
        )


def check_flags(config: PipelineConfig) -> None:
    """What users flagged is compared with better answers, and only where they flagged something."""
    flags = [file.name for file in config.feedback.files if file.shape == "flags"]
    compared = config.ai_feedback is not None and config.ai_feedback.open_domain
    if flags and not compared:
        raise ValueError(
            f"feedback.files: {flags[0]} holds flags, which only ai_feedback compares; ai_feedback.open_domain must be true, or the file's shape "
            "'prompts' where its prompts are wanted"
        )
    if compared and not flags:
        raise ValueError("ai_feedback.open_domain: no file of feedback.files has the shape 'flags'")


def feedback_sources(config: PipelineConfig) -> list[str]:
    """Sources of people's demonstrations: the corpus, and every table of feedback."""
    feedback = config.feedback
    return ["corpus", *(table.name for tables in (feedback.files, feedback.tasks, feedback.images) for table in tables)]


def check_repeats(config: PipelineConfig) -> None:
    """What SFT repeats is a source of demonstrations."""
    shown = [*feedback_sources(config), *([config.instructions.teacher.name] if config.instructions else [])]
    for key, table, known in (("sft", config.sft, shown), ("sft_start", config.sft_start, ["feedme"] if config.feedme else shown)):
        for name in (name for name in (table.repeat if table else {}) if name not in known):
            raise ValueError(f"{key}.repeat: {name!r} is no source of demonstrations ({', '.join(known)}){did_you_mean(name, known)}")


def check_instructions(config: PipelineConfig, instructions: InstructionsConfig) -> None:
    """What a teacher writes can be told apart from people's, and is used."""
    if instructions.teacher.name in feedback_sources(config):
        raise ValueError(f"instructions.teacher.name {instructions.teacher.name!r} is the name of feedback of another source")
    if instructions.also_prompts and not config.feedme and (config.policy is None or isinstance(config.policy, PreferenceConfig)):
        who = f"policy.algorithm {config.policy.algorithm!r}" if config.policy else "a line with neither policy nor FeedME"
        raise ValueError(f"instructions.also_prompts: {who} samples from no prompts")


def check_distilled(config: PipelineConfig, policy: OPDConfig) -> None:
    """A distilled policy learns from its teacher alone, and the environment says of one teacher where it is."""
    if config.rbrm:
        raise ValueError("rbrm rewards samples, and policy.algorithm 'opd' learns from its teacher alone; remove the table")
    writer = config.instructions.teacher if config.instructions else None
    if writer and (writer.kind, writer.weights) != ("directory", policy.teacher.weights):
        raise ValueError(
            f"policy.teacher and instructions.teacher: {policy.teacher.variable} says where both are, so they must be one model"
        )


NEEDED, UNUSED = ("reward", "gold"), ("ai_feedback", "selection", "sft_start", "start_selection")
"""Tables that a policy needs, and FeedME too, and others that nothing reads in a line with neither."""


def check_policy(config: PipelineConfig) -> None:
    """A policy has a reward model and a judge of its own, and so has FeedME, with whose SFT model a line may end; a line that ends with its
    first SFT model has nothing that only those would use, and says why."""
    aside = config.release.set_aside.preference
    ends_with_sft = config.policy is None and not config.feedme
    unused = (*((*NEEDED, *UNUSED) if ends_with_sft else ()), "rbrm") if config.policy is None else ()
    if idle := [key for key in unused if getattr(config, key) is not None]:
        raise ValueError(f"{idle[0]}: the line has no policy, so nothing would use it; remove the table")
    if ends_with_sft:
        if not aside:
            raise ValueError("release.set_aside.preference: missing; the line has no policy, so give the reason")
        return
    if aside:
        raise ValueError("release.set_aside.preference: applies to a line with a policy or FeedME and cannot be set aside by the config")
    if lacking := [key for key in NEEDED if getattr(config, key) is None]:
        raise ValueError(f"{lacking[0]}: missing; the line has {'a policy' if config.policy else 'FeedME'}")
    if config.reward and config.gold and (config.reward.split, config.gold.split) != ("reward", "gold"):
        raise ValueError("reward.split must be 'reward' and gold.split 'gold': the judge must not have seen what the policy is rewarded by")
    if config.feedback.votes is None and config.feedback.splits.gold == 0:
        raise ValueError("feedback.splits.gold: 0 leaves the gold reward model no comparisons")
    if config.feedback.votes is None and not any(file.shape in COMPARED for file in config.feedback.files):
        raise ValueError(f"feedback.files: none holds comparisons ({', '.join(COMPARED)}), and the reward models learn from nothing else")


def check_comparisons_fit(config: PipelineConfig) -> None:
    """The completions of a comparison stay together in a micro-batch of a policy that is trained on comparisons; those of files are counted when
    they have been read."""
    policy = config.policy
    for key, most in compared(config).items() if isinstance(policy, PreferenceConfig) else ():
        if policy and most > policy.micro_batch:
            raise ValueError(f"policy.micro_batch {policy.micro_batch} is less than {key} {most}: those of a comparison stay together")


def compared(config: PipelineConfig) -> dict[str, int]:
    """Key -> completions of a comparison."""
    votes, made = config.feedback.votes, config.ai_feedback
    people = {"feedback.votes.completions": votes.completions} if votes and (made is None or made.keep_comparisons) else {}
    judged = {"rankings": made.rankings, "rlaif": made.rlaif} if made else {}
    return people | {f"ai_feedback.{name}.samples": table.samples for name, table in judged.items() if table}
