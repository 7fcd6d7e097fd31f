"""The command that compares two files of records: what it prints and writes, and what it refuses."""

import gzip
import json
import zipfile
from pathlib import Path

import pytest

from modelyard.commands.app import main
from modelyard.formats.records import read_records


def records(scores: list[float], benchmark_id: str = "x", benchmark: str = "words") -> list[dict]:
    return [{"item": f"i{k}", "score": s, "benchmark_id": benchmark_id, "benchmark": benchmark} for k, s in enumerate(scores)]


def test_compare_command_writes_json_and_refuses_garbage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new, out = tmp_path / "old.jsonl", tmp_path / "new.jsonl", tmp_path / "out.json"
    old.write_text("\n".join(map(json.dumps, records([1.0] * 40 + [0.0] * 40))))
    new.write_text("\n".join(map(json.dumps, records([0.0] * 80))))

    assert main(["compare", str(old), str(new), "--json", str(out)]) == 0
    assert "worse" in capsys.readouterr().out
    assert json.loads(out.read_text())[0]["verdict"] == "worse"
    new.write_text("not json")
    assert main(["compare", str(old), str(new)]) == 2
    assert "new.jsonl" in capsys.readouterr().err
    assert main(["compare", str(old), str(tmp_path / "none.jsonl")]) == 2


@pytest.mark.parametrize(
    "schema",
    [
        lambda k, right: {"item": k, "score": float(right)},
        lambda k, right: {"id": f"q{k}", "correct": bool(right)},
        lambda k, right: {"doc_id": k, "acc": right, "filter": "none"},
        lambda k, right: {"item_id": k, "choice": "A" if right else "B", "target": "A"},
        lambda k, right: {"question_id": k, "choice": "A" if right else "B", "correct": "A"},
        lambda k, right: {"question_id": k, "choice": k % 4, "correct": k % 4 if right else 9},
        lambda k, right: {"task_id": f"HumanEval/{k}", "passed": bool(right), "task": "code"},
        lambda k, right: {"id": k, "prediction": " 7 " if right else "8", "answer": 7},
    ],
)
def test_compare_command_reads_records_of_other_tools(schema, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new, out = tmp_path / "old.jsonl", tmp_path / "new.jsonl.gz", tmp_path / "out.json"
    old.write_text("\n".join(json.dumps(schema(k, k < 40)) for k in range(80)))
    new.write_bytes(gzip.compress("\n".join(json.dumps(schema(k, k < 20)) for k in range(80)).encode()))

    assert main(["compare", str(old), str(new), "--json", str(out)]) == 0

    (found,) = json.loads(out.read_text())
    assert (found["n"], found["old"], found["new"], found["verdict"], found["test"]) == (80, 0.5, 0.25, "worse", "mcnemar")
    assert len(found["lost"]) == 20
    assert f"-20: {found['lost'][0]}, " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"score": 1}', "new.jsonl:2: no item id"),
        ('{"id": 1, "prompt": "x"}', "new.jsonl:2: no numeric score"),
        ('{"id": 1, "score": NaN}', "new.jsonl:2: score is nan"),
        ('{"id": 1, "choice": "A"}', "new.jsonl:2: no numeric score"),
        ('{"id": 1, "acc": 45}', "new.jsonl:2: acc is 45, not between 0 and 1"),
        ('{"id": 1, "score": 1e308}', "new.jsonl:2: score is 1e+308"),
        ("[1, 2]", "new.jsonl:2: not a JSON object"),
        ('{"id": ', "new.jsonl:2: not JSON"),
        ('{"id": "other", "score": 0}', "items differ (1 old, 2 new, 1 in both, for example 'other')"),
    ],
)
def test_compare_command_unusable_record_is_one_clear_line(
    line: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = tmp_path / "old.jsonl", tmp_path / "new.jsonl"
    old.write_text('{"id": "a", "score": 1}')
    new.write_text(f'{{"id": "a", "score": 1}}\n{line}\n')

    assert main(["compare", str(old), str(new)]) == 2

    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_compare_command_common_items_alone_on_request(tmp_path: Path) -> None:
    old, new, out = tmp_path / "old.jsonl", tmp_path / "new.jsonl", tmp_path / "out.json"
    old.write_text("\n".join(json.dumps({"id": k, "score": 1}) for k in range(50)))
    new.write_text("\n".join(json.dumps({"id": k, "score": k % 2}) for k in range(10, 60)))

    assert main(["compare", str(old), str(new)]) == 2
    assert main(["compare", str(old), str(new), "--common", "--json", str(out)]) == 0

    (found,) = json.loads(out.read_text())
    assert (found["n"], found["verdict"]) == (40, "worse")


@pytest.mark.parametrize(
    "option", [("--alpha", "nan"), ("--alpha", "7"), ("--tolerance", "-1"), ("--tolerance", "nan"), ("--min-items", "0")]
)
def test_compare_command_unusable_option_is_refused(option: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "old.jsonl", "new.jsonl", *option]) == 2
    error = capsys.readouterr().err
    assert option[0] in error
    assert error.count("\n") == 1


