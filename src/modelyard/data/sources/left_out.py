"""Which files of a dataset's directory are no data: markers of the job that wrote it, checksums, the dataset's own description.

Known by name only: what begins with a dot; what begins with an underscore and is no file of rows (Spark's and Hive's rule), and
directories of either; and beside files of rows the readme, the licence and the like. A file that is named by itself is data.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from modelyard.data.sources.record_files import form_of

_DESCRIPTION = re.compile(
    r"(readme|licen[cs]e|notice|changelog|citation|datasheet|dataset_?card)(\.(md|txt|rst|html|cff|bib))?"
    r"|(dataset_infos?|dataset_dict|state|croissant)\.json|(checksums?|md5sums?|sha\d+sums?)(\.txt)?|.*\.(md5|sha\d+|crc)",
    re.IGNORECASE,
)


class Parted(NamedTuple):
    """Files of a directory or pattern."""

    data: list[str]
    left_out: list[str]


def parted(files: Sequence[str], named: str) -> Parted:
    """Files that hold documents, and those that do not, both in their order.

    Args:
        files: paths or URLs.
        named: the file, directory or pattern that they were found by.
    """
    if list(files) == [named] or (len(files) == 1 and "*" not in named and files[0].endswith(named.rsplit("/", 1)[-1])):
        return Parted(list(files), [])
    inside = {file: _inside(file, named) for file in files}
    rows = any(form_of(name) != "file" and not _is_marker(name) and not _is_description(name) for name in inside.values())
    left_out = [file for file, name in inside.items() if _is_marker(name) or (rows and _is_description(name))]
    gone = set(left_out)
    return Parted([file for file in files if file not in gone], left_out)


def _inside(file: str, named: str) -> str:
    """A file's path below the directory that was named, its name where that cannot be told."""
    root = named.split("*", 1)[0].rpartition("/")[0] if "*" in named else named.rstrip("/")
    last = root.rsplit("/", 1)[-1]
    _, found, rest = file.rpartition(f"/{last}/") if last not in ("", ".", "..") else ("", "", "")
    return rest if found else file.rsplit("/", 1)[-1]


def _is_marker(name: str) -> bool:
    *directories, last = name.split("/")
    if any(part.startswith((".", "_")) for part in directories) or last.startswith("."):
        return True
    return last.startswith("_") and form_of(last) == "file"


def _is_description(name: str) -> bool:
    return bool(_DESCRIPTION.fullmatch(name.rsplit("/", 1)[-1]))
