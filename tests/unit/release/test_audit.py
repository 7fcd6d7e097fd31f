"""A release that is not what its evidence says is refused before the registry hears of it. A real store, a real small policy and its export."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from modelyard.config import Config
from modelyard.progress import silent
from modelyard.release import decision, export, sign_off
from modelyard.release.audit import AuditError, audit
from modelyard.release.gates.gate import Decision
from modelyard.release.limits import LineDecision
from modelyard.store.artifacts import Store
from modelyard.store.file_hash import sha256_tree
from modelyard.store.manifest import Artifact, Spec
from tests.unit import small_model
from tests.unit.release.evidence import CONFIG, agreeing, satisfied, write_all, write_results
from tests.unit.release.test_sign_off import ANSWER

RULES = LineDecision(**{**dict(CONFIG), "first": True}, line="line", unmeasured=None)
HELD = RULES.model_copy(update={"min_win_rate": 0.9})


class Seeded(Config):
    """Config of a stage that only has to be there."""

    seed: int = 0
    kind: str = "pretrain"


class World:
    """The artifacts of a line in a store."""

    def __init__(self, root: Path) -> None:
        self.store = Store(f"file://{root}/store", str(root / "scratch"))
        self.made: dict[str, Artifact] = {}

    def add(self, name: str, files: Path, *parents: str, **metrics: float) -> None:
        def produce(out: Path, checkpoints: Path) -> Mapping[str, float]:
            shutil.copytree(files, out, dirs_exist_ok=True, ignore=shutil.ignore_patterns("artifact.json"))
            return {key.replace("__", "/"): value for key, value in metrics.items()}

        spec = Spec(name, Seeded(), {role: self.made[role] for role in parents}, f"code of {name}")
        self.made[name] = self.store.build(spec, produce).artifact

    def decide(self, rules: LineDecision) -> Artifact:
        parents = {role: made for role, made in self.made.items() if role not in ("feedback", "export", "decision", "sign_off")}
        inputs = {role: self.store.fetch(made) for role, made in parents.items()}

        def produce(out: Path, checkpoints: Path) -> Mapping[str, float]:
            return decision.run(rules, inputs, out, silent, satisfied, agreeing, "line")

        return self.store.build(Spec("decision", rules, parents, "code"), produce).artifact

    def sign(self, decided: Artifact) -> Artifact:
        parents = {**{role: self.store.get(ref) for role, ref in decided.parents.items()}, "decision": decided}
        inputs = {role: self.store.fetch(made) for role, made in parents.items()}
        config = sign_off.SignOffConfig(line="line")
        spec = Spec(sign_off.NAME, config, parents, "code")
        return self.store.build(spec, lambda out, _: sign_off.run(config, ANSWER, inputs, out)).artifact

    def audited(self, decided: Artifact) -> Decision:
        return audit(self.store, self.store.get(decided.ref), self.store.get(self.made["export"].ref), satisfied, agreeing).decision

    def forge(self, made: Artifact, name: str, content: bytes) -> Artifact:
        """Another file in the place of ``name``, and its hash in the manifest."""
        directory = Path(self.store.storage.path(made.ref))
        (directory / name).write_bytes(content)
        manifest = json.loads((directory / "artifact.json").read_text())
        manifest["files"][name] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
        (directory / "artifact.json").write_text(json.dumps(manifest))
        return self.store.get(made.ref)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with everything up to an export."""
    root = tmp_path_factory.mktemp("audit")
    files = write_all(root / "files")
    small_model.write(root)
    shutil.rmtree(files["policy"] / "checkpoint")
    shutil.copytree(root / "ours", files["policy"], dirs_exist_ok=True)
    write_results(files["results"], {model: sha256_tree(files[model] / "checkpoint") for model in ("base", "sft", "policy")}, 50)
    (root / "feedback").mkdir()
    (root / "feedback" / "demonstrations").write_text("")
    world = World(root)
    world.add("corpus", files["corpus"])
    world.add("feedback", root / "feedback", "corpus")
    world.add("tokens", files["tokens"], "corpus")
    world.add("contamination", files["contamination"], "corpus", "feedback")
    world.add("forecast", files["forecast"], "tokens")
    world.add("base", files["base"], "tokens", "forecast", base__train__flops=1e14)
    world.add("sft", files["sft"], "base", "feedback")
    for name in ("reward", "gold"):
        world.add(name, files[name], "sft", "feedback")
    world.add("policy", files["policy"], "sft", "reward", "feedback")
    world.add("results", files["results"], "policy", "sft", "base")
    spec = Spec("export", export.ExportConfig(), {"policy": world.made["policy"]}, "code")
    policy = world.store.fetch(world.made["policy"])
    world.store.build(spec, lambda out, _: export.run(export.ExportConfig(), {"policy": policy}, out, silent))
    return root


