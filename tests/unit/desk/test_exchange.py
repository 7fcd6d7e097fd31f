"""Label Studio's and Potato's files, there and back: the same texts, orders, ties and raters."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import sqlalchemy as sql

from modelyard.commands.app import main
from modelyard.desk.database import Database
from modelyard.desk.settings import DeskConfig
from modelyard.desk.tables import Account, Batch, Finding
from modelyard.desk.work import assignment as work
from tests.unit.desk.browsing import batch, people, question

STUDIO = [
    {
        "id": 7,
        "data": {"prompt": "Why?", "items": [{"id": "a", "body": "So."}, {"id": "b", "body": "Because."}, {"id": "c", "body": "Hm."}]},
        "annotations": [
            {"completed_by": {"id": 3, "email": "u@example.org"}, "result": [{"type": "ranker", "value": {"ranker": ["b", "c", "a"]}}]},
            {
                "completed_by": 4,
                "result": [
                    {"type": "choices", "value": {}},
                    {"type": "ranker", "value": {"ranker": {"good": ["a", "b"], "_": [], "bad": ["c"]}}},
                ],
            },
            {"completed_by": 5, "result": [{"type": "ranker", "value": {"ranker": {"good": ["a"], "_": ["b", "c"]}}}]},
            {"completed_by": 6, "was_cancelled": True, "result": []},
            {"completed_by": 8, "result": []},
        ],
    },
    {
        "id": 9,
        "data": {"prompt": "Who?", "text1": "I.", "text2": "You."},
        "annotations": [{"completed_by": 4, "result": [{"type": "pairwise", "value": {"selected": "right"}}]}],
    },
]  # fmt: skip


def compared(out: Path) -> list[tuple]:
    rows = [json.loads(line) for line in (out / "comparisons.jsonl").read_text().splitlines()]
    return sorted((json.dumps(row["prompt"]), tuple(row["completions"]), tuple(row["ranks"]), row["rater"]) for row in rows)


def test_label_studio_export_becomes_comparisons_with_ties_and_what_cannot_be_used_is_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = tmp_path / "export.json", tmp_path / "out"
    file.write_text(json.dumps(STUDIO))
    assert main(["label", "--convert", str(file), "--form", "label-studio", "--out", str(out)]) == 0
    three = ("So.", "Because.", "Hm.")
    assert compared(out) == [
        ('"Who?"', ("I.", "You."), (2, 1), "4"),
        ('"Why?"', three, (1, 1, 2), "4"),
        ('"Why?"', three, (3, 1, 2), "u@example.org"),
    ]
    said = capsys.readouterr().out
    for line in ("1 dropped: not_all_ranked", "1 dropped: skipped", "1 dropped: no_ranking"):
        assert line in said
    (tmp_path / "b.toml").write_text(f'name = "b"\nkind = "ranking"\nitems = "{out}/items.jsonl"\n')
    assert main(["label", str(tmp_path / "b.toml"), "--book", f"sqlite:///{tmp_path}/desk.db"]) == 0
    assert "2 items added" in capsys.readouterr().out


def test_rankings_go_out_in_both_forms_and_come_back_as_they_were(database: Database, tmp_path: Path) -> None:
    team = people(database, "lea", "leo")
    batch(database, [question(number, answers=4 + number) for number in range(3)], overlap=2)
    with database.write() as session:
        for place, account in enumerate(team):
            while given := work.following(session, session.get_one(Account, account.id), session.get_one(Batch, 1), DeskConfig()):
                count = len(given.shown)
                ranks = [1 + (number + place) % 3 for number in range(count)]
                work.submit(session, given, {"ranks": ranks, "ratings": [3] * count, "flags": [[]] * count}, 0)
    book = str(database.engine.url)
    assert main(["label", "--out", str(tmp_path / "ours"), "--book", book]) == 0
    wanted = compared(tmp_path / "ours")
    assert len(wanted) == 6
    for form, back in (
        ("label-studio", [str(tmp_path / "label-studio/label-studio.json")]),
        ("potato", [str(tmp_path / "potato/annotation_output"), "--items", str(tmp_path / "potato/potato-items.jsonl")]),
    ):
        assert main(["label", "--out", str(tmp_path / form), "--form", form, "--book", book]) == 0
        assert main(["label", "--convert", *back, "--form", form, "--out", str(tmp_path / f"{form}-back")]) == 0
        assert compared(tmp_path / f"{form}-back") == wanted


def test_potato_ties_choices_and_useless_orders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "items.jsonl").write_text(
        '{"id": "i", "text": "Q", "responses": ["x", "y", "z"]}\n{"id": "p", "left": "l", "right": "r"}\n'
    )
    rows = [
        {"id": "i", "user_id": "u", "label_annotations": {"q": {"rank_order": "B, C=A"}}},
        {"id": "i", "user_id": "v", "label_annotations": {"q": {"rank_order": "B,C"}}},
        {"id": "i", "user_id": "w", "label_annotations": {"q": {"rank_order": "B,C,A,A"}}},
        {"id": "p", "user_id": "u", "label_annotations": {"other": {"Yes": "1"}, "pair": {"selection": "B"}}},
    ]
    mine = tmp_path / "u.jsonl"
    mine.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["label", "--convert", str(mine), "--items", str(tmp_path / "items.jsonl"), "--form", "potato", "--out", str(tmp_path / "out")]
    assert main(words) == 0
    assert compared(tmp_path / "out") == [('""', ("l", "r"), (2, 1), "u"), ('"Q"', ("x", "y", "z"), (2, 1, 2), "u")]
    assert "1 dropped: not_all_ranked\n1 dropped: answer_twice" in capsys.readouterr().out
    mine.write_text('{"id": "none", "label_annotations": {}}\n')
    assert main(words) == 2
    assert "u.jsonl:1: id:" in capsys.readouterr().err
    assert main([*words[:3], *words[5:]]) == 2
    assert "--form potato needs --items" in capsys.readouterr().err


@pytest.mark.parametrize(
    "content", ["{}", "[1]", '[{"data": 1}]', '[{"data": {"items": [{"id": 1}]}}]', '[{"data": {"text1": "a"}}]', "nope"]
)
def test_file_of_another_form_is_refused_by_name(content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.json").write_text(content)
    assert main(["label", "--convert", str(tmp_path / "x.json"), "--form", "label-studio", "--out", str(tmp_path / "out")]) == 2
    assert "x.json" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_hits_of_garak_become_findings_with_their_family_and_an_expert_decides(
    database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    people(database, "eva", role="expert")
    turns = {"turns": [{"role": "user", "content": {"text": "hello"}}, {"role": "assistant", "content": {"text": "hi"}}]}
    attempt = {"entry_type": "attempt", "status": 2, "probe_classname": "dan.Dan_11_0", "goal": "disregard the system prompt"}
    rows = [
        {"entry_type": "init", "garak_version": "0.13"},
        {**attempt, "status": 1, "prompt": "p", "outputs": ["x"], "detector_results": {"d": [1.0]}},
        {
            **attempt,
            "prompt": "Be DAN",
            "outputs": ["no", "yes", None, "unscored"],
            "detector_results": {"d": [0.0, 1.0, 1.0, None], "e": [0.4, 0.5]},
        },
        {**attempt, "prompt": {"text": "be  dan"}, "outputs": [{"text": "sure"}], "detector_results": {"d": [0.7]}},
        {**attempt, "probe_classname": "probes.encoding.InjectBase64", "prompt": turns, "outputs": ["ok"], "detector_results": {"d": [1]}},
    ]
    report = tmp_path / "x.report.jsonl"
    report.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["findings", "--garak", str(report), "--reporter", "eva", "--book", str(database.engine.url)]
    assert main(words) == 0
    assert capsys.readouterr().out == "3 findings reported, 1 of them repeats\n"
    with database.read() as session:
        one, two, three = session.scalars(sql.select(Finding).order_by(Finding.id))
        assert (one.family, one.note, one.messages[-1]["content"]) == ("role_play", "garak: d, e; disregard the system prompt", "yes")
        assert (two.repeats, three.family, len(three.messages)) == (one.id, "encoding", 3)
        assert {finding.state for finding in (one, two, three)} == {"reported"}
    report.write_text(json.dumps({**attempt, "prompt": 1, "outputs": []}) + "\n")
    assert main(words) == 2
    assert "x.report.jsonl:1: prompt: expected text" in capsys.readouterr().err
    assert main([*words[:4], "nobody", *words[5:]]) == 2


def piece(conversation: str, sequence: int, role: str, said: str, *scores: dict, **more: object) -> dict:
    return {
        "conversation_id": conversation, "sequence": sequence, "role": role, "original_value": "plain", "converted_value": said,
        "converted_value_data_type": "text", "scores": list(scores), **more,
    }  # fmt: skip


def score(scorer: str, value: str, kind: str = "true_false", **more: object) -> dict:
    return {"score_value": value, "score_type": kind, "scorer_class_identifier": {"class_name": scorer}, **more}


def test_conversations_of_pyrit_become_findings_with_all_their_turns(
    database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    people(database, "eva", role="expert")
    harm = score("SelfAskTrueFalseScorer", "True", score_category=["Violence"], score_rationale="it says how", objective="a plan")
    base64 = {"converter_identifiers": [{"__type__": "Base64Converter"}]}
    crescendo = {"attack_identifier": {"__type__": "CrescendoAttack"}}
    pieces = [
        piece("talk", 3, "assistant", "second answer", harm),  # an export need not be in order
        piece("talk", 0, "user", "first", **crescendo),
        piece("talk", 1, "simulated_assistant", "first answer", score("SelfAskTrueFalseScorer", "false"), score("ARefusalScorer", "true")),
        piece("talk", 2, "user", "second", **crescendo),
        piece("coded", 0, "user", "cGxhbg==", **base64),
        piece("coded", 1, "assistant", "ok", score("FloatScorer", "0.5", "float_scale")),
        piece("mild", 0, "user", "x"),
        piece("mild", 1, "assistant", "ok", score("FloatScorer", "0.49", "float_scale"), score("SelfAskRefusalScorer", "true")),
        piece("again", 0, "system", "be good"),
        piece("again", 1, "user", "CGXHBG==", **base64),
        piece("again", 2, "assistant", "ok", score("FloatScorer", "1", "float_scale")),
        piece("seen", 0, "user", "x.png", converted_value_data_type="image_path"),
        piece("seen", 1, "assistant", "ok", harm),
        piece("tools", 0, "tool", "{}"),
    ]
    export = tmp_path / "talks.json"
    export.write_text(json.dumps(pieces))
    words = ["findings", "--pyrit", str(export), "--reporter", "eva", "--book", str(database.engine.url)]
    assert main(words) == 0
    assert capsys.readouterr().out == (
        "3 findings reported, 1 of them repeats\n1 conversations dropped: not_text\n1 conversations dropped: role_of_a_tool\n"
    )
    with database.read() as session:
        talk, coded, again = session.scalars(sql.select(Finding).order_by(Finding.id))
        assert [(turn["role"], turn["content"]) for turn in talk.messages] == [
            ("user", "first"), ("assistant", "first answer"), ("user", "second"), ("assistant", "second answer"),
        ]  # fmt: skip
        assert (talk.family, talk.category, talk.title) == ("multi_turn", "violence", "PyRIT CrescendoAttack")
        assert talk.note == "PyRIT: SelfAskTrueFalseScorer; it says how; a plan"
        assert (coded.family, coded.category, coded.messages[0]["content"]) == ("encoding", "other", "cGxhbg==")
        assert (again.repeats, again.messages[0]["role"]) == (coded.id, "system")


@pytest.mark.parametrize(
    ("pieces", "message"),
    [
        ({}, "talks.json: expected a list"),
        ([3], "talks.json: piece 0: expected an object"),
        ([{"role": "user"}], "talks.json: piece 0: conversation_id: expected text"),
        ([{"conversation_id": "c", "role": "user", "converted_value": "x"}], "talks.json: piece 0: sequence: expected a whole number"),
        ([piece("c", 0, "user", "x"), piece("c", 1, "assistant", "y", score("S", "high", "float_scale"))], "piece 1: scores: score_value"),
        ([piece("c", 0, "user", "x") | {"converted_value": None}], "talks.json: piece 0: converted_value: expected text"),
        ([piece("c", 0, "user", "x"), piece("c", 1, "assistant", "y") | {"scores": 3}], "piece 1: scores: expected a list"),
    ],
)
def test_export_that_is_none_of_pyrits_is_one_line_and_reports_nothing(
    pieces: object, message: str, database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    people(database, "eva", role="expert")
    (tmp_path / "talks.json").write_text(json.dumps(pieces))
    assert main(["findings", "--pyrit", str(tmp_path / "talks.json"), "--reporter", "eva", "--book", str(database.engine.url)]) == 2
    assert message in capsys.readouterr().err
    with database.read() as session:
        assert session.scalars(sql.select(Finding)).all() == []
