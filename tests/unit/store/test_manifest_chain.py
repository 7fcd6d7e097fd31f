"""A manifest that was edited is refused by itself, by what was made of it, or by a look at the whole store. Real stores on disk."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from modelyard.adapters.mlflow.conviction import of_store
from modelyard.store import claims
from modelyard.store.artifacts import Store
from modelyard.store.lineage import walk
from modelyard.store.manifest import PARTS, Artifact, ArtifactError
from tests.unit.store.test_lineage import Literals, make, make_line


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(f"file://{tmp_path}/store", str(tmp_path / "scratch"))


def edit(store: Store, artifact: Artifact, change: Callable[[dict], object]) -> None:
    """Edit a manifest as somebody does who can write to the store."""
    file = Path(store.storage.path(artifact.ref)) / "artifact.json"
    manifest = json.loads(file.read_text())
    change(manifest)
    file.write_text(json.dumps(manifest))


def replace(store: Store, artifact: Artifact, name: str, content: str) -> None:
    """Give a file other content, and the manifest its hash."""
    (Path(store.storage.path(artifact.ref)) / name).write_text(content)
    record = {"sha256": hashlib.sha256(content.encode()).hexdigest(), "size": len(content)}
    edit(store, artifact, lambda manifest: manifest["files"].update({name: record}))


EDITS: dict[str, Callable[[dict], object]] = {
    "metrics": lambda manifest: manifest["metrics"].update({"policy/reward": 9.0}),
    "extra file": lambda manifest: manifest["files"].update({"more": {"sha256": "0" * 64, "size": 1}}),
    "parents stripped": lambda manifest: manifest.pop("parent_records"),
}
SELF_CONVICTING: dict[str, Callable[[dict], object]] = {
    "config": lambda manifest: manifest["config"].update(seed=7),
    "code": lambda manifest: manifest.update(code="other"),
    "fingerprint": lambda manifest: manifest.update(fingerprint="f" * 64),
    "version": lambda manifest: manifest.update(fingerprint=manifest["fingerprint"][:16] + "0" * 48),
    "other parent": lambda manifest: manifest["parents"].update(tokens="tokens/" + "0" * 16),
    "other parent's fingerprint": lambda manifest: manifest["parent_records"]["tokens"].update(fingerprint="0" * 64),
    "one more parent": lambda manifest: manifest["parents"].update(base="base/" + "0" * 16),
}


@pytest.mark.parametrize("name", SELF_CONVICTING)
def test_manifest_whose_fingerprint_does_not_follow_from_it_is_refused_when_it_is_read(store: Store, name: str) -> None:
    made = make_line(store)

    edit(store, made["policy"], SELF_CONVICTING[name])

    with pytest.raises(ArtifactError, match="damaged manifest"):
        store.get(made["policy"].ref)


@pytest.mark.parametrize("name", EDITS)
def test_manifest_that_was_edited_is_convicted_by_what_was_made_of_it(store: Store, name: str) -> None:
    made = make_line(store)
    assert walk(store, [made["decision"].ref]).problems == ()
    assert list(of_store(store)) == []

    edit(store, made["policy"], EDITS[name])

    (*_, problem) = [line for line in walk(store, [made["decision"].ref]).problems if "was made of another" in line]
    assert problem.startswith(f"{made['results'].ref} was made of another {made['policy'].ref}")
    assert any(made["policy"].ref in line for line in of_store(store))


def test_file_that_was_replaced_with_its_hash_is_convicted_by_what_was_made_of_it(store: Store) -> None:
    made = make_line(store)

    replace(store, made["policy"], "data.json", "zeroed")

    assert store.fetch(store.get(made["policy"].ref)), "by itself it is whole"
    assert {line.split()[0] for line in of_store(store)} == {made["results"].ref, made["export"].ref}


def test_artifact_that_is_gone_or_whose_kept_manifest_was_edited_is_convicted_by_what_was_made_of_it(store: Store) -> None:
    made = make_line(store)
    policy = Path(store.storage.path(made["policy"].ref))
    manifest = json.loads((policy / "artifact.json").read_text())
    shutil.rmtree(policy)

    assert list(of_store(store)) == [f"{made['policy'].ref} is not in the store any more, and others were made of it"]

    kept = Path(store.storage.path(f".pruned/{made['policy'].ref}")) / "artifact.json"
    kept.parent.mkdir(parents=True)
    kept.write_text(json.dumps(manifest))
    assert list(of_store(store)) == []
    kept.write_text(json.dumps(manifest | {"metrics": {"policy/reward": 9.0}}))
    assert {line.split()[0] for line in of_store(store)} == {made["results"].ref, made["export"].ref}


def test_every_damaged_file_of_an_artifact_is_a_line_and_a_damaged_list_is_one_alone(store: Store) -> None:
    shard = make(store, "shard", Literals())
    corpus = make(store, "corpus", Literals(), {PARTS: {shard.ref: shard.content}, "a.json": 1, "b.json": 2, "c.json": 3})
    assert list(of_store(store)) == []

    for name in (PARTS, "a.json"):
        store.storage.write(f"{corpus.ref}/{name}", b"0")
    store.storage.remove(f"{corpus.ref}/c.json")

    said = list(of_store(store))
    assert sorted(line.split("file ")[1].split()[0] for line in said) == ["a.json", "c.json", PARTS], said
    assert all(line.startswith(f"artifact {corpus.ref}: ") for line in said)


def test_shard_edited_after_its_corpus_was_put_together_is_convicted_by_the_corpus(store: Store) -> None:
    abuse = make(store, "abuse_filter", Literals())
    first = make(store, "shard", Literals(), {"rejects.json": "1"}, abuse_filter=abuse)
    last = make(store, "shard", Literals(seed=1), {"rejects.json": "2"}, abuse_filter=abuse, before=first)
    corpus = make(store, "corpus", Literals(), {PARTS: {one.ref: one.content for one in (first, last)}})
    made = make(store, "tokens", Literals(), corpus=corpus)
    found = walk(store, [made.ref])
    assert (set(found.artifacts), set(found.parts), found.problems) == ({made.ref, corpus.ref}, {first.ref, last.ref, abuse.ref}, ())
    assert list(of_store(store)) == []

    replace(store, last, "rejects.json", "0")

    for problems in (walk(store, [made.ref]).problems, list(of_store(store))):
        assert [line.partition(" than ")[0] for line in problems] == [f"{corpus.ref} was made of another {last.ref} (part)"]
    replace(store, abuse, "data.json", "lenient")
    assert {line.split()[0] for line in walk(store, [made.ref]).problems} == {corpus.ref, first.ref, last.ref}
    store.storage.remove(last.ref)
    assert walk(store, [made.ref]).missing == (last.ref,)


def test_artifact_is_taken_from_the_cache_where_its_parent_was_built_again_to_the_same_bytes_only(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_line(store)

    store.storage.remove(made["tokens"].ref)
    monkeypatch.setattr(claims, "_user", lambda: "somebody else")
    again = make(store, "tokens", Literals(), corpus=made["corpus"])
    assert (again.builder or "").startswith("somebody else@")
    assert again.builder != made["tokens"].builder
    assert make(store, "policy", Literals(), tokens=again) == made["policy"]
    assert walk(store, [made["decision"].ref]).problems == ()

    store.storage.remove(made["tokens"].ref)
    other = make(store, "tokens", Literals(), {"data.json": "other"}, corpus=made["corpus"])
    with pytest.raises(ArtifactError, match=rf"was made of another {other.ref} \(tokens\) .*delete {made['policy'].ref} to build it again"):
        make(store, "policy", Literals(), tokens=other)


def test_file_that_no_manifest_names_is_refused(store: Store) -> None:
    made = make_line(store)
    (Path(store.storage.path(made["results"].ref)) / "more.jsonl").write_text("{}")

    with pytest.raises(ArtifactError, match=r"file more.jsonl is none of its files; remove it"):
        store.fetch(made["results"])


def test_manifest_hash_is_that_of_the_file_and_earlier_manifests_stay_readable(store: Store) -> None:
    made = make_line(store)["policy"]
    file = Path(store.storage.path(made.ref)) / "artifact.json"
    assert made.manifest == hashlib.sha256(file.read_bytes()).hexdigest() == store.get(made.ref).manifest

    old = {key: value for key, value in json.loads(file.read_text()).items() if key != "parent_records"}
    file.write_text(json.dumps(old | {"fingerprint": "e" * 64, "version": "e" * 16, "name": "old"}))
    store.storage.put(file.parent, f"old/{'e' * 16}")

    assert store.get(f"old/{'e' * 16}").parent_records is None
    assert "was made by an earlier version" in walk(store, [f"old/{'e' * 16}"]).problems[0]