@pytest.fixture
def world(finished: Path, tmp_path: Path) -> World:
    shutil.copytree(finished / "store", tmp_path / "store")
    world = World(tmp_path)
    for manifest in sorted((tmp_path / "store").glob("*/*/artifact.json")):
        world.made[manifest.parent.parent.name] = world.store.get("/".join(manifest.parent.parts[-2:]))
    return world


def test_audit_release_that_holds_is_judged_the_same_again_signed_or_not(world: World) -> None:
    decided = world.decide(RULES)
    held = world.decide(HELD)

    assert world.audited(decided).verdict == "PROMOTE", world.audited(decided)
    assert world.audited(held).verdict == "HOLD"
    kept = world.sign(held)
    signed = world.audited(kept)
    assert (signed.verdict, [gate.name for gate in signed.gates if gate.override]) == ("PROMOTE", ["preference"])
    assert "<b>Overridden by Ada</b>, signed on 2026-11-27: " in world.store.read(kept, "card.html").decode()


@pytest.mark.parametrize("word", ["verdict", "gate", "reason"])
def test_audit_decision_with_one_word_edited_is_refused(world: World, word: str) -> None:
    held = world.decide(HELD)
    kept = json.loads((world.store.fetch(held) / "decision.json").read_text())
    gate = next(gate for gate in kept["gates"] if gate["verdict"] == "HOLD")
    if word == "verdict":
        kept["verdict"] = "PROMOTE"
    else:
        gate["verdict" if word == "gate" else "reason"] = "PROMOTE"

    forged = world.forge(held, "decision.json", json.dumps(kept).encode())

    with pytest.raises(AuditError, match=r"decision.json is not what its evidence decides: .*judged again"):
        world.audited(forged)


@pytest.mark.parametrize("page", ["card.html", "evolution.html", "training_content.html"])
@pytest.mark.parametrize("signed", [False, True])
def test_audit_page_that_shows_something_else_is_refused(world: World, page: str, signed: bool) -> None:
    decided = world.sign(world.decide(HELD)) if signed else world.decide(RULES)
    shown = (world.store.fetch(decided) / page).read_text()

    forged = world.forge(decided, page, shown.replace("<body", "<body class=a", 1).encode())

    with pytest.raises(AuditError, match=f"{page} is not what its evidence shows; delete {decided.ref}"):
        world.audited(forged)


def test_audit_signature_made_by_hand_over_another_decision_is_refused(world: World) -> None:
    held = world.decide(HELD)
    signed = world.sign(held)
    kept = json.loads((world.store.fetch(signed) / "decision.json").read_text())
    kept["gates"][0]["reason"] = "looked at by nobody"

    forged = world.forge(signed, "decision.json", json.dumps(kept).encode())

    with pytest.raises(AuditError, match=r"sign_off/.*: decision.json is not what its evidence decides"):
        world.audited(forged)


def test_audit_evidence_edited_after_the_decision_is_refused_by_name(world: World) -> None:
    decided = world.decide(RULES)
    table = json.loads((world.store.fetch(world.made["results"]) / "results.json").read_text())

    world.forge(world.made["results"], "results.json", json.dumps(table | {"more": None}).encode())

    with pytest.raises(AuditError, match=f"{decided.ref} was made of another {world.made['results'].ref}"):
        world.audited(decided)


def test_audit_export_of_other_weights_is_refused_though_its_hashes_agree(world: World) -> None:
    decided = world.decide(RULES)
    weights = (world.store.fetch(world.made["export"]) / "model.safetensors").read_bytes()

    world.made["export"] = world.forge(world.made["export"], "model.safetensors", weights[:-64] + bytes(64))

    with pytest.raises(AuditError, match=r"export/.*: model.safetensors is not what policy/.* exports to"):
        world.audited(decided)
