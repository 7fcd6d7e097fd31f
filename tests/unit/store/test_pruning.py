"""What is pruned and what stays, that the lineage of the former can still be read, and that a store's own work leaves nothing behind."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from modelyard.store import claims, pruning
from modelyard.store.artifacts import CORPORA, Store
from modelyard.store.lineage import walk
from modelyard.store.local_lock import LockedError, alone, lock_of
from modelyard.store.manifest import Artifact, ArtifactError, Spec
from tests.worlds.line import SOURCES, Literals, make, make_line

LATER = 40 * pruning.DAY


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(f"file://{tmp_path}/store", str(tmp_path / "scratch"))


def planned(store: Store, *needed: Artifact, days: float = 30, after: float = LATER) -> pruning.Plan:
    return pruning.plan(store, [one.ref for one in needed], days, time.time() + after)


def refs(pieces: tuple[pruning.Piece, ...]) -> set[str]:
    return {piece.where for piece in pieces}


def test_plan_keeps_what_is_needed_with_all_that_it_was_made_of_or_compared_with(store: Store) -> None:
    old, released = make_line(store, policy=Literals(seed=1)), make_line(store)
    decision = make(store, "decision", Literals(seed=2), results=released["results"], baseline=old["results"])
    plan = planned(store, decision)
    assert refs(plan.artifacts) == {one["decision"].ref for one in (old, released)}
    assert plan.kept == {"needed by a release or a decision": 9, "used in the last 30 days": 0}
    assert plan.size == sum(record.size for one in (old, released) for record in one["decision"].files.values())


def test_what_a_corpus_was_last_is_no_artifact_and_stays(store: Store) -> None:
    made = make_line(store)
    key = f"{CORPORA}/tiny.json"
    store.storage.write(key, json.dumps({"ref": made["corpus"].ref}).encode())
    plan = planned(store)
    assert (refs(plan.artifacts), plan.problems, plan.unfinished) == ({one.ref for one in made.values()}, (), ())
    pruning.carry_out(store, plan)
    assert store.storage.exists(key)


def test_plan_keeps_what_a_run_made_or_took_lately_and_what_a_clock_dated_ahead(store: Store) -> None:
    made = make_line(store)
    assert not planned(store, after=0).artifacts
    assert not planned(store, after=-LATER).artifacts
    store.storage.write(f".used/{made['tokens'].ref}", repr(time.time() + LATER).encode())
    assert refs(planned(store).artifacts) == {made[name].ref for name in made if name not in ("tokens", "corpus")}


def test_artifact_that_a_run_finds_is_noted_as_used(store: Store) -> None:
    before = time.time()
    made = make(store, "corpus", Literals())
    store.storage.remove(".used")
    assert pruning.last_used(store, made) == made.finished
    assert make(store, "corpus", Literals()) == made
    assert float(store.storage.read(f".used/{made.ref}")) >= before


def test_pruned_line_keeps_its_lineage_and_its_hashes_and_is_built_again(store: Store) -> None:
    made = make_line(store)
    whole = walk(store, [made["decision"].ref])
    pruning.carry_out(store, planned(store))
    assert [store.find(*one.ref.split("/")) for one in made.values()] == [None] * 6
    assert not [ref for ref in store.refs() if store.storage.exists(ref)]
    found = walk(store, [made["decision"].ref])
    assert (found.artifacts, found.sources, found.problems) == (whole.artifacts, {made["corpus"].ref: SOURCES}, ())
    assert set(found.missing) == set(whole.artifacts)
    with pytest.raises(ArtifactError, match=r"file data\.json is missing"):
        store.read(made["tokens"], "data.json")
    assert make_line(store)["decision"].record == made["decision"].record
    assert walk(store, [made["decision"].ref]).missing == ()


def test_pruning_cut_off_leaves_no_half_artifact_and_goes_on_the_next_time(store: Store) -> None:
    made = make(store, "corpus", Literals(), {"sources.json": SOURCES})
    (Path(store.storage.root) / made.ref / "artifact.json").unlink()  # as a cut upload or a cut pruning leaves it
    assert refs(planned(store).unfinished) == {made.ref}
    claim = claims.take(store.storage, made.ref.replace("/", "-"), lambda: False)
    assert claim is not None
    with claim:
        assert not planned(store).unfinished
    pruning.carry_out(store, planned(store))
    assert list(store.refs()) == []


def test_artifact_that_is_finished_while_the_plan_is_made_is_not_cut_off(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make(store, "corpus", Literals())
    manifest, name = f"{made.ref}/artifact.json", made.ref.replace("/", "-")
    words, find = store.storage.read(manifest), Store.find
    store.storage.remove(manifest)
    store.storage.write(f"{claims.FOLDER}/{name}/00000001", b"{}")

    def finish(self: Store, *ref: str) -> Artifact | None:
        found = find(self, *ref)
        store.storage.write(manifest, words)
        store.storage.remove(f"{claims.FOLDER}/{name}")
        return found

    monkeypatch.setattr(Store, "find", finish)
    assert not planned(store).unfinished


def test_what_a_run_builds_finishes_or_takes_after_the_plan_was_made_stays(store: Store) -> None:
    built, taken, finished = (make(store, "corpus", Literals(seed=seed)) for seed in range(3))
    manifest = f"{finished.ref}/artifact.json"
    words = store.storage.read(manifest)
    store.storage.remove(manifest)
    plan = planned(store)
    assert (refs(plan.artifacts), refs(plan.unfinished)) == ({built.ref, taken.ref}, {finished.ref})
    store.storage.write(f".used/{taken.ref}", repr(time.time() + LATER).encode())
    store.storage.write(manifest, words)
    store.storage.write(f"{claims.FOLDER}/{built.ref.replace('/', '-')}/00000001", b"{}")
    pruning.carry_out(store, plan)
    assert [store.find(*one.ref.split("/")) for one in (built, taken, finished)] == [built, taken, finished]
    assert store.storage.names(claims.FOLDER) == [built.ref.replace("/", "-")]
    store.storage.remove(claims.FOLDER)
    pruning.carry_out(store, plan)
    assert [store.find(*one.ref.split("/")) for one in (built, taken, finished)] == [None, taken, finished]


@pytest.mark.parametrize("note", ["before the manifest goes", "after it went"])
def test_run_that_takes_an_artifact_while_it_is_removed_has_it_whole_or_not_at_all(
    note: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make(store, "corpus", Literals())
    plan, spec = planned(store), Spec("corpus", Literals(), {}, "code-of-corpus")
    assert refs(plan.artifacts) == {made.ref}
    remove, write = store.storage.remove, store.storage.write
    found: list[Artifact | None] = []

    def removed(key: str) -> None:
        if key == f"{made.ref}/artifact.json" and note == "before the manifest goes":
            found.append(store.built(spec))
        remove(key)

    def written(key: str, data: bytes) -> None:
        if key == f".used/{made.ref}":
            if note == "after it went" and not found:
                found.append(None)  # once: the note of the run below is what is held up
                pruning.carry_out(store, plan)
            data = repr(time.time() + 2 * LATER).encode()
        write(key, data)

    monkeypatch.setattr(store.storage, "remove", removed)
    monkeypatch.setattr(store.storage, "write", written)
    if note == "after it went":
        assert store.built(spec) is None
    else:
        pruning.carry_out(store, plan)
        assert found == [made]
        assert store.find("corpus", made.version) == made
        assert store.read(made, "data.json") == b'"corpus"'
        assert not store.storage.names(".pruned/corpus")


def test_manifest_that_cannot_be_read_is_named_and_stays(store: Store) -> None:
    made = make(store, "corpus", Literals())
    (Path(store.storage.root) / made.ref / "artifact.json").write_text("{}")
    plan = planned(store)
    assert not plan.artifacts
    assert made.ref in plan.problems[0]


def test_scratch_goes_where_it_is_of_a_finished_artifact_or_old_but_not_from_under_a_builder(store: Store) -> None:
    finished = make(store, "corpus", Literals())
    names = {"finished": f"corpus-{finished.version}", "old": f"base-{'1' * 16}", "held": f"sft-{'2' * 16}", "other": "sources"}
    for name in names.values():
        (store.scratch / name / "checkpoints").mkdir(parents=True)
        (store.scratch / name / "checkpoints/weights").write_bytes(b"12345")
    with alone(store.scratch / names["held"]):
        plan = planned(store)
        assert {(Path(piece.where).name, piece.size) for piece in plan.scratch} == {(names["finished"], 5), (names["old"], 5)}
        assert [Path(piece.where).name for piece in planned(store, after=0).scratch] == [names["finished"]]
        pruning.carry_out(store, plan)
    assert {path.name for path in store.scratch.iterdir()} == {names["held"], names["other"]}


def test_fifty_artifacts_one_after_another_leave_neither_scratch_nor_claims_nor_open_files(store: Store) -> None:
    make(store, "corpus", Literals())
    before = psutil.Process().num_fds()
    for seed in range(1, 51):
        make(store, "corpus", Literals(seed=seed))
        make(store, "corpus", Literals(seed=seed))
    assert list(store.scratch.iterdir()) == []
    assert store.storage.names(claims.FOLDER) == []
    assert psutil.Process().num_fds() == before


def test_lock_is_held_by_one_at_a_time_though_its_file_goes_each_time(tmp_path: Path) -> None:
    inside, most = 0, []

    def works() -> None:
        nonlocal inside
        for _ in range(25):
            with alone(tmp_path / "work"):
                inside += 1
                most.append(inside)
                inside -= 1

    threads = [threading.Thread(target=works) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 100
    assert not lock_of(tmp_path / "work").exists()
    with alone(tmp_path / "work"), pytest.raises(LockedError), alone(tmp_path / "work", wait=False):
        raise AssertionError("both hold it")


def test_claim_of_a_living_process_holds_whatever_the_clock_says_and_ends_with_it() -> None:
    code = "import json, sys; from modelyard.store import claims; print(json.dumps(claims._me()), flush=True); sys.stdin.read()"
    builder = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert builder.stdout is not None
    holder = json.loads(builder.stdout.readline())
    assert holder["born"] * os.sysconf("SC_CLK_TCK") ** -1 < time.clock_gettime(time.CLOCK_BOOTTIME) + 1  # since the machine began
    assert not claims._is_gone(holder)
    assert claims._is_gone({**holder, "born": holder["born"] - 1}), "another process has its number"
    builder.communicate()
    assert claims._is_gone(holder)
