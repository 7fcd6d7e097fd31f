"""Artifacts in a store on a disk and on S3: fetched whole or in part, built once however many want them, and never half."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from modelyard.config import Config
from modelyard.store import claims, outage
from modelyard.store.artifacts import Store
from modelyard.store.manifest import MANIFEST, Artifact, ArtifactError, Spec
from modelyard.store.outage import StorageError

pytestmark = pytest.mark.integration


class Made(Config):
    word: str = "x"


SPEC = Spec("thing", Made(), {}, "code")


def produce(out, checkpoints):
    (out / "part").mkdir()
    for number in range(3):
        (out / "part" / f"{number}.bin").write_bytes(bytes([number]) * 50_000)
    return {"thing/size": 3.0}


def test_artifact_upload_given_up_is_invisible_and_the_next_run_builds_it(faulty, tmp_path, monkeypatch):
    place, between = faulty
    store = Store(place.url, str(tmp_path / "scratch"))
    monkeypatch.setattr(outage, "PATIENCE_SECONDS", 1.5)

    def then_down(out, checkpoints):
        threading.Thread(target=lambda: (wait_for(lambda: len(put_since(between, before)) >= 2), setattr(between, "down", True))).start()
        return produce(out, checkpoints)

    before = len(between.requests) + 1  # the claim's own PUT comes first
    with pytest.raises(StorageError, match="gave up after"):
        store.build(SPEC, then_down)
    between.down = False
    assert store.find("thing", SPEC.version) is None
    made = store.build(SPEC, produce)
    assert not made.cached
    assert sorted(made.artifact.files) == ["part/0.bin", "part/1.bin", "part/2.bin"]
    directory = Store(place.url, str(tmp_path / "elsewhere")).fetch(made.artifact)
    (directory / "part/1.bin").write_bytes(b"cut short")
    assert (store.fetch(made.artifact) / "part/1.bin").read_bytes() == b"\1" * 50_000
    assert (Store(place.url, str(tmp_path / "elsewhere")).fetch(made.artifact) / "part/1.bin").read_bytes() == b"\1" * 50_000, (
        "fetched anew"
    )
    # a request that the client gave up may still come true, so a claim may be left that nobody holds: nobody waits for it
    monkeypatch.setattr(claims, "time", SimpleNamespace(sleep=lambda seconds: pytest.fail("waits for a claim that nobody holds")))
    with claims.take(place, f"thing-{SPEC.version}", lambda: False) as held:
        assert held.is_mine()


def test_store_fetched_artifact_has_its_files_and_its_manifest_wherever_it_is_kept(url, tmp_path):
    made = (built := Store(url, str(tmp_path / "here"))).build(SPEC, produce).artifact
    assert claims_left(built.storage) == []
    directory = Store(url, str(tmp_path / "elsewhere")).fetch(made)
    assert {file.relative_to(directory).as_posix() for file in directory.rglob("*") if file.is_file()} == {*made.files, MANIFEST}
    assert Artifact.model_validate_json((directory / MANIFEST).read_bytes()) == made


def test_store_fetches_the_files_that_are_wanted_and_completes_them_when_more_are(s3, tmp_path):
    store = Store(s3, str(tmp_path / "elsewhere"))
    made = Store(s3, str(tmp_path / "here")).build(SPEC, produce).artifact
    directory = store.fetch(made, {"part/1.bin"})
    assert files_in(directory) == {"part/1.bin", MANIFEST}
    first = (directory / "part/1.bin").stat()
    with pytest.raises(ArtifactError, match=r"thing/.*: file part/9.bin is none of its files"):
        store.fetch(made, {"part/9.bin"})
    store.storage.remove(f"{made.ref}/part/2.bin")
    with pytest.raises(ArtifactError, match=r"thing/.*: a file is missing"):
        store.fetch(made)
    assert store.fetch(made, {"part/1.bin"}) == directory, "what is not wanted is not asked for"
    store.storage.write(f"{made.ref}/part/2.bin", bytes([7]) * 50_000)
    with pytest.raises(ArtifactError, match=r"file part/2.bin is damaged .*; delete thing/\w+ and the next run builds it again"):
        store.fetch(made)
    assert "part/2.bin" not in files_in(directory)
    store.storage.write(f"{made.ref}/part/2.bin", bytes([2]) * 50_000)
    (directory / "part/foreign").write_text("of nobody")
    assert store.fetch(made) == directory
    assert files_in(directory) == {*made.files, MANIFEST}
    assert (directory / "part/1.bin").stat() == first, "what is there stays where readers have it open"


def test_store_fetches_of_several_at_once_end_with_what_each_wants(s3, tmp_path):
    made = Store(s3, str(tmp_path / "here")).build(SPEC, produce).artifact
    wanted = [None if number == 3 else {f"part/{number % 3}.bin"} for number in range(8)]

    def fetched(names):
        directory = Store(s3, str(tmp_path / "elsewhere")).fetch(made, names)
        return {name: (directory / name).read_bytes() for name in names or made.files}

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(fetched, wanted))
    for content in found:
        assert content == {name: bytes([int(name[5])]) * 50_000 for name in content}
    assert files_in(tmp_path / "elsewhere" / "cache" / made.ref) == {*made.files, MANIFEST}


def files_in(directory):
    return {file.relative_to(directory).as_posix() for file in directory.rglob("*") if file.is_file()}


def claims_left(place):
    return [number for name in place.names(".claims") for number in place.names(f".claims/{name}")]


def put_since(between, before):
    return [method for method in between.requests[before:] if method == b"PUT"]


def wait_for(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_artifact_two_runs_one_builds_and_the_other_takes_it(url, tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "POLL_SECONDS", 0.05)
    built, results = [], []

    def slowly(out, checkpoints):
        built.append(out)
        time.sleep(1)
        return produce(out, checkpoints)

    def run(machine):
        results.append(Store(url, str(tmp_path / machine)).build(SPEC, slowly))

    threads = [threading.Thread(target=run, args=(machine,)) for machine in ("one", "two", "three")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 1
    assert sorted(result.cached for result in results) == [False, True, True]
    assert len({result.artifact.finished for result in results}) == 1


def test_artifact_manifest_that_leads_elsewhere_is_refused(url, tmp_path):
    store = Store(url, str(tmp_path / "scratch"))
    made = store.build(SPEC, produce).artifact
    key = f"{made.ref}/artifact.json"
    tree = json.loads(store.storage.read(key))
    for path in ("../../outside", "/etc/passwd", "a/./b", ""):
        store.storage.write(key, json.dumps({**tree, "files": {path: {"sha256": "0", "size": 1}}}).encode())
        with pytest.raises(ArtifactError, match="damaged manifest"):
            store.get(made.ref)
    store.storage.write(f"thing/{'0' * 16}/artifact.json", json.dumps(tree).encode())
    with pytest.raises(ArtifactError, match=f"is the manifest of {made.ref}"):
        store.get(f"thing/{'0' * 16}")
    for ref in ("../thing/x", "thing/../x", "thing", "/etc/passwd", "a b/c"):
        with pytest.raises(ArtifactError, match=r"expected NAME/VERSION"):
            store.get(ref)


def test_every_damaged_file_of_an_artifact_is_named_wherever_it_is_kept(url, tmp_path):
    store = Store(url, str(tmp_path / "scratch"))
    made = store.build(SPEC, produce).artifact
    assert store.flaws(made) == []
    store.storage.write(f"{made.ref}/part/0.bin", b"other")
    store.storage.remove(f"{made.ref}/part/2.bin")
    said = Store(url, str(tmp_path / "elsewhere")).flaws(made)
    assert all(line.startswith(f"artifact {made.ref}: ") for line in said)
    assert [("part/0.bin is damaged" in line, "part/2.bin" in line and "is missing" in line) for line in said] == [
        (True, False),
        (False, True),
    ]
