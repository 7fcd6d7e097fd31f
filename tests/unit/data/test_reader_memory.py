"""A line, cell, page or file of 100 MB is set aside in bounded memory: each reader in a process of its own, whose peak is measured."""

import json
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytestmark = pytest.mark.slow

HUGE = 100_000_000
LONGEST = 8_000_000
PROGRAM = """
import json, resource, sys
from pathlib import Path
from modelyard.data.sources.record import Record, TextField
from modelyard.data.sources.record_files import read
name, form, small = sys.argv[1:]
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
list(read(Path(small), form, TextField("text"), {longest}))  # what is imported is no memory of the row
before = peak()
rows = ["kept" if isinstance(row, Record) else row.reason for row in read(Path(name), form, TextField("text"), {longest})]
print(json.dumps([rows, peak() - before]))
"""
FORMS = {
    "jsonl": (b'{"text": "%b"}\n{"text": "short"}\n', ["read/line_too_long", "kept"], 80e6),
    "json": (b'[{"text": "%b"}, {"text": "short"}]', ["read/row_too_long", "kept"], 80e6),
    "csv": (b"text\n%b\nshort\n", ["read/line_too_long", "kept"], 80e6),
    "tsv": (b'text\n"%b"\nshort\n', ["read/line_too_long", "kept"], 80e6),
    "text": (b"%b\n\nshort\n", ["read/paragraph_too_long", "kept"], 80e6),
    "file": (b"%b", ["read/file_too_long"], 80e6),
    "warc": (
        b"WARC/1.0\r\nWARC-Type: conversion\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%b\r\n\r\n",
        ["read/page_too_long"],
        80e6,
    ),
    "parquet": (b"", ["read/cell_too_long", "kept"], 5 * HUGE),
}
"""Form -> what a file holds, what comes of its rows, and the bytes that reading it may take; Parquet has a cell whole, packed and not."""


@pytest.mark.parametrize("form", FORMS)
def test_reader_row_of_100_megabytes_is_set_aside_in_bounded_memory(tmp_path, form):
    content, wanted, most = FORMS[form]
    for name, size in (("huge", HUGE), ("small", 10)):
        word = b"word " * (size // 5)
        if form == "parquet":
            pq.write_table(pa.table({"text": pa.array([word.decode(), "short"], pa.large_string())}), tmp_path / name)
        else:
            (tmp_path / name).write_bytes(content % ((len(word), word) if form == "warc" else word))
    program = PROGRAM.format(longest=LONGEST)
    ran = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "huge", form, tmp_path / "small"],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    rows, taken = json.loads(ran.stdout)
    assert rows == wanted
    assert taken < most
