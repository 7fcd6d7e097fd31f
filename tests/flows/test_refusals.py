"""The line as a person starts it: every refusal is one line, a non-zero exit, and nothing trained or lost."""

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from flows.pipeline_config import PipelineConfig, load_pipeline
from modelyard.config import ConfigError, read_tree
from modelyard.exit_codes import BAD_INPUT
from modelyard.model.hf.conversion import export_hf
from tasks.session import run_from_terminal
from tests.unit.model import seeing
from tests.worlds import imported

ROOT = Path(__file__).parents[2]
SMALLEST = str(ROOT / "configs/pipeline/smallest.toml")
TINY_GRPO, TINY_DPO, TINY_LORA = (str(ROOT / f"configs/pipeline/tiny-{name}.toml") for name in ("grpo", "dpo", "lora"))
TINY_OPD = str(ROOT / "configs/pipeline/tiny-opd.toml")
TAUGHT = str(ROOT / "configs/pipeline/tiny-taught.toml")
SMOLLM2 = str(ROOT / "configs/pipeline/smollm2.toml")
TABLE = str(ROOT / "configs/pipeline/smollm2-table-dpo.toml")
VERIFIED = str(ROOT / "configs/pipeline/tiny-verified.toml")
SMOLLM2_GPU = str(ROOT / "configs/pipeline/smollm2-gpu.toml")
IMAGES = str(ROOT / "configs/pipeline/tiny-images.toml")
RULE = f'{{rubric="{ROOT}/configs/rubrics/usefulness.toml",stance="answer",categories=["instruction"]}}'
JUDGE = '{kind="policy",orders=1,calibrate="none",shots=0,chat=false}'
REWRITE = f"ai_feedback.rewrite={{judge={JUDGE},min_kappa=0.3,gap=0.5,rules=[{RULE}]}}"
FP8 = ("execution.transformer_engine=true", "execution.fp8=hybrid")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.toml"], "missing.toml: no such config file"),
        ([SMALLEST, "policy.kl_coeff=0.05"], "policy.kl_coeff: unknown key; did you mean 'kl_coef'?"),
        (
            [str(ROOT / "configs/evals/limitations.toml")],
            "not a pipeline: there is no [corpus], [base], [policy] or [release], but name, aspects",
        ),
        ([SMALLEST, "polcy.kl_coef=0.05"], "polcy: unknown key; did you mean 'policy'?"),
        ([SMALLEST, "release.limits.openings.tolerence=0.1"], "release.limits.openings.tolerence: unknown key; did you mean 'tolerance'?"),
        ([SMALLEST, "evals.benchmarks.openings.shot=1"], "evals.benchmarks: openings: shot: unknown key; did you mean 'shots'?"),
        (
            [SMALLEST, 'release.overrides=[{gate="safty",name="A",reason="b",expires=2026-12-31}]'],
            "(got 'safty'); did you mean 'safety'?",
        ),
        ([SMALLEST, "release.set_aside.preferences=none"], "release.set_aside.preferences: unknown key; did you mean 'preference'?"),
        ([SMALLEST, "release.limits.Last-word={}"], "; did you mean 'last_word'?"),
        ([SMALLEST, 'forecast.benchmarks=["last_wrod"]'], "forecast.benchmarks: 'last_wrod' is none of evals.benchmarks"),
        ([SMALLEST, "forecast.buckets=0"], "forecast.buckets: Input should be greater than or equal to 1"),
        ([SMALLEST, "policy.kl_coef=high"], "policy.kl_coef: Input should be a valid number"),
        ([SMALLEST, "policy.kl_coef=true"], "policy.kl_coef: expected a number (got True)"),
        (
            [SMALLEST, "sft.optimizer.lr=-1", "sft.seed=1"],
            "smallest.toml with sft.optimizer.lr=-1: sft.optimizer.lr: Input should be greater",
        ),
        ([SMALLEST, "forecast.rungs=3"], "smallest.toml with forecast.rungs=3: forecast.rungs: Input should be a valid list (got 3)"),
        ([SMALLEST, "execution.scratch="], "smallest.toml with execution.scratch=: execution.scratch: String should have at least 1 char"),
        ([SMALLEST, "policy.kl_coef"], "override 'policy.kl_coef': expected KEY=VALUE"),
        ([SMALLEST, "execution.tensor_parallel=3"], "model.heads 4 is not divisible by execution.tensor_parallel 3"),
        ([SMALLEST, "execution.pipeline_parallel=3"], "model.layers 2 is not divisible by execution.pipeline_parallel 3"),
        (
            [SMALLEST, "execution.pipeline_parallel=2", "execution.virtual_pipeline=2"],
            "model.layers 2 is not divisible by execution.pipeline_parallel 2 x virtual_pipeline 2",
        ),
        ([IMAGES, "execution.context_parallel=2"], "context_parallel 2 is for rows of text; this line's models are shown images"),
        ([IMAGES, "sft.repeat={emojis=4}"], "sft.repeat: 'emojis' is no source of demonstrations (corpus, easy_vqa, emoji, emoji_noto)"),
        ([SMALLEST, "sft.repeat.corpus=0"], "sft.repeat.corpus: Input should be greater than or equal to 1"),
        ([TINY_GRPO, "policy.rollouts.backend=server"], "policy.rollouts.backend 'server': execution.sampler must say which"),
        ([TINY_GRPO, "policy.rollouts.backend=vllm"], "policy.rollouts.backend: Input should be 'own' or 'server'"),
        ([TINY_GRPO, "policy.rollouts.weight_cap=3.0"], "weight_cap is of samples that a server draws; the backend is 'own'"),
        ([TINY_DPO, "policy.rollouts.backend=server"], "policy.rollouts: unknown key"),
        ([TINY_GRPO, "base.model.style=gpt"], "base.model: a line ends with its export, and only llama-style models export"),
        ([TINY_GRPO, "execution.sampler=vllm serve '"], "sampler: No closing quotation"),
        ([TINY_GRPO, "execution.sampler_requests=0"], "sampler_requests must be at least 1, got 0"),
        ([SMALLEST, "execution.context_parallel=0"], "context_parallel must be at least 1, got 0"),
        ([SMALLEST, "execution.context_parallel=2", "execution.expert_parallel=4"], "tensor_parallel x context_parallel x data_parallel 2"),
        ([SMALLEST, "execution.virtual_pipeline=2"], "virtual_pipeline 2 needs pipeline_parallel above 1"),
        (
            [TINY_GRPO, "execution.pipeline_parallel=2", "execution.virtual_pipeline=2", "base.micro_batch=8"],
            "of 8 on each of 1 replicas than execution.pipeline_parallel 2; execution.virtual_pipeline needs as many",
        ),
        ([SMALLEST, "execution.data_parallel=3"], "x execution.data_parallel 3"),
        ([TINY_DPO, "policy.micro_batch=2"], "policy.micro_batch 2 is less than feedback.votes.completions 4: those of a comparison stay"),
        ([SMOLLM2_GPU, "execution.data_parallel=8"], "sft.batch 32 is not divisible by micro_batch 8 x execution.data_parallel 8"),
        (
            [SMALLEST, "evals.benchmarks.openings.max_new_tokens=31"],
            "evals.benchmarks.openings.max_new_tokens 31 leaves no room for a prompt in seq_len 32",
        ),
        ([SMALLEST, "evals.benchmarks.gsm9k={}"], "evals.benchmarks: gsm9k: not known, and it has no file; there are agieval_en, "),
        ([SMALLEST, "evals.benchmarks.gsm9k={}"], "; did you mean 'gsm8k'?"),
        ([SMALLEST, "release.preference=prompts"], "release.preference: 'prompts' is none of evals.benchmarks (held_out_text, last_word, "),
        ([SMALLEST, "release.limits.mmlu={}"], "release.limits.mmlu: 'mmlu' is none of evals.benchmarks"),
        ([SMALLEST, "execution.store=s4://bucket/store"], "store 's4://bucket/store': scheme 's4' is not file or s3"),
        ([SMALLEST, "policy.temperature=0.5"], "policy: temperature must be 1"),
        ([SMALLEST, "policy.algorithm=trpo"], "policy: Input tag 'trpo' found using 'algorithm' does not match"),
        ([SMALLEST, "policy.algorithm=gpro"], "; did you mean 'grpo'?"),
        ([SMALLEST, "tokens.seq_length=32"], "tokens.seq_length: unknown key; did you mean 'seq_len'?"),
        ([SMALLEST, "policy.group=4"], "policy.group: unknown key"),
        ([TINY_GRPO, "policy.gae_lambda=0.9"], "policy.gae_lambda: unknown key"),
        ([TINY_GRPO, "policy.group=3"], "policy: episodes 64 is not divisible by group 3"),
        ([TINY_GRPO, "policy.group=1"], "policy.group: Input should be greater than or equal to 2"),
        ([TINY_GRPO, "policy.clip_range_high=0.1"], "policy: clip_range_high 0.1 is less than clip_range 0.2"),
        ([TINY_GRPO, "policy.algorithm=rloo"], "policy.scale: unknown key; policy.mean: unknown key"),
        ([TINY_OPD, "policy.kl_coef=0.1"], "policy.kl_coef: unknown key"),
        (
            [TINY_GRPO, "policy.reward_weight=0"],
            "policy.rewards has none with a weight and there is no table rbrm: nothing would be learned",
        ),
        (
            [TINY_GRPO, "policy.lora.rank=2", "policy.lora.alpha=2", 'policy.lora.targets=["q_proj"]', "policy.lora.dropout=0.1"],
            "policy: lora.dropout 0.1: a ratio to the log-probability of the sampler would be of the dropout",
        ),
        ([TINY_OPD, "policy.reward_weight=1.0"], "policy.reward_weight: unknown key"),
        ([TINY_OPD, "policy.teacher.kind=endpoint"], "policy.teacher.kind: Input should be 'directory'"),
        (
            [TINY_OPD, "policy.teacher.weights=0123456"],
            "policy.teacher: weights: the fingerprint of a directory's weights (8 hex digits or more)",
        ),
        ([TINY_OPD, "policy.teacher.weights="], "policy.teacher: weights: the fingerprint of a directory's weights"),
        ([TINY_DPO, "policy.algorithm=kto"], "policy.desirable_weight: Field required"),
        ([TINY_DPO, "policy.max_tokens=129"], "policy.max_tokens 129 is more than base.model.seq_len 128"),
        ([TINY_DPO, "policy.beta=0"], "policy.beta: Input should be greater than 0"),
        ([TINY_LORA, "policy.lora.rank=0"], "policy.lora.rank: Input should be greater than or equal to 1"),
        ([TINY_LORA, 'sft.lora.targets=["lm_head"]'], "sft.lora.targets.0: Input should be 'q_proj', 'k_proj'"),
        ([TINY_LORA, "base.lora.rank=8"], "base: lora: adapters are for post-training (sft, reward, policy)"),
        ([TINY_LORA, "base.model.style=gpt"], "sft.lora: only dense llama-style models take adapters, this one is of style 'gpt'"),
        ([SMALLEST, "base.kind=grown"], "base: Input tag 'grown' found using 'kind' does not match"),
        ([SMALLEST, "base.model.layers=some"], "base.model.layers: Input should be a valid integer"),
        ([SMALLEST, 'release.set_aside={content_classifier=""}'], "release.set_aside.content_classifier"),
        ([SMALLEST, "content_classifier.seed=1"], "harm_labels: missing; it belongs to the table content_classifier"),
        ([SMOLLM2, "corpus.filters.abuse.held_out=false"], "corpus.filters.abuse.held_out = true"),
        ([SMOLLM2, "harm_labels.test_share=0.6"], "harm_labels.test_share 0.6 is more than the half"),
        ([SMOLLM2, 'content_classifier.protected=["rude"]'], "content_classifier.protected: 'rude' is none of harm_labels.categories"),
        ([SMALLEST, "release.set_aside.forecast=no time"], "release.set_aside.forecast: applies to a pretrained base"),
        ([SMOLLM2, "base.kind=continue"], "base.optimizer: Field required"),
        ([SMOLLM2, "sft.max_tokens=9999"], "sft.max_tokens 9999 is more than base.seq_len 2048"),
        ([SMOLLM2, "sft_start.max_tokens=1024"], "tokens.seq_len 256 is less than the width of sft_start's rows 1024"),
        ([SMOLLM2, "sft.keep_epochs=false"], "sft.keep_epochs must be true for selection to have something to choose from"),
        ([SMOLLM2, "feedback.splits.gold=0"], "feedback.splits.gold: 0 leaves the gold reward model no comparisons"),
        ([SMALLEST, "tokens.seq_len=64"], "tokens.seq_len is 64, but base.model.seq_len is 32"),
        ([TAUGHT, "instructions.made_shots=8"], "instructions: made_shots 8 leaves no example of people among shots 8"),
        ([TAUGHT, "instructions.teacher.kind=policy"], "instructions.teacher.kind: Input should be 'directory' or 'endpoint'"),
        ([TAUGHT, "instructions.teacher.model="], "instructions.teacher: model: names the model of an endpoint, and of nothing else"),
        ([TAUGHT, "instructions.number=5000"], "instructions: number 5000 is more than requests x per_request ask for (2400)"),
        ([TAUGHT, "instructions.teacher.name=corpus"], "instructions.teacher.name 'corpus' is the name of feedback of another source"),
        ([TAUGHT, "instructions.teacher.licence="], "instructions.teacher.licence: String should have at least 1 character"),
        ([SMALLEST, "execution.fp8=hybrid"], "execution: fp8 'hybrid' needs transformer_engine = true"),
        ([SMALLEST, "execution.transformer_engine=true"], "policy.algorithm 'ppo' samples from the model that it trains"),
        (
            [TINY_DPO, "execution.transformer_engine=true", "execution.compile=true"],
            "execution: transformer_engine builds layers that torch",
        ),
        ([TINY_DPO, *FP8], "execution.fp8 'hybrid' rounds products of bf16, and base.precision is 'fp32'"),
        ([TINY_DPO, *FP8, "base.model.ffn_hidden=344"], "execution.fp8: model.ffn_hidden gives a rank matrices with sides of 344"),
        (
            [TINY_DPO, *FP8, *(f"{stage}.precision=bf16" for stage in ("base", "sft", "reward", "gold", "policy"))],
            "forecast.rungs: execution.fp8: model.hidden gives a rank matrices with sides of 24",
        ),
        (
            [
                TINY_DPO,
                "execution.transformer_engine=true",
                "policy.lora.rank=2",
                "policy.lora.alpha=2",
                'policy.lora.targets=["q_proj"]',
            ],
            "execution.transformer_engine: adapters (policy.lora) stand on our own layers",
        ),
        ([IMAGES, "execution.transformer_engine=true"], "execution.transformer_engine is for models of text; this line's are shown images"),
        ([SMALLEST, "feedback.votes.gold.raters=even"], "gold.raters: must differ from reward.raters"),
        ([SMALLEST, "policy.final_episodes=0"], "policy.final_episodes: Input should be greater than or equal to 1"),
        ([SMALLEST, "policy.final_rows=0"], "policy.final_rows: Input should be greater than or equal to 1"),
        ([SMALLEST, "policy.episodes=0"], "policy.episodes: Input should be greater than or equal to 1"),
        ([SMALLEST, "policy.iterations=0"], "policy.iterations: Input should be greater than or equal to 1"),
        ([SMALLEST, "policy.kl_stop=-1"], "policy.kl_stop: Input should be greater than 0"),
        ([SMALLEST, "policy.max_prompt_tokens=0"], "policy.max_prompt_tokens: Input should be greater than or equal to 1"),
        ([SMALLEST, "policy.ptx_coef=-0.5"], "policy.ptx_coef: Input should be greater than or equal to 0"),
        ([SMALLEST, "policy.seed=-1"], "policy.seed: Input should be greater than or equal to 0"),
        ([SMALLEST, "policy.optimizer.clip_grad=-1"], "policy.optimizer.clip_grad: Input should be greater than or equal to 0"),
        ([SMALLEST, "reward.batch=0"], "reward.batch: Input should be greater than or equal to 1"),
        ([SMALLEST, "sft.max_tokens=0"], "sft.max_tokens: Input should be greater than or equal to 2"),
        ([TINY_DPO, "policy.max_tokens=1"], "policy.max_tokens: Input should be greater than or equal to 2"),
        ([SMOLLM2, "rbrm.judge.orders=0"], "rbrm.judge.orders: Input should be greater than or equal to 1"),
        ([SMALLEST, "policy.max_new_tokens=31"], "policy.max_new_tokens 31 leaves no room for a prompt in seq_len 32"),
        ([SMOLLM2, "selection.max_new_tokens=2047"], "selection.max_new_tokens 2047 leaves no room for a prompt in seq_len 2048"),
        ([SMOLLM2, "ai_feedback.closed_domain.response_tokens=2047"], "ai_feedback.closed_domain.response_tokens 2047 leaves no room"),
        ([SMOLLM2, "ai_feedback.rankings.max_prompt_tokens=2048"], "are more than seq_len 2048: prompts would be cut"),
        (
            [VERIFIED, 'policy.prompt_categories=["sumz"]'],
            "policy.prompt_categories: no prompt is of category 'sumz'; there are 'review', 'sums'",
        ),
        ([VERIFIED, 'policy.rewards.right.categories=["sumz"]'], "policy.rewards.right.categories: no prompt is of category 'sumz'"),
        ([VERIFIED, 'policy.rewards.right.categories=["review"]'], "review: policy.prompt_categories (sums) leaves out every prompt of it"),
        (
            [TINY_GRPO, 'policy.rewards.right={pattern="(a)",expects="tests",weight=1.0}'],
            "policy.rewards.right.expects: 'tests' compares with answers, and no prompt of the line has one; add [[feedback.tasks]]",
        ),
        ([SMALLEST, "held_out.reviews=[]"], "policy: samples from prompts, and feedback has none; add [[feedback.tasks]]"),
        ([SMOLLM2, "ai_feedback.keep_comparisons=false", REWRITE], "ai_feedback: rewrite: puts people's training comparisons in order"),
        ([TABLE, "policy.micro_batch=3"], "policy.micro_batch 3 is less than ai_feedback.rankings.samples 4: those of a comparison stay"),
        ([SMOLLM2, "feedback.splits.held_out=0"], "feedback.splits.held_out: 0 leaves selection no held-out prompts to choose by"),
    ],
)
def test_line_bad_config_is_one_line_before_anything_starts(tmp_path, monkeypatch, capfd, arguments, message):
    monkeypatch.chdir(tmp_path)
    code = run_from_terminal(arguments[0], arguments[1:], load_pipeline, lambda config: pytest.fail("the flow must not start"))
    assert code == BAD_INPUT
    out, err = capfd.readouterr()
    assert message in err
    assert err.count("\n") == 1
    assert not out
    assert not (tmp_path / ".modelyard").exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["execution.tensor_parallel=3"], "model.heads 4 is not divisible by execution.tensor_parallel 3"),
        (
            [
                "execution.pipeline_parallel=2",
                "execution.virtual_pipeline=2",
                *(f"{stage}.micro_batch=1" for stage in ("sft", "sft_start", "reward", "gold", "policy")),
            ],
            "model.layers 2 is not divisible by execution.pipeline_parallel 2 x virtual_pipeline 2",
        ),
        (["execution.context_parallel=2"], "execution.context_parallel 2 is for rows of text; this model is shown images (model.vision)"),
    ],
)
def test_line_whose_layout_does_not_divide_its_imported_base_is_refused_on_reading(tmp_path, monkeypatch, capfd, overrides, message):
    monkeypatch.chdir(tmp_path)
    line = imported.write(tmp_path)
    if "context_parallel" in overrides[0]:
        (tmp_path / "sees").mkdir()
        export_hf(seeing.write(tmp_path / "sees"), tmp_path / "sees" / "exported", end_id=0, pad_id=4)
        overrides = [*overrides, "base.path=sees/exported"]
    capfd.readouterr()
    code = run_from_terminal(str(line), overrides, load_pipeline, lambda config: pytest.fail("the flow must not start"))
    assert code == BAD_INPUT
    out, err = capfd.readouterr()
    assert "line.toml: base.path: " in err
    assert message in err
    assert err.count("\n") == 1
    assert not out
    assert not (tmp_path / ".modelyard").exists()


