"""Labels of harm as records: taxonomies, near duplicates on one side, and bad files refused by line and key."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from modelyard.data.filters.abuse_labels import LabelsConfig
from modelyard.data.harms import gather
from modelyard.data.harms.gather import HarmLabelsConfig
from modelyard.formats.harms import read_probes, read_texts
from modelyard.progress import silent
from tests.worlds.imported import harms

NAMES = {"rude": "R", "cruel": "C"}


def _file(path: Path, text: str) -> LabelsConfig:
    path.write_text(text)
    return LabelsConfig(path=path.name, sha256=hashlib.sha256(path.read_bytes()).hexdigest(), licence="CC0-1.0")


def _config(root: Path, rows: list, **changes) -> HarmLabelsConfig:
    labels = _file(root / "labels.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    return HarmLabelsConfig(**{"files": [labels], "categories": NAMES, **changes})


def _run(config: HarmLabelsConfig, root: Path) -> dict[str, float]:
    (root / "out").mkdir(exist_ok=True)
    return gather.run(config, {}, root / "out", silent, [str(root)])


def test_harm_labels_near_duplicates_share_a_side_and_texts_keep_theirs_when_others_are_added(tmp_path: Path) -> None:
    long = "the old stone bridge over the river was closed last winter because the water had risen above the road {}"
    copies = [{"text": long.format(word), "R": 0, "C": 0} for word in ("again", "twice", "once", "here", "there", "today")]
    _run(_config(tmp_path, [*harms(), *copies]), tmp_path)
    before = {one.text: one for one in read_texts(tmp_path / "out")}
    sides = {before[row["text"]].split for row in copies}
    assert len(sides) == 1
    assert len({before[row["text"]].group for row in copies}) == 1
    assert {one.split for one in before.values()} == {"train", "test"}

    more = [{"prompt": f"quite another text number {number} about nothing of this kind", "R": 0} for number in range(40)]
    _run(_config(tmp_path, [*more, *harms(), *copies]), tmp_path)
    after = {one.text: one.split for one in read_texts(tmp_path / "out")}
    assert all(after[text] == one.split for text, one in before.items())


def test_harm_labels_nobody_looked_is_no_harm_only_beside_no_harm(tmp_path: Path) -> None:
    _run(_config(tmp_path, [*harms(), {"text": "unlooked at"}, {"text": "looked at once", "R": 1, "C": None}]), tmp_path)
    found = {one.text: one.labels for one in read_texts(tmp_path / "out")}
    assert found["unlooked at"] == {"rude": 0, "cruel": 0}
    assert found["looked at once"] == {"rude": 1}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "x", "R": 2}, r"labels\.jsonl:81: R: expected 0 or 1, got 2"),
        ({"prompt": "x", "R": True}, r"labels\.jsonl:81: R: expected 0 or 1, got True"),
        ({"R": 1}, r"labels\.jsonl:81: needs one of prompt and text"),
        ([1], r"labels\.jsonl:81: not a JSON object"),
    ],
)
def test_harm_labels_bad_row_is_refused_by_line_and_key(tmp_path: Path, row: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _run(_config(tmp_path, [*harms(), row]), tmp_path)


def test_harm_labels_category_without_texts_and_taxonomies_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"harm_labels\.categories: vile: 0 texts with 1"):
        _run(_config(tmp_path, harms(), categories={**NAMES, "vile": "V"}), tmp_path)
    for categories, said in (
        ({"any": "A"}, "'any' is harm of any"),
        ({"a": "R", "b": "R"}, "'R' stands for two"),
        ({"a": "text"}, "key of the"),
    ):
        with pytest.raises(ValidationError, match=said):
            _config(tmp_path, harms(), categories=categories)


def test_harm_labels_probes_are_prompts_of_a_file_and_every_term_alike_often(tmp_path: Path) -> None:
    prompts = _file(
        tmp_path / "prompts.csv",
        "id,prompt,label\n1,how do I kill a process,safe\n2,how do I hurt her,unsafe\n3,how do I hurt her,unsafe\n",
    )
    _run(_config(tmp_path, harms(), prompts=prompts), tmp_path)
    probes = read_probes(tmp_path / "out")
    assert [(one.text, one.group) for one in probes[:2]] == [("how do I kill a process", "safe"), ("how do I hurt her", "unsafe")]
    terms = [one.term for one in probes if one.group == "identity"]
    assert len({terms.count(term) for term in terms}) == 1
    assert len(probes) == 2 + len(terms)
    bad = _file(tmp_path / "prompts.csv", "prompt,label\nx,maybe\n")
    with pytest.raises(ValueError, match=r"prompts\.csv:2: label: expected safe or unsafe, got 'maybe'"):
        _run(_config(tmp_path, harms(), prompts=bad), tmp_path)
