"""What is logged may hold text of others and addresses of a user's: it is logged as it may be shown."""

import json
import logging
import time
from pathlib import Path

import pytest

from modelyard.store import claims
from modelyard.store.claims import take
from modelyard.store.outage import StorageError, patiently
from modelyard.store.storage import Storage


def test_claim_of_somebody_whose_name_a_terminal_would_obey_is_said_in_plain_letters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(claims, "POLL_SECONDS", 0.0)
    storage = Storage(f"file://{tmp_path}/store")
    holder = {"user": "ada\x1b]0;owned\x07\x1b[2J", "host": "\u202eyard\u2066", "pid": "7\r"}
    storage.write(".claims/corpus/00000001", json.dumps(holder).encode())

    assert take(storage, "corpus", lambda: bool(caplog.records)) is None
    (line,) = caplog.messages
    assert line == r"corpus is being built by process 7\u000d of ada\u001b]0;owned\u0007\u001b[2J on \u202eyard\u2066; waiting for it"


def test_outage_of_an_address_with_a_password_is_logged_without_it(caplog: pytest.LogCaptureFixture) -> None:
    def away() -> None:
        raise ConnectionError("https://ada:pa55@h/x?X-Amz-Signature=5ec: no answer")

    with pytest.raises(StorageError, match="full"):
        patiently("https://ada:pa55@h/x", away, sleep=_full)
    (line,) = caplog.messages
    assert line.startswith("https://h/x: ConnectionError: https://h/x?X-Amz-Signature=...")
    assert caplog.records[0].levelno == logging.WARNING


def _full(_: float) -> None:
    time.sleep(0)
    raise StorageError("full")
