"""Files that are read whole: regular and of bounded size, packed or not; anything else is refused in a line and never waited for."""

import gzip
import os
from pathlib import Path

import pytest

from modelyard.config import ConfigError, read_tree
from modelyard.formats import json_file
from modelyard.store.inputs import find_input
from modelyard.whole_file import FREE, FileError, read, read_unpacked


def test_read_gives_every_byte_up_to_the_most_and_refuses_one_more(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    assert read(tmp_path / "a", 5) == b"12345"
    with pytest.raises(FileError, match=r"a: over 4 bytes, which are the most that are read"):
        read(tmp_path / "a", 4)


def test_pipe_that_nobody_writes_to_and_endless_device_are_refused_by_every_reader(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/zero")
    (tmp_path / "a.toml").write_text('extends = "pipe"\n')
    for name in ("pipe", "device"):
        for reads in (read, json_file.load, read_tree, lambda path: find_input(str(path), "", "file")):
            with pytest.raises(ValueError, match=f"{name}: not a regular file"):
                reads(tmp_path / name)
    with pytest.raises(ConfigError, match="pipe: not a regular file"):
        read_tree(tmp_path / "a.toml")


def test_gzip_that_unpacks_to_far_more_than_its_size_is_refused_and_text_is_not(tmp_path: Path) -> None:
    bomb, text = tmp_path / "bomb.gz", tmp_path / "text.gz"
    bomb.write_bytes(gzip.compress(b" " * (FREE + 1), mtime=0))
    with pytest.raises(FileError, match=rf"bomb\.gz: over {FREE:,} bytes"):
        read_unpacked(bomb)
    words = b"".join(b'{"id": %d, "score": 1}\n' % number for number in range(10_000))
    text.write_bytes(gzip.compress(words, mtime=0))
    assert read_unpacked(text) == words


def test_damaged_gzip_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(b"some words", mtime=0)[:-6])
    with pytest.raises(FileError, match=r"a\.gz: cannot be read: "):
        read_unpacked(path)