@pytest.mark.parametrize("path", sorted((ROOT / "configs/pipeline").glob("*.toml")), ids=lambda path: path.stem)
def test_pipeline_configs_of_the_project_load(path):
    assert load_pipeline(str(path), []).name


def test_rules_for_a_policy_that_takes_no_samples_are_refused(tmp_path):
    policy = "[policy]\nprecision = 'fp32'\nmicro_batch = 16\nmax_new_tokens = 8\nfinal_episodes = 8\nfinal_rows = 8\n"
    (tmp_path / "line.toml").write_text(f"extends = ['{SMOLLM2}', '{ROOT}/configs/recipes/dpo.toml']\n{policy}")
    with pytest.raises(ConfigError, match=r"rbrm rewards samples, and policy\.algorithm 'dpo' takes none; remove the table"):
        load_pipeline(str(tmp_path / "line.toml"), [])


def test_choice_of_an_epoch_without_held_out_prompts_is_refused_and_tasks_bring_some(tmp_path):
    second = "[selection]\nmax_new_tokens = 32\n[sft_start]\nprecision = 'fp32'\nbatch = 40\nmicro_batch = 40\noptimizer = { lr = 1e-3 }\n"
    for name, base in (("corpus", "tiny"), ("tasks", "tiny-verified")):
        files = [f"{ROOT}/configs/pipeline/{base}.toml", f"{ROOT}/configs/recipes/two-sft-models.toml"]
        (tmp_path / f"{name}.toml").write_text(f"extends = {files}\n{second}")
    with pytest.raises(
        ConfigError, match=r"selection: chooses by held-out prompts, .* add \[\[feedback\.tasks\]\], or \[\[feedback\.files\]\]"
    ):
        load_pipeline(str(tmp_path / "corpus.toml"), [])
    assert load_pipeline(str(tmp_path / "tasks.toml"), []).selection


