"""What passes is waited out; a name that can never work is refused at once."""

import json
from types import SimpleNamespace

import pytest

from modelyard.store import outage
from modelyard.store.inputs import expand, local_copy
from modelyard.store.outage import StorageRefusedError, passes, patiently


class AnsweredError(Exception):
    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.response = SimpleNamespace(status_code=status)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outage, "PATIENCE_SECONDS", 0.3)


@pytest.mark.parametrize("url", ["hf://x", "hf://datasets/x", "hf://datasets/a b/c/d.jsonl"])
def test_name_that_no_repository_can_have_is_no_outage(url: str, tmp_path, caplog: pytest.LogCaptureFixture) -> None:
    for ask in (lambda: expand(url), lambda: local_copy(url, tmp_path)):
        with pytest.raises(StorageRefusedError, match=f"^{url}: ") as refused:
            ask()
        assert "\n" not in str(refused.value)
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (NotImplementedError("lists of repositories"), False),
        (AnsweredError(401), False),
        (AnsweredError(403), False),
        (AnsweredError(404), False),
        (AnsweredError(503), True),
        (AnsweredError(429), True),
        (json.JSONDecodeError("cut", "{", 1), True),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "cut"), True),
        (ConnectionError("gone"), True),
    ],
    ids=str,
)
def test_cut_answer_and_busy_server_are_asked_again_and_a_refusal_is_not(error: Exception, again: bool) -> None:
    assert passes(error) is again


def test_refusal_by_status_says_that_access_is_refused() -> None:
    def ask() -> None:
        raise AnsweredError(403)

    with pytest.raises(StorageRefusedError, match=r"^hf://a/b: access is refused \(403: status 403\)$"):
        patiently("hf://a/b", ask)
