"""Runs on every rank of a world of two: the same two updates of every policy at each layout, with the optimizers' state in host memory while it
samples; rank 0 prints JSON. One rank calls :func:`measure` itself."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch.distributed as dist

from modelyard.execution import ExecutionConfig
from modelyard.model import model_directory
from modelyard.model.encoder import Encoder
from modelyard.model.network import parallel
from modelyard.model.training.trainer import History
from modelyard.posttrain.policy import loop
from modelyard.posttrain.policy.config import GRPOConfig, OnPolicyConfig, OPDConfig, PolicyConfig, PPOConfig, RLOOConfig
from modelyard.posttrain.preference import reference, train
from modelyard.posttrain.preference.config import DPOConfig, IPOConfig, KTOConfig, KWiseDPOConfig, PreferenceConfig
from modelyard.posttrain.preference.losses import preference_loss
from modelyard.progress import silent

ALGORITHMS = {
    "ppo": PPOConfig,
    "ppo_lora": PPOConfig,
    "grpo": GRPOConfig,
    "grpo_lora": GRPOConfig,
    "opd": OPDConfig,
    "rloo": RLOOConfig,
    "kwise_dpo": KWiseDPOConfig,
    "dpo": DPOConfig,
    "ipo": IPOConfig,
    "kto": KTOConfig,
}
LAYOUTS = {"tp2": {"tensor_parallel": 2}, "dp2": {"data_parallel": 2}, "pp2": {"pipeline_parallel": 2}, "cp2": {"context_parallel": 2}}
DEFAULT: dict[str, list[str]] = {"tp2": ["ppo_lora"], "dp2": ["ppo"], "pp2": ["grpo"], "cp2": []}
"""Layout -> the policies of the default suite; the slow one has the others, but for ``ONLY``."""
ONLY = {"rloo": ("tp2", "dp2", "pp2"), "dpo": ("tp2", "dp2", "pp2"), "ipo": ("tp2", "dp2")}
"""Layouts of those that differ from another in the loss alone."""
SLOW = {
    layout: [name for name in ALGORITHMS if name not in names and layout in ONLY.get(name, LAYOUTS)] for layout, names in DEFAULT.items()
}


def cases(split: dict[str, list[str]]) -> list[tuple[str, str]]:
    """(layout, policy) of ``DEFAULT`` or ``SLOW``."""
    return [(layout, name) for layout, names in split.items() for name in names]


def measure(config: PolicyConfig, inputs: dict[str, Path], execution: ExecutionConfig, out: Path) -> dict[str, Any]:
    """What the models say and what the updates report; the weights after the first and the second update go to ``out``."""
    if isinstance(config, PreferenceConfig):
        return measure_preference(config, inputs, execution, out)
    assert isinstance(config, OnPolicyConfig)
    training = loop.prepare(config, inputs, execution)
    result: dict[str, Any] = {"completions": [], "numbers": [], "metrics": []}
    state = loop.offload(training, execution)
    for iteration in range(2):
        with state.asleep():
            drawn = loop.sampled(config, training, iteration)
        said = (drawn.logprobs, drawn.reference_logprobs, drawn.teacher_logprobs, drawn.values, drawn.scores)
        result["completions"].append(drawn.completions)
        result["numbers"].append([part.flatten().tolist() for part in said if part is not None])
        result["metrics"].append(loop.update(config, training, drawn, iteration, loop.charge(config, History())))
        trained = {"actor": training.models.actor, "value": training.models.value, "ema": training.ema}
        for name, engine in trained.items():
            if engine is not None:
                engine.save_weights(out / f"{name}-{iteration}")
    return result


def measure_preference(config: PreferenceConfig, inputs: dict[str, Path], execution: ExecutionConfig, out: Path) -> dict[str, Any]:
    directory = out / "reference"
    directory.mkdir(parents=True, exist_ok=True)
    reference.run(config.reference, inputs, directory, out, execution, silent)
    policy = model_directory.load(inputs["sft"], execution, precision="fp32", head="lm", optim=config.optimizer, total_steps=2)
    dist.barrier()  # rank 0 has written the reference
    encoder, seq_len = Encoder(inputs["sft"]), policy.model.seq_len
    every, _ = train.compared(config, {**inputs, "reference": directory}, encoder, seq_len)
    batch = train.batches(config, [one for one in every if one.ranked.said.split in train.TRAINING], policy, encoder.padding)
    numbers = [[*one.reference.logprobs, *one.reference.strangers] for one in every]
    result: dict[str, Any] = {"completions": [], "numbers": [numbers], "metrics": []}
    for step in range(2):
        result["metrics"].append(policy.train_step(batch(step), config.micro_batch, preference_loss(config)))
        policy.save_weights(out / f"actor-{step}")
    return result


def main() -> None:
    from megatron.core import parallel_state

    given = json.loads(Path(sys.argv[1]).read_text())
    configs = {name: ALGORITHMS[name](**config) for name, config in given["configs"].items()}
    inputs = {name: {role: Path(path) for role, path in paths.items()} for name, paths in given["inputs"].items()}
    dist.init_process_group("gloo")
    results: dict[str, Any] = {}
    for layout, names in given["split"].items():
        for name in names:
            execution = ExecutionConfig(threads=1, offload_optimizer=True, **LAYOUTS[layout])
            found = measure(configs[name], inputs[name], execution, Path(given["out"]) / layout / name)
            results.setdefault(layout, {})[name] = found
        parallel_state.destroy_model_parallel()
    if dist.get_rank() == 0:
        print(json.dumps(results))


if __name__ == "__main__":
    main()
    parallel.leave()
