"""Secrets stay in the environment: none of those that every end-to-end run has is in what a run prints, keeps, tracks or logs."""

import os
import zipfile
from pathlib import Path

import pytest

from modelyard.store.inputs import expand
from modelyard.store.storage import Storage
from tests.e2e.running import SECRETS

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]
RAY_SESSIONS = Path("/tmp/ray")


def contents(path: Path):
    """The bytes of a file; of an archive (torch's and MLflow's formats are) those of its members."""
    yield path.read_bytes()
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                yield archive.read(name)


def holding(root: Path, since: float = 0.0) -> list[str]:
    """Files below ``root`` that hold a secret."""
    found = []
    for place, _, names in os.walk(root):
        for name in names:
            path = Path(place) / name
            try:
                if path.is_symlink() or not path.is_file() or path.stat().st_mtime < since:
                    continue
                if any(secret.encode() in data for data in contents(path) for secret in SECRETS.values()):
                    found.append(str(path))
            except OSError:  # a socket, or gone
                continue
    return found


def test_run_leaves_no_secret_anywhere(finished):
    directory, done = finished
    assert not [secret for secret in SECRETS.values() if secret in done.out + done.err]
    assert holding(directory) == []
    begun = (directory / ".modelyard").stat().st_ctime
    assert holding(RAY_SESSIONS, since=begun - 600) == []
    (directory / "planted").write_text(f"x{SECRETS['PGPASSWORD']}x")
    try:
        assert holding(directory) == [str(directory / "planted")], "the search itself finds what is there"
    finally:
        (directory / "planted").unlink()


@pytest.mark.parametrize(
    ("opened", "url"),
    [
        (Storage, "s3://key:secret@bucket/store"),
        (Storage, "s3://key@bucket"),
        (expand, "s3://key:secret@bucket/documents.jsonl"),
        (expand, "https://key:secret@127.0.0.1:9/documents.jsonl"),
        (expand, "https://127.0.0.1:9/documents.jsonl?sig=secret"),
        (expand, "https://127.0.0.1:9/documents.jsonl?X-Amz-Signature=secret"),
    ],
)
def test_credentials_in_a_url_are_refused_without_being_said(opened, url):
    with pytest.raises(ValueError, match="credentials come from the environment") as caught:
        opened(url)
    assert "secret" not in str(caught.value)
    assert "key" not in str(caught.value)
