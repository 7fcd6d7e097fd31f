"""file:// and s3:// behave alike; requests that fail, stall or are cut are tried again; what cannot be helped is one line and leaves nothing half."""

import errno
import json
import logging
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlparse

import pytest

from modelyard.config import Config
from modelyard.store import claims, outage, storage
from modelyard.store.artifacts import Store
from modelyard.store.manifest import MANIFEST, Artifact, ArtifactError, Spec
from modelyard.store.outage import StorageError, StorageRefusedError, patiently
from modelyard.store.storage import Storage
from tests.integration.faulty import Fault, error, proxy

pytestmark = pytest.mark.integration


@pytest.fixture(params=["file", "s3"])
def url(request, tmp_path):
    return request.getfixturevalue("s3") if request.param == "s3" else f"file://{tmp_path}/store"


@pytest.fixture
def faulty(s3, s3_server, monkeypatch):
    """(storage, proxy): an empty place on the real server, reached through the proxy."""
    monkeypatch.setattr(outage, "PATIENCE_SECONDS", 20.0)
    monkeypatch.setattr(storage, "READ_SECONDS", 2)
    address = urlparse(s3_server["AWS_ENDPOINT_URL"])
    with proxy((address.hostname, address.port)) as between:
        monkeypatch.setenv("AWS_ENDPOINT_URL", between.url)
        yield Storage(s3), between


class Made(Config):
    word: str = "x"


SPEC = Spec("thing", Made(), {}, "code")


def produce(out, checkpoints):
    (out / "part").mkdir()
    for number in range(3):
        (out / "part" / f"{number}.bin").write_bytes(bytes([number]) * 50_000)
    return {"thing/size": 3.0}


def test_storage_both_schemes_same_answers(url, tmp_path):
    place = Storage(url)
    assert not place.exists("a")
    assert place.names("") == []
    assert place.names("a") == []
    place.remove("a")
    with pytest.raises(FileNotFoundError):
        place.read("a/b")
    with pytest.raises(FileNotFoundError):
        place.get("a", tmp_path / "nothing")
    place.write("a/b", b"one")
    place.write("a/b", b"two")
    assert place.read("a/b") == b"two"
    assert place.exists("a")
    assert place.exists("a/b")
    assert place.create("a/c", b"mine")
    assert place.create("a/c", b"mine"), "the same words: our own request, sent again"
    assert not place.create("a/c", b"other")
    assert place.read("a/c") == b"mine"
    (tmp_path / "tree/deep").mkdir(parents=True)
    (tmp_path / "tree/top").write_bytes(b"")
    (tmp_path / "tree/deep/file").write_bytes(b"content")
    place.put_file(tmp_path / "tree/deep/file", "a/d")
    place.write("t/stale", b"of an earlier try")
    place.put(tmp_path / "tree", "t")
    assert place.names("") == ["a", "t"]
    assert place.names("a") == ["b", "c", "d"]
    assert place.names("t") == ["deep", "top"]
    place.get("t", tmp_path / "back")
    assert sorted(str(p.relative_to(tmp_path / "back")) for p in (tmp_path / "back").rglob("*")) == ["deep", "deep/file", "top"]
    assert (tmp_path / "back/deep/file").read_bytes() == b"content"
    place.remove("t/deep/file")
    assert not place.exists("t/deep/file")
    place.remove("a")
    assert place.names("a") == []
    for key in ("../a", "a/../../b", "/etc/passwd", "a\0b"):
        with pytest.raises(ValueError, match="leaves the store"):
            place.read(key)


