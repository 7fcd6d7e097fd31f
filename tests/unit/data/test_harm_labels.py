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
from modelyard.posttrain.content_classifier.measure import columns
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


def _judged(text: str, **said: float) -> dict:
    """A row as a judge labels it: key -> probability; the other keys null."""
    rules = {name: {"rule": f"{name}-v1-0", "probability": said[key]} for name, key in NAMES.items() if key in said}
    return {"prompt": text, **dict.fromkeys(NAMES.values()), **{key: int(p > 0.5) for key, p in said.items()},
            "judged": {"judge": "large 12", "rules": rules}}  # fmt: skip


def test_harm_labels_of_a_judge_are_trained_on_where_it_was_heard_and_never_measured_on(tmp_path: Path) -> None:
    _run(_config(tmp_path, harms()), tmp_path)
    before = {one.text: one for one in read_texts(tmp_path / "out")}
    new = [_judged(f"strange talk number {number} by nobody at {number * 37}", R=0.9 * (number % 2)) for number in range(20)]
    held = next(one.text for one in before.values() if one.split == "test")
    own = next(one.text for one in before.values() if one.split == "train" and one.labels["rude"])
    near = _judged(held + " ", R=0.0)  # a near duplicate of a held-out text
    judged = _file(tmp_path / "judged.jsonl", "".join(json.dumps(row) + "\n" for row in [*new, near, _judged(own, R=0.1)]))
    files = [judged, _file(tmp_path / "labels.jsonl", "".join(json.dumps(row) + "\n" for row in harms()))]
    metrics = _run(HarmLabelsConfig(files=files, categories=NAMES), tmp_path)
    after = {one.text: one for one in read_texts(tmp_path / "out")}
    assert {text: one for text, one in after.items() if not one.judge} == before, "people's labels and sides stay, whatever is named first"
    mine = {text: one for text, one in after.items() if one.judge}
    assert set(mine) == {row["prompt"] for row in new}
    assert {(one.split, one.judge, *one.labels) for one in mine.values()} == {("train", "large 12", "rude")}
    assert (metrics["harm_labels/judged"], metrics["harm_labels/judged_left_out"]) == (20, 1)

    names = ("any", "rude", "cruel")
    rows = columns(sorted(mine.values(), key=lambda one: one.labels["rude"]), names)
    assert rows.tolist() == [[-1, 0, -1]] * 10 + [[1, 1, -1]] * 10, "harmless by one rule is not harmless"
    assert (columns(list(before.values()), names) >= 0).all()

    for row, message in (
        ({**new[0], "R": 1}, "judged.rules: rude: what the judge said is not what stands there"),
        ({**new[0], "C": 0}, "judged.rules: cruel: what the judge"),
        ({**new[0], "judged": {"judge": "x"}}, "judged: rules: Field required"),
    ):
        bad = _file(tmp_path / "judged.jsonl", json.dumps(row) + "\n")
        with pytest.raises(ValueError, match=rf"judged\.jsonl:1: {message}"):
            _run(HarmLabelsConfig(files=[*files[1:], bad], categories=NAMES), tmp_path)


def test_harm_labels_category_without_texts_and_taxonomies_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"harm_labels\.categories: vile: 0 texts with 1"):
        _run(_config(tmp_path, harms(), categories={**NAMES, "vile": "V"}), tmp_path)
    for categories, said in (
        ({"any": "A"}, "'any' is harm of any"),
        ({"a": "R", "b": "R"}, "'R' stands for two"),
        ({"a": "text"}, "key of the"),
        ({"a": "judged"}, "key of what a judge"),
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
    for rows, where in (
        ('"a\nb",safe\n\n"x,safe\n' + "y,safe\n" * 20_000, r"5: not valid CSV: "),
        ('"a\nb",safe\nc,maybe\n', r"4: label: "),
    ):
        bad = _file(tmp_path / "prompts.csv", f"prompt,label\n{rows}")
        with pytest.raises(ValueError, match=rf"^{tmp_path}/prompts\.csv:{where}"):
            _run(_config(tmp_path, harms(), prompts=bad), tmp_path)
