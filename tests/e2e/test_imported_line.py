"""A line whose base others pretrained, as a person runs it on files of his own: imported, then trained further on the corpus.

Both take the corpus of the shared run, so they pay for their own stages only.
"""

import json
import shutil
from pathlib import Path

import pytest

from tests.e2e.running import artifact, run_config
from tests.worlds import imported

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

IMPORTED = ["held_out", "feedback", "benchmarks", "harm_labels", "imported", "tokens", "contamination", "sft"]
IMPORTED += ["harm_features", "content_classifier", "ai_feedback", "reward", "gold", "selection", "sft_start", "start_selection", "rbrm"]
RELEASED = ["before", "policy", "results", "decision", "export"]
CONTINUED = [
    "base.kind=continue",
    "base.steps=12",
    "base.batch=8",
    "base.micro_batch=4",
    "base.seed=1",
    "base.precision=fp32",
    "base.optimizer={lr=3e-3, min_lr_ratio=0.1, warmup_steps=2, weight_decay=0.1, beta1=0.9, beta2=0.95, eps=1e-8, clip_grad=1.0, "
    "schedule='cosine'}",
]


@pytest.fixture(scope="module")
def world(finished, tmp_path_factory, seed_prefect) -> Path:
    """A user's directory, with the corpus built already."""
    root = tmp_path_factory.mktemp("imported")
    imported.write(root)
    seed_prefect(root / ".modelyard/prefect")
    for name in ("abuse_filter", "shard", "corpus"):
        built = Path(".modelyard/store") / name
        shutil.copytree(finished[0] / built, root / built)
    return root


def decided(root: Path) -> dict:
    (file,) = (root / ".modelyard/store/decision").glob("*/decision.json")
    return json.loads(file.read_text())


@pytest.mark.slow
def test_imported_line_ends_in_a_release_with_what_is_set_aside_on_the_record(world, monkeypatch):
    monkeypatch.setenv("MODELYARD_DATA", str(world))
    done = run_config(world, "line.toml")
    assert done.code == 0, done.out + done.err
    assert done.stages("cached") == ["corpus"]
    assert done.stages("built")[: len(IMPORTED + RELEASED)] == IMPORTED + RELEASED
    assert "PROMOTE: forecast set aside (others trained it)" in done.out.replace("\n", " ")

    gates = {gate["name"]: gate for gate in decided(world)["gates"]}
    assert gates["forecast"]["set_aside"]
    assert "set aside: nobody kept its texts" in gates["contamination"]["reason"]
    (card,) = (world / ".modelyard/store/decision").glob("*/card.html")
    assert "others trained it" in card.read_text()

    parents = artifact(world, "decision")["parents"]
    assert parents["base"].startswith("imported/")
    assert parents["sft"].startswith("selection/"), "what the policy is compared with is the epoch that the reward model chose"
    start = artifact(world, "policy")["parents"]["sft"]
    assert start.startswith("start_selection/"), "and PPO starts from the chosen epoch of the other SFT model"
    assert artifact(world, "results")["parents"]["sft_start"] == start, "to which KL is measured"
    for role in ("reward", "gold"):
        trained = artifact(world, role)
        assert trained["parents"]["feedback"].startswith("ai_feedback/")
        assert trained["metrics"][f"{role}/train/judge"] > 0
    shown = " ".join(card.read_text().split())
    assert "<h2>Content classifier</h2>" in shown
    assert "<td>cruel (protected)</td>" in shown
    assert gates["content_classifier"]["reason"].startswith("nothing to compare with; any harm: AUPRC")
    assert artifact(world, "harm_features")["parents"]["decoder"] == parents["base"], "the classifier reads the imported model"
    assert "<td>rankings</td><td>judge</td>" in shown
    assert "comparisons against hallucination by closed_domain-v1-" in shown
    assert "below min_kappa 0.3" in shown
    (exported,) = (world / ".modelyard/store/export").glob("*/tokenizer_config.json")
    assert json.loads(exported.read_text())["chat_template"] == imported.TEMPLATE


@pytest.mark.slow
def test_continued_line_trains_the_imported_model_on_the_corpus_first(world, tmp_path, monkeypatch):
    monkeypatch.setenv("MODELYARD_DATA", str(world))
    root = shutil.copytree(world, tmp_path / "continued", ignore=shutil.ignore_patterns("prefect", "mlflow*", "mlruns", "scratch"))
    for name in set(IMPORTED + RELEASED) - {"held_out", "feedback", "benchmarks", "imported", "tokens", "contamination"}:
        shutil.rmtree(root / ".modelyard/store" / name, ignore_errors=True)
    done = run_config(root, "line.toml", *CONTINUED, "no_contam=true", "execution.parallel_stages=true")
    assert done.code == 0, done.out + done.err
    base = artifact(root, "base")
    assert set(base["parents"]) == {"imported", "tokens"}
    assert base["metrics"]["base/validation/loss"] < base["metrics"]["base/validation/imported_loss"]
    assert artifact(root, "sft")["parents"]["base"].startswith("base/")
    parents = artifact(root, "decision")["parents"]
    assert parents["base"].startswith("base/")
    assert parents["no_contam"].startswith("no_contam/")
    assert artifact(root, "no_contam")["parents"]["tokens"].startswith("no_contam_tokens/")
    (card,) = (root / ".modelyard/store/decision").glob("*/card.html")
    assert "the base model against its twin without those documents" in card.read_text()
