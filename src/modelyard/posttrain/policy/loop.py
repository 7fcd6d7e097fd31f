"""Policies that learn from their own samples: PPO-ptx, GRPO, RLOO and on-policy distillation in one loop, on the engine that trains everything else.

An iteration samples completions of prompts, scores them with the frozen reward model (and rules), and makes one pass of minibatches over them:
the terms of :func:`modelyard.posttrain.losses.policy_loss` with the weights that the config's algorithm gives
(:mod:`modelyard.posttrain.policy.algorithms`), a batch of pretraining text of its own in the same gradient (InstructGPT, arXiv:2203.02155, section
3.5, eq. 2, appendix C.4), and for PPO the clipped value loss of a separate value model that starts as the reward model. All models live on the
same ranks. Stops when KL to the frozen SFT model blows up, or when generation and training disagree about log-probabilities. Published values
stand beside ours in :mod:`modelyard.posttrain.policy.config`. Left out: an entropy bonus, shared policy and value bodies, more than one inner
epoch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torch.distributed as dist

from modelyard.execution import ExecutionConfig
from modelyard.formats import rewards
from modelyard.formats.feedback import prompt_text
from modelyard.formats.rewards import Rewards
from modelyard.formats.teacher import source
from modelyard.model import model_directory
from modelyard.model.checkpoints import checkpoint
from modelyard.model.training import trainer
from modelyard.model.training.offload import Offload
from modelyard.model.training.sample_order import epoch_indices
from modelyard.posttrain.judged.rules import Ruled
from modelyard.posttrain.policy import rollout as experience
from modelyard.posttrain.policy.config import OnPolicyConfig, RewardedConfig
from modelyard.posttrain.policy.kl_control import coefficient
from modelyard.posttrain.policy.measure import finished, seed_of
from modelyard.posttrain.policy.mismatch import corrected, require_same_model
from modelyard.posttrain.policy.prepare import Training, prepare, take_average
from modelyard.posttrain.policy.rollout import Rollout
from modelyard.posttrain.policy.sampler import drawing
from modelyard.posttrain.policy.update import update
from modelyard.posttrain.policy.verified import verified
from modelyard.progress import Report
from modelyard.store.manifest import SOURCES


class KLBlowUpError(RuntimeError):
    """The policy left the SFT model further than ``kl_stop`` allows."""


def run(
    config: OnPolicyConfig, inputs: Mapping[str, Path], out: Path, checkpoints: Path, execution: ExecutionConfig, report: Report
) -> dict[str, float]:
    """Train ``inputs["sft"]`` against ``inputs["reward"]`` on the prompts of ``inputs["feedback"]``, ptx text from ``inputs["tokens"]``.

    What ``config.rewards`` verify is added, and with ``inputs["rbrm"]`` its rules' rewards. A distilled policy learns from its teacher alone, and the
    reward model only measures it.

    Raises:
        ValueError: the rules' judge is not the one that their weights are of, a verified reward speaks about no prompt, or the teacher is not the
            config's, has another vocabulary or reads fewer tokens than are sampled.
        ServerError, GenerationDriftError: the server that is to draw samples does not start, or is not the policy.
    """
    training = prepare(config, inputs, execution)
    with drawing(config, inputs["sft"], checkpoints / "sampler", execution) as draw:
        history = train(config, training._replace(draw=draw), checkpoints, execution, report)
    models, released = training.models, training.models.actor
    if training.ema is not None:
        take_average(released, training.ema)
    model_directory.write(released, inputs["sft"], history, out)
    if dist.get_rank() == 0:
        write_taught_by(config, training, out)
    measured = finished(
        config,
        models,
        training.prompts,
        training.sampling,
        inputs["tokens"],
        kl_coef=charge(config, history),
        rewarded=lambda rollout, chosen: rewarded(config, training, chosen, rollout),
    )
    return {**lost(config, training, history), **measured, "policy/train/iterations": float(len(history.lines))}


def lost(config: OnPolicyConfig, training: Training, history: trainer.History) -> dict[str, float]:
    """Rows that were trained on in all iterations, those of them that were cut and that teach never to stop, and prompts that were too long."""
    sums = {name: sum(line[f"policy/data/{name}"] for line in history.lines) for name in ("cut", "never_stop")}
    counts = {"rows": len(history.lines) * config.episodes, "too_long": training.too_long, **sums}
    return {f"policy/data/{name}": float(count) for name, count in counts.items()}


def write_taught_by(config: OnPolicyConfig, training: Training, out: Path) -> None:
    """Beside the weights: which rewards were verified, or who the teacher was."""
    if isinstance(config, RewardedConfig) and config.rewards:
        rewards.write(out, Rewards(ids={name: reward.id for name, reward in config.rewards.items()}))
    if training.teacher is not None:
        (out / SOURCES).write_text(json.dumps([source(training.teacher, served=False)], indent=1, ensure_ascii=False) + "\n", "utf-8")


def train(config: OnPolicyConfig, training: Training, checkpoints: Path, execution: ExecutionConfig, report: Report) -> trainer.History:
    """The loop, from the newest checkpoint on. Raises KLBlowUpError where the config asks for an error, and GenerationDriftError."""
    history = resume(training, checkpoints, execution)
    report(len(history.lines), config.iterations, unit="iteration")
    with trainer.checkpoints_written(), offload(training, execution) as state:
        for iteration in range(len(history.lines), config.iterations):
            with state.asleep():
                rollout, kl_coef = sampled(config, training, iteration), charge(config, history)
            metrics = experience.statistics(rollout, kl_coef)
            require_same_model(config, rollout, iteration)
            blown = metrics["objective/kl"] > config.kl_stop
            if blown and config.on_kl_stop == "error":
                raise KLBlowUpError(
                    f"iteration {iteration}: KL {metrics['objective/kl']:.2f} nats exceeds policy.kl_stop {config.kl_stop:g}; "
                    f"{'raise policy.kl_coef or ' if isinstance(config, RewardedConfig) else ''}lower policy.optimizer.lr"
                )
            if blown:
                break
            metrics |= update(config, training, rollout, iteration, kl_coef)
            require_same_model(config, rollout._replace(drift=metrics["policy/generation_drift"]), iteration)
            named = {f"policy/{key}": value for key, value in metrics.items()}
            history.add(iteration + 1, named)
            report(iteration + 1, config.iterations, named, unit="iteration")
            if iteration + 1 == config.iterations:
                break
            preempted = trainer.stop_agreed(training.models.actor)
            if preempted or (iteration + 1) % execution.checkpoint_iterations == 0:
                keep(training, checkpoints, history, execution)
            if preempted:
                checkpoint.wait()
                raise preempted
    return history


def offload(training: Training, execution: ExecutionConfig) -> Offload:
    """What keeps the optimizers of policy and critic in host memory while they sample, where the execution says so."""
    trained = (training.models.actor, training.models.value) if execution.offload_optimizer else ()
    return Offload([engine.optimizer for engine in trained if engine is not None])


def sampled(config: OnPolicyConfig, training: Training, iteration: int) -> Rollout:
    """The experience of one iteration; completions of one prompt stand together."""
    each = config.episodes // config.prompts
    chosen = [i for i in epoch_indices(len(training.prompts), config.seed, iteration * config.prompts, config.prompts) for _ in range(each)]
    prompts = [training.prompts[i] for i in chosen]
    rollout = experience.sample(
        training.models,
        prompts,
        seed_of(config, iteration),
        training.sampling,
        training.draw,
        one_update=config.one_update,
        apart=config.ptx_rows > 0,  # micro-batches have one number of rows, and a row of pretraining text is one text
    )
    return rewarded(config, training, chosen, corrected(config, rollout))


def rewarded(config: OnPolicyConfig, training: Training, chosen: Sequence[int], rollout: Rollout) -> Rollout:
    """The experience of the ``chosen`` prompts with all parts of its reward: the reward model's, what is verified, and the rules'."""
    if not isinstance(config, RewardedConfig):
        return rollout
    parts, notes = {name: config.reward_weight * part for name, part in rollout.parts.items()}, dict(rollout.notes)
    if not config.rewards and training.rules is None:
        return rollout._replace(parts=parts)
    texts = [training.encoder.decode(completion) for completion in rollout.completions]
    asked = [training.asked[i] for i in chosen]
    earned = verified(config.rewards, asked, texts, config.sandbox)
    parts |= {f"verified/{name}": torch.tensor(values, dtype=torch.float32) for name, values in earned.items()}
    if training.rules is not None:
        responses = [Ruled(prompt_text(one.prompt), one.category, text) for one, text in zip(asked, texts, strict=True)]
        judged = training.rules(responses)
        parts["rules"] = torch.tensor(judged.reward, dtype=torch.float32)
        notes |= training.rules.shares(responses, judged)
    return rollout._replace(parts=parts, notes=notes)


def charge(config: OnPolicyConfig, history: trainer.History) -> float:
    """The KL coefficient of the iteration that follows ``history``; 0 where nothing is charged."""
    if not isinstance(config, RewardedConfig):
        return 0.0
    return coefficient(config.kl_coef, config.adaptive_kl, [line["policy/objective/kl"] for line in history.lines])


def resume(training: Training, checkpoints: Path, execution: ExecutionConfig) -> trainer.History:
    """Load the newest step at which every model's checkpoint is whole; the actor's is written last."""
    critic = training.models.value
    beside = [name for name, engine in (("value", critic), ("ema", training.ema)) if engine is not None]
    history = trainer.resume(training.models.actor, checkpoints / "actor", execution, *(checkpoints / name for name in beside))
    if history.lines:
        step = checkpoint.step_directory(Path(), training.models.actor.step)
        if critic is not None:
            critic.load(checkpoints / "value" / step)
        if training.ema is not None:
            training.ema.load(checkpoints / "ema" / step)
    return history


def keep(training: Training, checkpoints: Path, history: trainer.History, execution: ExecutionConfig) -> None:
    """Checkpoint everything that changes, the actor last."""
    models = {"ema": training.ema, "value": training.models.value}
    kept = [trainer.Kept(engine, checkpoints / name, trainer.History()) for name, engine in models.items() if engine is not None]
    actor = training.models.actor
    trainer.keep([*kept, trainer.Kept(actor, checkpoints / "actor", history)], actor.step, execution)
