"""TRL's trainers on the shapes and data of ``bench/posttrain.py``: each function sets one up and returns a call that trains and gives seconds.

TRL's defaults are bf16 and gradient checkpointing; both are set here. Time runs from the first optimizer step's begin (PPO: the first
iteration's end) to the last one's end, so what a trainer does once, set-up, data preparation, saving, is not counted. Models are random
``LlamaForCausalLM`` and ``LlamaForSequenceClassification`` with SDPA attention, as transformers loads them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch

from bench.shapes import peer
from modelyard.model.hf.families import hf_config
from modelyard.model.network.model_config import ModelConfig, Precision

Timed = Callable[[], float]
Now = Callable[[], float]
Order = Literal["sequential", "random", "group_by_length"]
PAD, END = 0, 1


def tokenizer(vocab_size: int) -> Any:
    """A vocabulary of words between spaces, ``<7>`` for token 7: what :func:`text` writes, for the trainers that take no token ids."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({f"<{i}>": i for i in range(vocab_size)}, "<2>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token=f"<{PAD}>", eos_token=f"<{END}>", unk_token="<2>")


def text(ids: Sequence[int]) -> str:
    """Token ids as text of :func:`tokenizer`."""
    return "".join(f" <{i}>" for i in ids)


def classifier(model: ModelConfig) -> Any:
    """transformers' Llama with a scalar head."""
    from transformers import LlamaForSequenceClassification

    config = hf_config(model, torch.float32, attn_implementation="sdpa", use_cache=False, num_labels=1, pad_token_id=PAD)
    return LlamaForSequenceClassification(config)


class Clock:
    """Notes when steps begin and end; made into a ``TrainerCallback`` by :func:`callback`."""

    def __init__(self, now: Now) -> None:
        self.now = now
        self.begins: list[float] = []
        self.ends: list[float] = []

    def callback(self) -> Any:
        """For a trainer's ``callbacks``."""
        from transformers import TrainerCallback

        clock = self

        class Callback(TrainerCallback):
            def on_step_begin(self, *_: Any, **__: Any) -> None:
                clock.begins.append(clock.now())

            def on_step_end(self, *_: Any, **__: Any) -> None:
                clock.ends.append(clock.now())

        return Callback()


def settings(precision: Precision, batch: int, steps: int, **more: Any) -> dict[str, Any]:
    """What all trainers are told alike."""
    return {
        "output_dir": tempfile.mkdtemp(),
        "per_device_train_batch_size": batch,
        "gradient_accumulation_steps": 1,
        "learning_rate": 1e-4,
        "max_grad_norm": 1.0,
        "optim": "adamw_torch_fused",
        "bf16": precision == "bf16",
        "gradient_checkpointing": False,
        "use_cpu": not torch.cuda.is_available(),
        "max_steps": steps,
        "logging_steps": steps,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        **more,
    }


def trained(trainer: Any, clock: Clock) -> Timed:
    """Seconds from the first step's begin to the last one's end."""

    def once() -> float:
        clock.begins.clear()
        clock.ends.clear()
        trainer.train()
        return clock.ends[-1] - clock.begins[0]

    return once


