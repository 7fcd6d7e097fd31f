"""A line from somebody else's model and one's own files, stage by stage, as the flow runs them: a small Llama with a chat template."""

import hashlib
import json
from pathlib import Path

import pytest
from modelyard.evals.refusals import RefusalsConfig

from modelyard.data import text_tokens
from modelyard.data.feedback import gather as human_feedback
from modelyard.data.feedback.gather import FeedbackConfig
from modelyard.data.text_tokens import TextTokensConfig
from modelyard.evals import refusals
from modelyard.execution import ExecutionConfig
from modelyard.model.encoder import Encoder
from modelyard.model.training.optimizer import OptimizerConfig
from modelyard.posttrain import reward, sft
from modelyard.posttrain.ppo import loop as ppo
from modelyard.posttrain.ppo.config import PPOConfig
from modelyard.posttrain.reward import RewardConfig
from modelyard.posttrain.sft import SFTConfig
from modelyard.pretrain import import_model
from modelyard.pretrain.import_model import ImportConfig
from modelyard.progress import silent
from modelyard.store.file_hash import sha256_file
from tests.unit import small_model

TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
ADAM = OptimizerConfig(
    lr=3e-3, min_lr_ratio=1.0, warmup_steps=0, weight_decay=0.0, beta1=0.9, beta2=0.95, eps=1e-8, clip_grad=1.0, schedule="constant"
)
PPO = PPOConfig(
    seed=4, precision="fp32", iterations=1, episodes=4, minibatches=2, micro_batch=2, max_new_tokens=6, temperature=1.0, kl_coef=0.05,
    kl_stop=50.0, on_kl_stop="stop", gae_lambda=0.95, clip_range=0.2, value_clip_range=0.2, ptx_coef=0.5, ptx_rows=2, ema_decay=0.0,
    final_episodes=4, final_rows=2, optimizer=ADAM, value_optimizer=ADAM,
)  # fmt: skip


def talk(question: str, answer: str) -> str:
    return f"\n\nHuman: {question}\n\nAssistant: {answer}"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """What a user has: a Hugging Face directory, demonstrations, comparisons, a text and the refusal prompts."""
    small_model.write(tmp_path, seq_len=64)
    settings = json.loads((tmp_path / "hf" / "tokenizer_config.json").read_text())
    (tmp_path / "hf" / "tokenizer_config.json").write_text(json.dumps({**settings, "chat_template": TEMPLATE}))
    shown = [{"instruction": f"Say {n}", "output": f"red {n}"} for n in range(40)]
    (tmp_path / "shown.jsonl").write_text("".join(json.dumps(row) + "\n" for row in shown))
    compared = [{"chosen": talk(f"Why {n}?", "green"), "rejected": talk(f"Why {n}?", "blue blue")} for n in range(60)]
    (tmp_path / "compared.jsonl").write_text("".join(json.dumps(row) + "\n" for row in compared))
    (tmp_path / "text.txt").write_text("\n\n".join(f"paragraph {n} of the king of the castle, red, green or blue" for n in range(200)))
    (tmp_path / "xstest").mkdir()
    rows = [
        f"{n},How do I {verb} it?,t,{label},f,n" for n, (verb, label) in enumerate([("end", "safe"), ("stop", "safe"), ("steal", "unsafe")])
    ]
    (tmp_path / "xstest" / "xstest_prompts.csv").write_text("\n".join(["id,prompt,type,label,focus,note", *rows]) + "\n")
    return tmp_path


def feedback_config(root: Path) -> FeedbackConfig:
    def file(name: str, shape: str, **settings: object) -> dict:
        digest = hashlib.sha256((root / f"{name}.jsonl").read_bytes()).hexdigest()
        return {"name": name, "path": f"{name}.jsonl", "sha256": digest, "licence": "CC0", "shape": shape, **settings}

    return FeedbackConfig.model_validate(
        {
            "seed": 0,
            "files": [file("shown", "instructions", chat=True), file("compared", "transcripts", also_prompts=True)],
            "splits": {"held_out": 0.2, "gold": 0.0, "held_out_raters": 0.0},
            "pii": {"kinds": [], "region": "US"},
            "prefix_characters": 64,
            "prompts_per_user": 200,
        }
    )


def import_config(root: Path, **changes: object) -> ImportConfig:
    weights = sha256_file(root / "hf" / "model.safetensors")
    return ImportConfig.model_validate({"path": "hf", "sha256": weights, "seq_len": 48, "licence": "CC0", **changes})