def test_line_whose_only_feedback_is_thumbs_is_refused_for_its_reward_models(tmp_path):
    line = read_tree(Path(SMALLEST))
    thumbs = {"name": "app", "path": "thumbs.jsonl", "sha256": "0" * 64, "licence": "own", "shape": "thumbs"}
    line["feedback"] = {**{key: value for key, value in line["feedback"].items() if key != "votes"}, "files": [thumbs]}
    line["policy"] = read_tree(Path(f"{ROOT}/configs/recipes/kto.toml"))["policy"]
    line["policy"] |= {"precision": "fp32", "micro_batch": 64, "max_new_tokens": 8, "final_episodes": 8, "final_rows": 8}
    with pytest.raises(ValidationError, match=r"feedback\.files: none holds comparisons \(pairs, transcripts, ranked, scored\)"):
        PipelineConfig.model_validate(line)
    line["feedback"]["files"].append({**thumbs, "name": "ranked", "shape": "ranked"})
    assert PipelineConfig.model_validate(line).feedback.votes is None


def test_two_teachers_that_the_environment_cannot_tell_apart_and_rules_beside_a_teacher_are_refused(tmp_path):
    (tmp_path / "line.toml").write_text(f"extends = ['{TAUGHT}', '{TINY_OPD}']\n")
    with pytest.raises(ConfigError, match=r"policy\.teacher and instructions\.teacher: MODELYARD_TEACHER says where both are"):
        load_pipeline(str(tmp_path / "line.toml"), [])
    one = ["instructions.teacher.kind=directory", "instructions.teacher.model=", "instructions.teacher.weights=00000000"]
    assert load_pipeline(str(tmp_path / "line.toml"), one).instructions.teacher.weights == "00000000"
    policy = "[policy]\nprecision = 'fp32'\niterations = 2\nmicro_batch = 16\nmax_new_tokens = 8\nfinal_episodes = 8\nfinal_rows = 8\n"
    teacher = "[policy.teacher]\nname = 'x'\nlicence = 'MIT'\nweights = '00000000'\n"
    (tmp_path / "rules.toml").write_text(f"extends = ['{SMOLLM2}', '{ROOT}/configs/recipes/opd.toml']\n{policy}{teacher}")
    with pytest.raises(
        ConfigError, match=r"rbrm rewards samples, and policy\.algorithm 'opd' learns from its teacher alone; remove the table"
    ):
        load_pipeline(str(tmp_path / "rules.toml"), [])


