"""The DPO family and GRPO beside TRL's trainers: their loss and its gradient in every weight, on the same logits of the same transformers model."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from modelyard.formats.feedback import Comparison
from modelyard.model.training.batch import Batch, LossFn
from modelyard.posttrain.losses import policy_loss
from modelyard.posttrain.policy.algorithms import signal, terms_of
from modelyard.posttrain.policy.rollout import Rollout
from modelyard.posttrain.policy.update import policy_batches
from modelyard.posttrain.preference.config import ContrastConfig, KTOConfig, PreferenceConfig
from modelyard.posttrain.preference.losses import preference_loss
from modelyard.posttrain.preference.ranked import Ranked
from modelyard.posttrain.preference.rows import batch_of, rows_of, with_thumbs
from modelyard.posttrain.rows.completions import alone
from modelyard.posttrain.rows.masking import Example, pad_examples

from .policy.policies import grpo_config
from .preference.preferences import dpo_config, ipo_config, kto_config

pytestmark = pytest.mark.numerics

PAD, END = 0, 1
PAIRS = [([2, 3, 4], [5, 6, END], [7, END]), ([8], [9, END], [10, 11, 12, 13, END]), ([14, 15], [16, END], [17, 18, END])]
"""Prompt, preferred and other completion."""


def model(seed: int) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    shape = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 32}
    return LlamaForCausalLM(LlamaConfig(**shape, initializer_range=0.3, pad_token_id=PAD, eos_token_id=END))


def settings(directory: Path, **more: object) -> dict[str, Any]:
    shared = {"output_dir": str(directory), "use_cpu": True, "bf16": False, "report_to": "none", "per_device_train_batch_size": len(PAIRS)}
    return {**shared, "gradient_checkpointing": False, "disable_dropout": True, **more}


def words() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel({f"w{i:02}": i for i in range(32)}, "w02"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="w00", eos_token="w01", unk_token="w02")


def text(ids: Sequence[int]) -> str:
    return "".join(f" w{i:02}" for i in ids)


def logprobs_of(llama: Any, tokens: Tensor, labels: Tensor) -> Tensor:
    """[B, S]: log p of every label; 0 where there is none."""
    found = llama(input_ids=tokens).logits.float().log_softmax(-1)
    return found.gather(-1, labels.clamp(min=0)[..., None])[..., 0] * (labels >= 0)


def sums_of(llama: Any, examples: Sequence[Example]) -> list[float]:
    rows = pad_examples(examples, PAD)
    with torch.no_grad():
        return (logprobs_of(llama, rows.tokens, rows.labels) * rows.mask).sum(dim=1).tolist()


def examples_of(pairs: Sequence[tuple[list[int], ...]]) -> list[list[Example]]:
    return [[Example(prompt, completion) for completion in completions] for prompt, *completions in pairs]


def assert_same(policy: Any, theirs: Tensor, loss_fn: LossFn, batch: Batch) -> None:
    """Loss and gradients of the policy's weights, TRL's first."""
    result = loss_fn(logprobs_of(policy, batch.tokens, batch.labels), batch)
    ours = result.loss_sum / result.count
    torch.testing.assert_close(ours, theirs)
    weights = list(policy.parameters())
    expected, found = (torch.autograd.grad(loss, weights) for loss in (theirs, ours))
    assert max(float(gradient.abs().max()) for gradient in expected) > 1e-3
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)


def compared(reference: Any, config: PreferenceConfig) -> Batch:
    """Every pair as a comparison, made into a batch as the ``policy`` stage makes it."""
    rows = []
    for number, examples in enumerate(examples_of(PAIRS)):
        comparison = Comparison(id=str(number), split="reward", source="", prompt="", completions=("good", "bad"), ranks=(1, 2))
        rows += rows_of(number, Ranked(comparison, examples), sums_of(reference, examples))
    batch = batch_of(rows, PAD)
    return with_thumbs(batch, config, 0.0) if isinstance(config, KTOConfig) else batch


@pytest.mark.parametrize(
    ("config", "loss_type", "weights"),
    [
        (dpo_config(beta=0.3, sft_coef=0.0), ["sigmoid"], [1.0]),
        (dpo_config(beta=0.3, sft_coef=0.2), ["sigmoid", "sft"], [1.0, 0.2]),
        (ipo_config(beta=0.3, sft_coef=0.0, length_normalised=True), ["ipo"], [1.0]),
    ],
    ids=["dpo", "dpo_sft", "ipo"],
)
def test_preference_losses_are_trls(config: ContrastConfig, loss_type: list[str], weights: list[float], tmp_path: Path) -> None:
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    policy, reference = model(0), model(1)
    data = Dataset.from_list([{"prompt": text(p), "chosen": text(good), "rejected": text(bad)} for p, good, bad in PAIRS])
    args = DPOConfig(**settings(tmp_path, beta=config.beta, loss_type=loss_type, loss_weights=weights))
    trainer = DPOTrainer(policy, ref_model=reference, args=args, train_dataset=data, processing_class=words())
    theirs = trainer.compute_loss(policy, trainer.data_collator(list(trainer.train_dataset)))
    assert_same(policy, theirs, preference_loss(config), compared(reference, config))


def test_kto_loss_is_trls_with_the_same_estimate_of_the_kl(tmp_path: Path) -> None:
    """TRL shifts completions by one row within a batch, ours by one comparison; both are given TRL's."""
    from datasets import Dataset
    from trl import KTOConfig as TheirKTOConfig
    from trl import KTOTrainer

    policy, reference, config = model(0), model(1), kto_config(beta=0.3, desirable_weight=1.0, undesirable_weight=1.25)
    rows = [(prompt, completion, number == 0) for prompt, *both in PAIRS for number, completion in enumerate(both)]
    data = Dataset.from_list([{"prompt": text(p), "completion": text(c), "label": good} for p, c, good in rows])
    weights = {"desirable_weight": config.desirable_weight, "undesirable_weight": config.undesirable_weight}
    args = TheirKTOConfig(**settings(tmp_path, beta=config.beta, **weights, per_device_train_batch_size=len(rows)))
    trainer = KTOTrainer(policy, ref_model=reference, args=args, train_dataset=data, processing_class=words())
    theirs = trainer.compute_loss(policy, trainer.data_collator(list(trainer.train_dataset)))
    moved = [Example(prompt, rows[number - 1][1]) for number, (prompt, *_) in enumerate(rows)]
    gaps = [now - kept for now, kept in zip(sums_of(policy, moved), sums_of(reference, moved), strict=True)]
    kl = max(0.0, sum(gaps) / len(gaps))
    assert kl > 0.1
    batch = compared(reference, config)
    assert_same(policy, theirs, preference_loss(config), with_thumbs(batch, config, kl))