def sft(
    model: ModelConfig, precision: Precision, rows: Sequence[tuple[list[int], int]], batch: int, steps: int, order: Order, now: Now
) -> Timed:
    """SFTTrainer on rows of (token ids, length of the prompt), loss on the rest; batches are padded to their longest row."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    data = Dataset.from_list([{"input_ids": ids, "completion_mask": [0] * n + [1] * (len(ids) - n)} for ids, n in rows])
    args = SFTConfig(
        **settings(precision, batch, steps, max_length=model.seq_len, completion_only_loss=True, train_sampling_strategy=order)
    )
    clock = Clock(now)
    trainer = SFTTrainer(peer(model), args, train_dataset=data, processing_class=tokenizer(model.vocab_size), callbacks=[clock.callback()])
    return trained(trainer, clock)


def reward(
    model: ModelConfig, precision: Precision, pairs: Sequence[tuple[list[int], list[int]]], batch: int, steps: int, order: Order, now: Now
) -> Timed:
    """RewardTrainer on pairs of (preferred, other) token ids; batches are padded to their longest text (it cannot group them by length)."""
    from datasets import Dataset
    from trl import RewardConfig, RewardTrainer

    data = Dataset.from_list([{"chosen_ids": chosen, "rejected_ids": rejected} for chosen, rejected in pairs])
    args = RewardConfig(**settings(precision, batch, steps, max_length=model.seq_len, disable_dropout=True, train_sampling_strategy=order))
    clock = Clock(now)
    trainer = RewardTrainer(
        classifier(model), args, train_dataset=data, processing_class=tokenizer(model.vocab_size), callbacks=[clock.callback()]
    )
    return trained(trainer, clock)


def dpo(
    model: ModelConfig,
    precision: Precision,
    pairs: Sequence[tuple[int, list[int], list[int]]],
    batch: int,
    steps: int,
    order: Order,
    now: Now,
) -> Timed:
    """DPOTrainer on pairs of (length of the prompt, preferred, other); the reference model runs in every step, as it does by default.

    TRL closes a completion that does not end with the end token, so the last token of each text is replaced by it.
    """
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    rows = [{"prompt": text(good[:n]), "chosen": text([*good[n:-1], END]), "rejected": text([*bad[n:-1], END])} for n, good, bad in pairs]
    args = DPOConfig(
        **settings(precision, batch, steps, max_length=model.seq_len, disable_dropout=True, train_sampling_strategy=order, beta=0.1)
    )
    clock = Clock(now)
    trainer = DPOTrainer(
        peer(model),
        ref_model=peer(model),
        args=args,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer(model.vocab_size),
        callbacks=[clock.callback()],
    )
    return trained(trainer, clock)


def grpo(
    model: ModelConfig,
    precision: Precision,
    prompts: Sequence[list[int]],
    batch: int,
    group: int,
    new_tokens: int,
    iterations: int,
    now: Now,
) -> Timed:
    """GRPOTrainer with a reference model, a reward model and one pass over each iteration's ``batch`` completions."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    sampling = {"num_generations": group, "max_completion_length": new_tokens, "temperature": 1.0, "steps_per_generation": 1}
    args = GRPOConfig(**settings(precision, batch, iterations, **sampling, beta=0.05, epsilon=0.2, loss_type="grpo", num_iterations=1))
    policy, words, clock = peer(model), tokenizer(model.vocab_size), Clock(now)
    policy.save_pretrained(args.output_dir)
    policy.config._name_or_path = args.output_dir  # where its reference is loaded from
    policy.config.use_cache = policy.generation_config.use_cache = True
    trainer = GRPOTrainer(
        policy,
        reward_funcs=classifier(model),
        args=args,
        train_dataset=Dataset.from_list([{"prompt": text(prompt)} for prompt in prompts]),
        processing_class=words,
        reward_processing_classes=words,
        callbacks=[clock.callback()],
    )
    return trained(trainer, clock)


def ppo(
    model: ModelConfig, precision: Precision, prompts: Sequence[list[int]], batch: int, new_tokens: int, iterations: int, now: Now
) -> Timed:
    """PPOTrainer with one inner epoch and one minibatch; the first iteration of a call is not timed."""
    from datasets import Dataset
    from trl.experimental.ppo import PPOConfig, PPOTrainer

    args = PPOConfig(
        **settings(
            precision,
            batch,
            -1,
            total_episodes=batch * (iterations + 1),
            num_ppo_epochs=1,
            num_mini_batches=1,
            local_rollout_forward_batch_size=batch,
            num_sample_generations=0,
            response_length=new_tokens,
            temperature=1.0,
            kl_coef=0.05,
            lam=0.95,
        )
    )
    data = Dataset.from_list([{"input_ids": prompt} for prompt in prompts])
    policy = peer(model)
    policy.config.use_cache = policy.generation_config.use_cache = True
    clock = Clock(now)
    trainer = PPOTrainer(
        args=args,
        processing_class=tokenizer(model.vocab_size),
        model=policy,
        ref_model=peer(model),
        reward_model=classifier(model),
        value_model=classifier(model),
        train_dataset=data,
        eval_dataset=data.select(range(batch)),
        callbacks=[clock.callback()],
    )

    def once() -> float:
        clock.ends.clear()
        trainer.train()
        assert len(clock.ends) == iterations + 1
        return clock.ends[-1] - clock.ends[0]

    return once
