"""What is said of a file that is no text: the line, counted past a byte order mark."""

from pathlib import Path

import pytest

from modelyard.formats.json_file import lines


def test_line_that_is_no_utf8_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}\n{"a": "\xff"}\n')
    with pytest.raises(ValueError, match=r"a\.jsonl:2: not UTF-8 text"):
        list(lines(path))