@pytest.mark.parametrize(
    ("changes", "theirs"),
    [
        ({"scale": "group", "mean": "sequence"}, {"loss_type": "grpo"}),
        ({"scale": "none", "mean": "longest"}, {"loss_type": "dr_grpo"}),
        ({"scale": "group", "mean": "token", "clip_range_high": 0.28}, {"loss_type": "dapo", "epsilon_high": 0.28}),
    ],
    ids=["grpo", "dr_grpo", "dapo"],
)
def test_grpo_losses_are_trls(changes: dict[str, Any], theirs: dict[str, Any], tmp_path: Path) -> None:
    from datasets import Dataset
    from trl import GRPOConfig as TheirGRPOConfig
    from trl import GRPOTrainer

    policy, reference, old = model(0), model(1), model(0)
    for weight in old.parameters():
        weight.data += 0.05 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(weight.numel()))
    examples = [example for pair in examples_of(PAIRS) for example in pair][:4]
    second = {"episodes": 8, "minibatches": 2, "micro_batch": 4}  # the later minibatch of an iteration: the policy has moved
    config = grpo_config(**second, group=2, max_new_tokens=6, clip_range=0.2, kl_coef=0.1, **changes)
    sizes = {"per_device_train_batch_size": 4, "num_generations": 2, "max_completion_length": 6}
    args = TheirGRPOConfig(**settings(tmp_path, beta=0.1, epsilon=0.2, **sizes, use_bias_correction_kl=False, **theirs))
    data = Dataset.from_list([{"prompt": text(one.prompt)} for one in examples])
    reward: Callable[..., list[float]] = lambda completions, **_: [0.0] * len(completions)  # noqa: E731
    policy.config._name_or_path = str(tmp_path / "policy")  # where TRL loads a reference of its own from, which is never asked
    policy.save_pretrained(tmp_path / "policy")
    trainer = GRPOTrainer(policy, reward_funcs=reward, args=args, train_dataset=data, processing_class=words())
    drawn = sampled(examples, old, reference)
    taught = signal(config, drawn, config.kl_coef)
    given = their_inputs(examples, drawn, taught.advantages)
    (batch,) = policy_batches(config, [], drawn, taught, torch.arange(4), 0)
    trainer.current_gradient_accumulation_steps = 1
    assert_same(policy, trainer._compute_loss(policy, given), policy_loss(terms_of(config, config.kl_coef)), batch)
    clipped = policy_loss(terms_of(config, config.kl_coef))(logprobs_of(policy, batch.tokens, batch.labels), batch)
    assert 0 < float(clipped.metrics["policy/clipfrac"]) < float(clipped.count)


def sampled(examples: Sequence[Example], old: Any, reference: Any) -> Rollout:
    """The completions as if ``old`` had sampled them, with rewards that differ within both groups of two."""
    rows = pad_examples(examples, PAD)
    with torch.no_grad():
        said, kept = (logprobs_of(one, rows.tokens, rows.labels) for one in (old, reference))
    scores = {"model": torch.tensor([1.0, 0.0, -0.5, 2.0])}
    return Rollout(alone(rows), [one.completion for one in examples], torch.ones(4, dtype=torch.bool), said, kept, None, scores, 0.0, {})


def their_inputs(examples: Sequence[Example], drawn: Rollout, advantages: Tensor) -> dict[str, Tensor]:
    """What TRL's sampling hands to its loss: prompts padded on the left, completions on the right."""
    before, after = max(len(one.prompt) for one in examples), max(len(one.completion) for one in examples)

    def sides(lines: Sequence[Sequence[float]], width: int, left: bool) -> Tensor:
        return torch.tensor([[0] * (width - len(x)) + [*x] if left else [*x] + [0] * (width - len(x)) for x in lines])

    def ours(values: Tensor) -> Tensor:
        return sides([values[i][drawn.rows.mask[i].bool()].tolist() for i in range(len(examples))], after, left=False)

    return {
        "prompt_ids": sides([one.prompt for one in examples], before, left=True),
        "prompt_mask": sides([[1] * len(one.prompt) for one in examples], before, left=True),
        "completion_ids": sides([one.completion for one in examples], after, left=False),
        "completion_mask": sides([[1] * len(one.completion) for one in examples], after, left=False),
        "advantages": advantages.sum(dim=1) / drawn.rows.mask.sum(dim=1),
        "old_per_token_logps": ours(drawn.logprobs),
        "ref_per_token_logps": ours(drawn.reference_logprobs),
        "num_items_in_batch": drawn.rows.mask.sum(),
    }