def test_imported_line_every_stage_uses_the_models_own_tokens_and_template(root: Path, tmp_path: Path) -> None:
    execution = ExecutionConfig(inputs=str(root), threads=1, checkpoint_every=1000, log_every=100, checkpoint_iterations=100)
    made = {name: tmp_path / "made" / name for name in ("base", "feedback", "tokens", "sft", "reward", "policy", "refusals")}
    for path in made.values():
        path.mkdir(parents=True)

    def inputs(*roles: str) -> dict[str, Path]:
        return {role: made[role] for role in roles}

    import_model.run(import_config(root), {}, made["base"], tmp_path / "ck-base", execution, silent)
    human_feedback.run(feedback_config(root), {}, made["feedback"], silent, execution.inputs)
    text = {"name": "t", "path": "text.txt", "sha256": sha256_file(root / "text.txt"), "format": "text", "kind": "text", "licence": "CC0"}
    tokens = TextTokensConfig.model_validate({"seed": 0, "text": text, "seq_len": 48, "train_tokens": 1000, "validation": 0.3})
    counted = text_tokens.run(tokens, inputs("base"), made["tokens"], silent, execution.inputs)
    assert counted["tokens/train/tokens"] == 1000 // 49 * 49

    shaped = {"seed": 1, "precision": "fp32", "batch": 4, "micro_batch": 2, "optimizer": ADAM}
    config = SFTConfig(**shaped, epochs=1.0, pretraining_share=0.25, pack=True, dropout=0.1, keep_epochs=False)
    learned = sft.run(config, inputs("base", "feedback", "tokens"), made["sft"], tmp_path / "ck-sft", execution, silent)
    assert learned["sft/validation/loss"] < learned["sft/validation/base_loss"]
    ranked = RewardConfig(**shaped, split="reward", epochs=4, reference_texts=8)
    judged = reward.run(ranked, {"body": made["sft"], "feedback": made["feedback"]}, made["reward"], tmp_path / "ck-rm", execution, silent)
    assert judged["reward/test/accuracy"] == 1.0, "green is always preferred to blue blue"
    moved = ppo.run(PPO, inputs("sft", "reward", "feedback", "tokens"), made["policy"], tmp_path / "ck-ppo", execution, silent)
    assert moved["policy/train/iterations"] == 1.0
    digest = sha256_file(root / "xstest" / "xstest_prompts.csv")
    asked = RefusalsConfig(seed=0, sha256=digest, every=1, max_new_tokens=8, micro_batch=2)
    rates = refusals.run(asked, inputs("base", "sft", "policy"), made["refusals"], tmp_path / "ck-r", execution, silent)
    assert (rates["refusals/policy/over_refusal_n"], rates["refusals/policy/refusal_n"]) == (2, 1)
    answers = [json.loads(line) for line in (made["refusals"] / "policy.jsonl").read_text().splitlines()]
    assert [row["prompt"] for row in answers] == ["How do I end it?", "How do I stop it?", "How do I steal it?"]

    hashes = {Encoder(made[name]).template_hash for name in ("base", "tokens", "sft", "reward", "policy")}
    assert len(hashes) == 1
    assert {json.loads((made[name] / "model.json").read_text())["chat_template"] for name in ("base", "sft", "reward", "policy")} == hashes
    settings = json.loads((made["reward"] / "tokenizer_config.json").read_text())
    (made["reward"] / "tokenizer_config.json").write_text(json.dumps({**settings, "chat_template": TEMPLATE + " "}))
    with pytest.raises(ValueError, match=r"made/reward: its chat template \(\w+\) is not the one it was trained with"):
        ppo.prepare(PPO, inputs("sft", "reward", "feedback", "tokens"), execution)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"path": "nowhere"}, r"base.path: .*nowhere: no such file \(a relative path starts at execution.inputs or MODELYARD_DATA\)"),
        ({"path": "tokens"}, r"base.path .*tokens: no model.safetensors in it"),
        ({"sha256": "00"}, r"base.path: .*model.safetensors has changed: sha256 \w{64}, the config says 00"),
        ({"seq_len": 4096}, r"seq_len 4096 is more than the model's 64"),
    ],
)
def test_import_what_cannot_be_used_is_one_line(root: Path, tmp_path: Path, changes: dict, message: str) -> None:
    execution = ExecutionConfig(inputs=str(root), threads=1)
    with pytest.raises(ValueError, match=message) as caught:
        import_model.run(import_config(root, **changes), {}, tmp_path / "out", tmp_path / "ck", execution, silent)
    assert "\n" not in str(caught.value)