def test_storage_exclusive_create_one_of_many_succeeds(url):
    place, won = Storage(url), []
    ready = threading.Barrier(8)

    def attempt(number: int) -> None:
        ready.wait()
        if place.create("claim", b"%d" % number):
            won.append(number)

    threads = [threading.Thread(target=attempt, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert place.read("claim") == b"%d" % won[0]


@pytest.mark.parametrize("mode", [0o755, 0o2775], ids=["own", "shared"])
def test_storage_directory_removed_by_one_while_another_writes_into_it_troubles_neither(tmp_path, mode):
    (tmp_path / "store").mkdir()
    (tmp_path / "store").chmod(mode)
    (tmp_path / "file").write_text("words")
    place, over = Storage(f"file://{tmp_path}/store"), threading.Event()

    def remove() -> None:
        while not over.wait(0.005):
            place.remove("a/b")

    with ThreadPoolExecutor(2) as pool:
        removers = [pool.submit(remove) for _ in range(2)]
        try:
            for number in range(40):
                assert place.create(f"a/b/created-{number}", b"%d" % number)
                place.write("a/b/written", b"%d" % number)
                place.put_file(tmp_path / "file", "a/b/copied")
        finally:
            over.set()
    assert [one.result() for one in removers] == [None, None]
    place.remove("a/b")
    assert not place.exists("a/b")


@pytest.mark.parametrize(
    "fault",
    [
        Fault("answer", data=error("503 Slow Down", "SlowDown")),
        Fault("answer", data=error("500 Internal Server Error", "InternalError")),
        Fault("answer", data=b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
        Fault("cut", 30_000),
        Fault("cut", 0.5),
        Fault("lose answer"),
        Fault("stall", 30),
    ],
    ids=["slow_down", "internal", "gateway", "cut_in_the_middle", "cut_at_once", "answer_lost", "stalled"],
)
def test_storage_upload_that_fails_is_tried_again_and_never_half(faulty, fault, tmp_path, caplog):
    place, between = faulty
    (tmp_path / "file").write_bytes(bytes(range(256)) * 1000)
    between.faults += [fault._replace(method=b"PUT")] * (1 if fault.kind == "stall" else 3)
    with caplog.at_level(logging.WARNING, "modelyard"):
        place.put_file(tmp_path / "file", "big")
    assert not between.faults
    assert place.read("big") == (tmp_path / "file").read_bytes()
    assert [record.message.split(": ", 1)[0] for record in caplog.records] == [place.url + "/big"], "one line for one outage"


def test_storage_download_cut_in_the_middle_is_tried_again(faulty, tmp_path):
    place, between = faulty
    place.write("big", bytes(range(256)) * 1000)
    between.faults += [Fault("cut answer", 30_000, method=b"GET")] * 2
    assert place.read("big") == bytes(range(256)) * 1000
    place.write("deep/big", bytes(range(256)) * 1000)
    between.faults += [Fault("cut answer", 30_000, method=b"GET")] * 2
    place.get_files("deep", ["big"], tmp_path)
    assert (tmp_path / "big").read_bytes() == bytes(range(256)) * 1000
    assert between.spoiled == 4


def test_storage_exclusive_create_whose_answer_was_lost_is_still_ours(faulty):
    place, between = faulty
    between.faults.append(Fault("lose answer", method=b"PUT"))
    assert place.create("claim", b"me")
    assert between.spoiled == 1


def test_storage_outage_ends_in_one_clear_line_or_is_waited_out(faulty, monkeypatch):
    place, between = faulty
    monkeypatch.setattr(outage, "PATIENCE_SECONDS", 1.5)
    between.down = True
    with pytest.raises(StorageError, match=rf"^{place.url}/a: \w+Error: .*; gave up after \d+ s$"):
        place.write("a", b"1")
    monkeypatch.setattr(outage, "PATIENCE_SECONDS", 20.0)
    threading.Timer(1.0, lambda: setattr(between, "down", False)).start()
    place.write("a", b"2")
    assert place.read("a") == b"2"


def test_storage_expired_credentials_are_read_again_once_then_refused(faulty):
    place, between = faulty
    place.write("a", b"1")
    expired = Fault("answer", data=error("400 Bad Request", "ExpiredToken"))
    between.faults.append(expired)
    assert place.read("a") == b"1", "a second session may hold newer ones"
    before = len(between.requests)
    between.faults += [expired] * 9
    with pytest.raises(StorageRefusedError, match=r"/a: access is refused \(ExpiredToken: ExpiredToken it is\)$"):
        place.read("a")
    assert len(between.requests) == before + 2


def test_storage_wrong_secret_missing_bucket_and_no_credentials_are_refused_at_once(s3, monkeypatch):
    with pytest.raises(StorageRefusedError, match=r"^s3://nobodys-bucket/a: there is no such bucket$"):
        Storage("s3://nobodys-bucket").read("a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "mistyped")
    with pytest.raises(StorageRefusedError, match=r"access is refused \(.*SignatureDoesNotMatch") as caught:
        Storage(s3).write("a", b"1")
    assert "\n" not in str(caught.value)
    assert "mistyped" not in str(caught.value)
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(StorageRefusedError, match="access is refused"):
        Storage(s3).write("a", b"1")


def test_storage_full_disk_says_so_and_leaves_nothing(tmp_path):
    place = Storage(f"file://{tmp_path}/store")
    (tmp_path / "file").write_bytes(b"x" * 100_000)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        for attempt in (lambda: place.write("a", b"x" * 100_000), lambda: place.put_file(tmp_path / "file", "a")):
            with pytest.raises(StorageError, match=r"store/a: no room to write it"):
                attempt()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert place.names("") == []


@pytest.mark.parametrize(("number", "said"), [(errno.ENOSPC, "no room to write it"), (errno.EROFS, "access is refused")])
def test_storage_directory_that_could_not_be_copied_says_why(number, said):
    def copy() -> None:
        raise shutil.Error([("a", "b", str(OSError(number, os.strerror(number)))), ("c", "d", "the same")])

    with pytest.raises(StorageError, match=rf"^store/a: {said} \(\[Errno {number}\] [A-Z][a-z -]+\)$"):
        patiently("store/a", copy, remote=False)


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
    assert claims_left(place) == []


def test_store_fetched_artifact_has_its_files_and_its_manifest_wherever_it_is_kept(url, tmp_path):
    made = Store(url, str(tmp_path / "here")).build(SPEC, produce).artifact
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
    with pytest.raises(ArtifactError, match=r"file part/2.bin is damaged"):
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


BUILDER = """
import sys, time
from tests.integration.test_storage import SPEC, Store
def produce(out, checkpoints):
    print("building", flush=True)
    time.sleep(60)
Store(sys.argv[1], sys.argv[2]).build(SPEC, produce)
"""


def test_claim_of_a_killed_builder_is_taken_at_once_on_the_same_machine(url, tmp_path):
    command = [sys.executable, "-c", BUILDER, url, str(tmp_path / "one")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    builder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert builder.stdout.readline() == "building\n"
    assert Storage(url).names(f".claims/thing-{SPEC.version}") == ["00000001"]
    builder.kill()
    builder.wait()
    assert not Store(url, str(tmp_path / "two")).build(SPEC, produce).cached
    assert claims_left(Storage(url)) == []


def foreign(beats: int) -> bytes:
    return json.dumps({"id": "them", "host": "elsewhere", "machine": "another", "pid": 1, "started": 1.0, "beats": beats}).encode()


def test_claim_of_another_machine_expires_only_when_it_stands_still(tmp_path, monkeypatch, caplog):
    url = f"file://{tmp_path}/store"
    monkeypatch.setattr(claims, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(claims, "EXPIRY_SECONDS", 0.3)
    key = f".claims/thing-{SPEC.version}/00000004"
    Storage(url).write(key, foreign(0))
    stop, results = threading.Event(), []

    def beat():
        beats = 0
        while not stop.wait(0.05):
            beats += 1
            Storage(url).write(key, foreign(beats))

    beating = threading.Thread(target=beat)
    building = threading.Thread(target=lambda: results.append(Store(url, str(tmp_path / "here")).build(SPEC, produce)))
    beating.start()
    building.start()
    building.join(1.5)
    assert building.is_alive(), "its holder is alive"
    stop.set()
    beating.join()
    building.join(30)
    assert results
    assert not results[0].cached
    assert "waiting for it" in caplog.text


def test_claim_lost_while_building_yields_to_who_finished_first(tmp_path, monkeypatch):
    url = f"file://{tmp_path}/store"
    monkeypatch.setattr(claims, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(claims, "EXPIRY_SECONDS", 0.2)

    def overtaken(out, checkpoints):
        Storage(url).write(f".claims/thing-{SPEC.version}/00000002", foreign(0))  # we stood still, and they took it
        Storage(url).remove(f".claims/thing-{SPEC.version}/00000001")
        other = Store(url, str(tmp_path / "other")).build(SPEC, lambda out, _: produce(out, _) | {"thing/theirs": 1.0})
        assert not other.cached
        return produce(out, checkpoints)

    late = Store(url, str(tmp_path / "late")).build(SPEC, overtaken)
    assert late.cached
    assert late.artifact.metrics == {"thing/size": 3.0, "thing/theirs": 1.0}


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