def test_thumbs_that_no_policy_learns_from_are_refused_and_kto_takes_them(tmp_path):
    thumbs = '[[feedback.files]]\nname = "app"\npath = "t.jsonl"\nsha256 = "00"\nlicence = "own"\nshape = "thumbs"\n'
    (tmp_path / "dpo.toml").write_text(f"extends = '{TINY_DPO}'\n{thumbs}")
    with pytest.raises(
        ConfigError, match=r"feedback\.files: app holds thumbs, which only a policy by KTO learns from; policy\.algorithm must"
    ):
        load_pipeline(str(tmp_path / "dpo.toml"), [])
    policy = "[policy]\nprecision = 'fp32'\nmicro_batch = 64\nmax_new_tokens = 8\nfinal_episodes = 8\nfinal_rows = 8\n"
    (tmp_path / "kto.toml").write_text(
        f"extends = ['{ROOT}/configs/pipeline/tiny.toml', '{ROOT}/configs/recipes/kto.toml']\n{policy}{thumbs}"
    )
    assert load_pipeline(str(tmp_path / "kto.toml"), []).policy.reference.thumbs


FLAGS = '[[feedback.files]]\nname = "app"\npath = "f.jsonl"\nsha256 = "00"\nlicence = "own"\nshape = "flags"\nsource = "user"\n'


