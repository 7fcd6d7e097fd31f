"""What is fetched from elsewhere is all that is there, or an error; never a part of it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from modelyard.adapters.mlflow.model_source import WHOLE, local_directory

URL = "memory://benchmarks"


@pytest.fixture
def remote() -> Iterator[MemoryFileSystem]:
    held = fsspec.filesystem("memory")
    held.pipe({"/benchmarks/a.jsonl": b"a", "/benchmarks/deep/b.jsonl": b"b"})
    yield held
    held.rm("/benchmarks", recursive=True)


def files(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file() and path.name != WHOLE}


def cut_off_at(name: str) -> Callable[..., None]:
    """A ``get_file`` whose connection ends in the midst of a file."""
    whole = MemoryFileSystem.get_file

    def get_file(self: MemoryFileSystem, rpath: str, lpath: str, **given: object) -> None:
        if rpath.endswith(name):
            Path(lpath).write_bytes(b"half")
            raise ConnectionResetError("cut off")
        whole(self, rpath, lpath, **given)

    return get_file


def test_download_that_was_cut_off_is_fetched_anew_and_whole(
    remote: MemoryFileSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(MemoryFileSystem, "get_file", cut_off_at("b.jsonl"))
        with pytest.raises(ValueError, match="memory://benchmarks: ConnectionResetError: cut off"):
            local_directory(URL, tmp_path)
    assert list(tmp_path.iterdir()) == []

    found = local_directory(URL, tmp_path)

    assert files(found) == {"a.jsonl": b"a", "deep/b.jsonl": b"b"}
    monkeypatch.setattr(MemoryFileSystem, "get_file", cut_off_at("jsonl"))
    assert local_directory(URL, tmp_path) == found
    assert list(tmp_path.iterdir()) == [found]


def test_what_a_killed_download_left_is_no_part_of_the_next(remote: MemoryFileSystem, tmp_path: Path) -> None:
    found = local_directory(URL, tmp_path)
    (found / WHOLE).unlink()
    (found / "a.jsonl").write_bytes(b"half")
    (found / "gone.jsonl").touch()
    partial = found.with_name(f"{found.name}.partial")
    partial.mkdir()
    (partial / "older.jsonl").touch()

    assert files(local_directory(URL, tmp_path)) == {"a.jsonl": b"a", "deep/b.jsonl": b"b"}
    assert list(tmp_path.iterdir()) == [found]


def test_url_that_names_a_file_is_one_line_and_leaves_nothing(remote: MemoryFileSystem, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"memory://benchmarks/a\.jsonl: not a directory"):
        local_directory(f"{URL}/a.jsonl", tmp_path)
    assert list(tmp_path.iterdir()) == []