def test_compare_command_unwritable_result_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "old.jsonl"
    file.write_text('{"id": "\\ud800", "score": 1}')
    assert main(["compare", str(file), str(file), "--json", str(file / "out.json")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert main(["compare", str(file), str(file)]) == 0


def harness(k: int, score: float, name: str = "strict-match", hash_: str = "h", **more: object) -> dict:
    """A row as ``lm_eval --log_samples`` writes it."""
    row = {"doc_id": k, "doc": {"question": f"q{k}"}, "target": f"#### {k}", "arguments": {}, "resps": [["x"]], "filtered_resps": ["x"]}
    return {**row, "filter": name, "metrics": ["exact_match"], "doc_hash": f"{hash_}{k}", "exact_match": score, **more}


def sample(k: int, grade: object, **more: object) -> dict:
    """A sample as inspect_ai logs it."""
    score = {"value": grade, "answer": "x"}
    return {"id": k, "epoch": 1, "input": f"q{k}", "target": "x", "scores": {"match": score}, "output": {"choices": []}, **more}


def compared(old: Path, new: Path, out: Path) -> dict[str, dict]:
    assert main(["compare", str(old), str(new), "--json", str(out)]) == 0
    return {one["benchmark"]: one for one in json.loads(out.read_text())}


def test_compare_command_filters_of_the_harness_are_two_benchmarks(tmp_path: Path) -> None:
    name = "samples_gsm8k_2026-01-02T03-04-05.678901.jsonl"
    old, new = tmp_path / "old" / name, tmp_path / "new" / name
    for path, strict in ((old, 0.0), (new, 1.0)):
        path.parent.mkdir()
        rows = [harness(k, strict) for k in range(40)] + [harness(k, float(k % 2), "flexible-extract") for k in range(40)]
        path.write_text("\n".join(map(json.dumps, rows)))

    found = compared(old, new, tmp_path / "out.json")

    assert {key: (one["old"], one["new"], one["verdict"]) for key, one in found.items()} == {
        "gsm8k (strict-match)": (0.0, 1.0, "better"),
        "gsm8k (flexible-extract)": (0.5, 0.5, "same"),
    }


def test_compare_command_different_filters_of_the_harness_are_refused_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {}
    for name in ("strict-match", "flexible-extract", "none"):
        files[name] = tmp_path / name / "samples_gsm8k_2026-01-02T03-04-05.678901.jsonl"
        files[name].parent.mkdir()
        files[name].write_text("\n".join(json.dumps(harness(k, 1.0, name)) for k in range(40)))

    assert main(["compare", str(files["strict-match"]), str(files["flexible-extract"])]) == 2
    said = "benchmarks differ: old has ['gsm8k (strict-match)'], new has ['gsm8k (flexible-extract)']"
    assert said in capsys.readouterr().err
    assert list(compared(files["none"], files["none"], tmp_path / "out.json")) == ["gsm8k"]


def helm_run(folder: Path, question: str, perturbed: str = "", plain: bool = False) -> Path:
    """A folder of HELM's: scores of two instances, one of them perturbed too, and what was asked."""
    folder.mkdir(parents=True)
    stats = [{"name": {"name": "exact_match"}, "mean": 1.0}]
    robustness = {"name": "misspelling", "robustness": True}
    scores = [{"instance_id": f"id{k}", "train_trial_index": 0, "stats": stats} for k in range(2)]
    scores.append({"instance_id": "id0", "perturbation": robustness, "train_trial_index": 0, "stats": stats})
    (folder / "per_instance_stats.json").write_text(json.dumps(scores))

    def state(name: str, text: str, **more: object) -> dict:
        references = [{"output": "yes" if plain else {"text": "yes"}, "tags": ["correct"]}]
        return {"instance": {"id": name, "input": text if plain else {"text": text}, "references": references, **more}, "request": {}}

    states = [state("id0", "First?"), state("id1", question), state("id0", perturbed or "Frist?", perturbation=robustness)]
    (folder / "scenario_state.json").write_text(json.dumps({"adapter_spec": {}, "request_states": states}))
    return folder / "per_instance_stats.json"


def test_compare_command_other_questions_of_helm_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    same, other, spelled, old = (
        helm_run(tmp_path / "runs" / f"law,model={name}", *words)
        for name, words in {"a": ("Second?",), "b": ("Another?",), "c": ("Second?", "First??"), "d": ("Second?", "", True)}.items()
    )

    assert main(["compare", str(same), str(other)]) == 2
    assert "law: item id1 is another question in the two files (1 of 2 items)" in capsys.readouterr().err
    assert main(["compare", str(same), str(spelled)]) == 2
    assert "law (misspelling): item id0 is another question" in capsys.readouterr().err
    assert set(compared(same, old, tmp_path / "out.json")) == {"law", "law (misspelling)"}, "texts as strings, as HELM once wrote them"
    other.with_name("scenario_state.json").unlink()
    assert main(["compare", str(same), str(other)]) == 0, "nothing is known of what was asked"
    same.with_name("scenario_state.json").write_text('{"request_states": [{"instance": 1}]}')
    assert main(["compare", str(same), str(other)]) == 2
    assert "scenario_state.json: request state 1: no instance with input and references" in capsys.readouterr().err


@pytest.mark.parametrize("where", ["details", "predictions", "options"])
def test_compare_command_other_prompts_of_opencompass_are_refused(where: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(name: str, second: object) -> Path:
        prompts = [[{"role": "HUMAN", "prompt": "First?"}], second]
        rows: dict[str, object] = {
            str(k): {"correct": True, **({"prompt": prompt} if where == "details" else {})} for k, prompt in enumerate(prompts)
        }
        result = tmp_path / name / "results" / "m" / "gsm8k.json"
        result.parent.mkdir(parents=True)
        result.write_text(json.dumps({"accuracy": 100, "details": {"type": "GEN", **rows}}))
        beside = tmp_path / name / "predictions" / "m" / "gsm8k.json"
        beside.parent.mkdir(parents=True)
        asked = [{"origin_prompt": p} if where == "predictions" else {"label: A": {"testing input": p, "PPL": 1.0}} for p in prompts]
        if where != "details":
            beside.write_text(json.dumps({str(k): one for k, one in enumerate(asked)}))
        return result

    one, again, other = run("a", "Second?"), run("b", "Second?"), run("c", "Another?")

    assert list(compared(one, again, tmp_path / "out.json")) == ["gsm8k"]
    assert main(["compare", str(one), str(other)]) == 2
    assert "gsm8k: item 1 is another question in the two files (1 of 2 items)" in capsys.readouterr().err


def test_compare_command_reads_logs_of_inspect(tmp_path: Path) -> None:
    log = {"version": 2, "status": "success", "eval": {"task": "arc", "model": "m"}}
    grades = {"old": "C", "new": "I"}
    for side, grade in grades.items():
        samples = [sample(k, grade if k < 30 else "P") for k in range(40)]
        with zipfile.ZipFile(tmp_path / f"{side}.eval", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("header.json", json.dumps(log))
            for one in samples:
                archive.writestr(f"samples/{one['id']}_epoch_1.json", json.dumps(one))
        (tmp_path / f"{side}.json").write_text(json.dumps({**log, "samples": samples}))
        (tmp_path / f"{side}.jsonl").write_text("\n".join(map(json.dumps, samples)))

    for suffix, name in ((".eval", "arc"), (".json", "arc"), (".jsonl", "benchmark")):
        found = compared(tmp_path / f"old{suffix}", tmp_path / f"new{suffix}", tmp_path / "out.json")
        assert {key: (one["n"], one["old"], one["new"]) for key, one in found.items()} == {name: (40, 0.875, 0.125)}
    mixed = compared(tmp_path / "old.eval", tmp_path / "new.json", tmp_path / "out.json")
    assert mixed["arc"]["verdict"] == "worse"


def test_compare_command_reads_helm_and_opencompass(tmp_path: Path) -> None:
    for side, right in (("old", 1.0), ("new", 0.0)):
        run = tmp_path / f"mmlu:subject=law,model={side}"
        run.mkdir()
        stats = [{"name": {"name": "num_tokens"}, "mean": 9.0}, {"name": {"name": "exact_match", "split": "test"}, "mean": right}]
        instances = [{"instance_id": f"id{k}", "train_trial_index": 0, "stats": stats} for k in range(30)]
        (run / "per_instance_stats.json").write_text(json.dumps(instances))
        (tmp_path / side).mkdir()
        details = {"type": "GEN", **{str(k): {"pred": "x", "correct": bool(right)} for k in range(30)}}
        (tmp_path / side / "gsm8k.json").write_text(json.dumps({"accuracy": 100 * right, "details": details}))

    helm = compared(*(tmp_path / f"mmlu:subject=law,model={s}" / "per_instance_stats.json" for s in ("old", "new")), tmp_path / "out.json")
    compass = compared(tmp_path / "old" / "gsm8k.json", tmp_path / "new" / "gsm8k.json", tmp_path / "out.json")

    assert {name: (one["n"], one["verdict"]) for name, one in {**helm, **compass}.items()} == {
        "mmlu:subject=law": (30, "worse"),
        "gsm8k": (30, "worse"),
    }


def test_sample_that_ended_with_an_error_is_no_row(tmp_path: Path) -> None:
    rows = [sample(0, "C"), {**sample(1, "C", scores={}), "error": {"message": "timed out"}}]
    log = {"eval": {"task": "t"}, "samples": rows}
    (tmp_path / "log.json").write_text(json.dumps(log))
    assert [one["item"] for one in read_records(tmp_path / "log.json")["t"]] == ["0"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([harness(0, 1.0), harness(1, 1.0, hash_="other")], "item 1 is another question in the two files (1 of 2 items)"),
        ([harness(0, 1.0), harness(1, 1.0), harness(0, 0.0, hash_="other")], "new.jsonl:3: item 0 is another question before"),
        ([harness(0, 1.0), {**harness(1, 1.0), "exact_match": [1, 2]}], "new.jsonl:2: none of its metrics (exact_match) is a score"),
        ([harness(0, 1.0), harness(1, 1.0, metrics=["perplexity"], perplexity=3.0)], "none of its metrics (perplexity) is a score"),
        ([sample(0, "C"), sample(1, "maybe")], "new.jsonl:2: score 'match' is 'maybe', neither a number nor one of C, P, I, N"),
        ([sample(0, "C"), sample(1, "C", scores={})], "new.jsonl:2: no scores"),
        ([{"id": 0, "score": "C", "output": "x", "target": "x"}], "new.jsonl:1: score is 'C', not a number"),
        ([{"id": 0, "output": {"text": "x"}, "target": "x"}], "new.jsonl:1: no numeric score"),
        (
            [{"id": 0, "output": "It is 7.", "target": "7"}, {"id": 1, "output": "8!", "target": "8"}],
            "new.jsonl: answers hold more than the text",
        ),
        (
            [{"id": k, "prediction": f"The answer is {k}" if k else "0", "target": str(k)} for k in range(9)],
            "new.jsonl: answers hold more than the text of their targets",
        ),
        ([{"id": k, "parsed": f"({k})", "target": str(k)} for k in range(3)], "new.jsonl: answers hold more than the text"),
        (
            [{"doc_id": 0, "task": "t", "filter": "none", "metrics": ["odds"], "odds": 9.0, "doc_hash": "a", "target_hash": "b"}],
            "odds is 9, and whether more of it is better is not known",
        ),
        (
            [{"doc_id": 0, "metrics": ["likelihood_diff"], "likelihood_diff": 1.0, "doc_hash": "a"}],
            "none of its metrics (likelihood_diff) is a score",
        ),
        (
            [{"doc_id": 0, "metrics": ["acc"], "acc": 1.0, "doc": {"q": word}} for word in ("a", "b")],
            "item 0 is another question before",
        ),
    ],
)
def test_compare_command_unreadable_score_is_an_error_never_zero(
    rows: list[dict], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = tmp_path / "old.jsonl", tmp_path / "new.jsonl"
    old.write_text("\n".join(json.dumps(harness(k, 1.0)) for k in range(2)))
    new.write_text("\n".join(map(json.dumps, rows)))

    assert main(["compare", str(old), str(new)]) == 2

    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_compare_command_other_archive_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with zipfile.ZipFile(tmp_path / "a.eval", "w") as archive:
        archive.writestr("readme", "x")

    assert main(["compare", str(tmp_path / "a.eval"), str(tmp_path / "a.eval")]) == 2
    assert "a zip archive without header.json and samples/" in capsys.readouterr().err
