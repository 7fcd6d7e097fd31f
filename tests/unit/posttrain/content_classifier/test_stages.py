"""Labels to a classifier that judges: features, training, report and verdicts on a small real decoder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from modelyard.data.filters.abuse_labels import LabelsConfig
from modelyard.data.harms import gather
from modelyard.execution import ExecutionConfig
from modelyard.formats.harms import ANY, read_report, read_texts, read_verdicts
from modelyard.model.inference import representations
from modelyard.model.inference.representations import Representations
from modelyard.posttrain.content_classifier import features, train
from modelyard.posttrain.content_classifier.features import FeaturesConfig
from modelyard.posttrain.content_classifier.heads import HeadsConfig
from modelyard.posttrain.content_classifier.open import open_classifier
from modelyard.posttrain.content_classifier.train import ContentClassifierConfig
from modelyard.progress import Report, silent
from modelyard.stats.ranking import average_precision
from tests.unit import small_model
from tests.worlds.imported import harms

CONFIG = ContentClassifierConfig(seed=0, protected=("cruel",), heads=HeadsConfig(directions=16, steps=60))


def judged() -> list[dict[str, Any]]:
    """Texts that a judge labelled by one of the two rules."""
    said = {"judge": "large 12", "rules": {"rude": {"rule": "rude-v1-0", "probability": 0.9}}}
    things = ("ladder under heavy snow", "violin", "garden wall with ivy on it")
    return [{"prompt": f"you zzqx {thing}", "R": 1, "C": None, "judged": said} for thing in things]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("classifier")
    small_model.write(root)
    (root / "harms.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*harms(), *judged()]))
    found = {
        "decoder": root / "ours",
        "harm_labels": root / "labels",
        "harm_features": root / "features",
        "content_classifier": root / "made",
    }
    for name, directory in found.items():
        if name != "decoder":
            directory.mkdir()
    sha256 = hashlib.sha256((root / "harms.jsonl").read_bytes()).hexdigest()
    labels = LabelsConfig(path="harms.jsonl", sha256=sha256, licence="CC0-1.0")
    gather.run(gather.HarmLabelsConfig(files=(labels,), categories={"rude": "R", "cruel": "C"}), {}, root / "labels", silent, [str(root)])
    features.run(FeaturesConfig(max_tokens=16), found, root / "features", root, ExecutionConfig(threads=1), silent)
    train.run(CONFIG, found, root / "made", silent)
    return found


def test_report_is_what_the_verdicts_say_of_held_out_texts_alone(world: dict[str, Path]) -> None:
    report, verdicts = read_report(world["content_classifier"]), read_verdicts(world["content_classifier"])
    texts = read_texts(world["harm_labels"])
    labelled = [one for one in verdicts if one.group == "labelled"]
    assert {one.id for one in labelled} == {one.id for one in texts if one.split == "test"}
    for name, one in report.categories.items():
        truth = [1 in v.labels.values() if name == ANY else v.labels[name] == 1 for v in labelled]
        assert one.auprc.value == pytest.approx(average_precision([v.scores[name] for v in labelled], truth), abs=1e-3)
        said = [bool(v.flags) if name == ANY else name in v.flags for v in labelled]
        assert one.recall.value == sum(a and b for a, b in zip(said, truth, strict=True)) / sum(truth)
    assert report.categories["cruel"].auprc.value > 0.9, "one word tells it"
    learned = [one for one in texts if one.split == "train"]
    assert report.learned == f"3 of the {len(learned)} texts that it learned from were labelled by a judge"
    passing = [one for one in verdicts if one.group == "identity"]
    assert report.blocked["identity"].value == sum(bool(one.flags) for one in passing) / len(passing)
    assert report.blocked["identity"].n == sum(found.n for key, found in report.blocked.items() if key.startswith("identity/"))


def test_opened_classifier_says_of_a_text_what_the_verdicts_say(world: dict[str, Path]) -> None:
    opened = open_classifier(world["content_classifier"], world["decoder"], ExecutionConfig(threads=1))
    texts = {one.id: one.text for one in read_texts(world["harm_labels"])}
    for verdict in [one for one in read_verdicts(world["content_classifier"]) if one.group == "labelled"][:8]:
        found = opened.judge(texts[verdict.id])
        assert {ANY: found.any, **found.outputs} == pytest.approx(verdict.scores, abs=5e-3), "features are kept in half precision"
    harmless = " ".join(["a plain stone"] * 20)
    worst = opened.judge(f"{harmless} i will wwyk the old door {harmless}").outputs["cruel"]
    assert worst > opened.judge(harmless).outputs["cruel"]
    assert set(opened.thresholds) == {ANY, "rude", "cruel"}


def test_classifier_of_another_decoder_or_with_damaged_files_is_refused(world: dict[str, Path], tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    small_model.write(other, seed=9)
    with pytest.raises(ValueError, match="not the decoder of"):
        open_classifier(world["content_classifier"], other / "ours", ExecutionConfig(threads=1))
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in world["content_classifier"].iterdir():
        (broken / file.name).write_bytes(file.read_bytes()[:-40] if file.name == "classifier.npz" else file.read_bytes())
    with pytest.raises(ValueError, match=r"classifier\.npz: damaged"):
        open_classifier(broken, world["decoder"], ExecutionConfig(threads=1))


def test_category_to_protect_that_has_no_labels_is_refused(world: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"content_classifier\.protected: 'vile' is none of"):
        train.run(CONFIG.model_copy(update={"protected": ("vile",)}), world, tmp_path, silent)


def test_features_go_on_where_they_were_killed(world: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, whole = list[int](), Representations._batch

    def counted(self: Representations, rows: Sequence[Sequence[int]]) -> Tensor:
        read.append(len(rows))
        return whole(self, rows)

    def killed(done: int, total: int, *args: object, **kwargs: object) -> None:
        if done > total / 2:
            raise KeyboardInterrupt

    def run(report: Report, name: str = "killed") -> bytes:
        out = tmp_path / name
        out.mkdir(exist_ok=True)
        features.run(FeaturesConfig(max_tokens=16), world, out, tmp_path / f"{name}-kept", ExecutionConfig(threads=1), report)
        return (out / features.FILE).read_bytes()

    monkeypatch.setattr(representations, "tokens_at_once", lambda model, dtype: 64)  # several batches, of so small a decoder too
    undisturbed = run(silent, "undisturbed")
    monkeypatch.setattr(Representations, "_batch", counted)
    with pytest.raises(KeyboardInterrupt):
        run(killed)
    before = len(read)
    assert run(silent) == undisturbed
    assert 1 < before < len(read)
    assert sum(read) == len(features.read(tmp_path / "killed")[0].owner), "no window was read twice"
