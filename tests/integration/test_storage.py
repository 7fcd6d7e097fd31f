"""file:// and s3:// behave alike; requests that fail, stall or are cut are tried again; what cannot be helped is one line and leaves nothing half."""

import errno
import logging
import os
import resource
import shutil
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from modelyard import progress
from modelyard.progress import Stop, request_stop
from modelyard.store import outage
from modelyard.store.outage import StorageError, StorageRefusedError, patiently
from modelyard.store.storage import Storage
from tests.integration.faulty import Fault, error

pytestmark = pytest.mark.integration


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


def test_storage_download_is_alive_while_it_goes_on(url, tmp_path):
    place = Storage(url)
    for name in ("a", "b"):
        place.write(f"t/{name}", bytes(1 << 20))
    before = progress.beats()
    request_stop(Stop.SIGNALLED)
    try:
        place.get("t", tmp_path / "back")
    finally:
        request_stop(Stop.NOBODY)
    assert progress.beats() - before >= (2 if place.is_local else 20), "files, and pieces of them where they come from afar"


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
        while not over.wait(0.02):
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


def kept(code: str) -> Fault:
    """The answer of a server that takes a request for many deletions and carries none out."""
    body = f"<DeleteResult><Error><Key>t/a</Key><Code>{code}</Code><Message>{code} it is</Message></Error></DeleteResult>".encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return Fault("answer", data=head.encode() + body, method=b"POST")


def test_storage_deletion_that_the_server_leaves_undone_is_tried_again_or_an_error(faulty):
    place, between = faulty
    for name in ("a", "b"):
        place.write(f"t/{name}", b"1")
    between.faults += [kept("InternalError"), Fault("answer", data=error("503 Slow Down", "SlowDown"), method=b"DELETE")]
    place.remove("t")
    assert place.names("t") == []
    place.write("t/a", b"1")
    refused = Fault("answer", data=error("403 Forbidden", "AccessDenied"), method=b"DELETE")
    between.faults += [kept("AccessDenied"), refused, kept("AccessDenied"), refused]
    with pytest.raises(StorageRefusedError, match=rf"^{place.url}/t: access is refused \(.*AccessDenied"):
        place.remove("t")
    assert place.names("t") == ["a"]


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