def test_flags_that_nothing_compares_are_refused_and_ai_feedback_takes_them(tmp_path):
    (tmp_path / "tiny.toml").write_text(f"extends = '{ROOT}/configs/pipeline/tiny.toml'\n{FLAGS}")
    unused = (
        r"feedback\.files: app holds flags, which only ai_feedback compares; ai_feedback\.open_domain must be true, or the file's shape"
    )
    with pytest.raises(ConfigError, match=unused):
        load_pipeline(str(tmp_path / "tiny.toml"), [])
    compared = "ai_feedback={seed=0, keep_comparisons=true, open_domain=true}"
    assert load_pipeline(str(tmp_path / "tiny.toml"), [compared]).ai_feedback.open_domain
    with pytest.raises(ConfigError, match=r"ai_feedback\.open_domain: no file of feedback\.files has the shape 'flags'"):
        load_pipeline(str(ROOT / "configs/pipeline/tiny.toml"), [compared])


@pytest.mark.parametrize("name", ["forecast", "pretraining_data"])
def test_imported_line_that_does_not_say_why_something_is_left_out_is_refused(tmp_path, name):
    reason = {"forecast": "pretraining_data", "pretraining_data": "forecast"}[name]
    config = Path(SMOLLM2).read_text().replace("../recipes", str(ROOT / "configs/recipes"))
    kept = re.sub(r"(?ms)^\[release.set_aside\].*?\n\n", f'[release.set_aside]\n{reason} = "because"\n\n', config)
    (tmp_path / "line.toml").write_text(kept.replace("../rubrics", str(ROOT / "configs/rubrics")))
    with pytest.raises(ConfigError, match=f"release.set_aside.{name}: missing; it cannot apply where base.kind is 'import'"):
        load_pipeline(str(tmp_path / "line.toml"), [])
