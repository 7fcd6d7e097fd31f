"""The shipped benchmarks on the real data where it is at hand."""

import json
import os
from pathlib import Path

import pytest

from modelyard.evals.catalog import BENCHMARKS, build
from modelyard.judges.sandbox.run import Limits, Program, run_programs

DATA = Path(os.environ.get("MODELYARD_EVAL_DATA") or Path(__file__).parents[3].parent / "shared" / "data")
ITEMS = {
    "mmlu": 14_042, "arc_easy": 2_376, "arc_challenge": 1_172, "winogrande": 1_267, "lambada": 5_138, "truthfulqa_mc1": 816, "gsm8k": 1_319,
    "mgsm": 2_500, "bbh": 6_511, "human_eval": 164, "mbpp": 257, "xstest": 450, "moderation": 824, "mt_bench": 80,
}  # fmt: skip
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"no {DATA}")


@needs_data
@pytest.mark.parametrize("name", ITEMS)
def test_catalog_real_set_has_all_items_once_and_right_answers_among_them(name: str) -> None:
    built = build(name, DATA)

    assert len(built.items) == ITEMS[name]
    assert len({item.id for item in built.items}) == ITEMS[name]
    assert all(0 <= right < len(item.choices) for item in built.items for right in item.right)
    assert all(item.target for item in built.items if built.method == "generate" and name != "toxicity")
    assert built.prompt_of(built.items[0])


@needs_data
def test_catalog_prompts_are_the_published_forms() -> None:
    mmlu = build("mmlu_virology", DATA, shots=0)
    header = "The following are multiple choice questions (with answers) about virology.\n\n"
    header += "How many human polyomaviruses are known at present?\nA. 100\n"
    assert mmlu.prompt_of(mmlu.items[0]).startswith(header)
    assert mmlu.prompt_of(mmlu.items[0]).endswith("\nAnswer:")
    assert build("mmlu_virology", DATA).prompt_of(mmlu.items[0]).count("Answer:") == 6
    mgsm = build("mgsm_de", DATA)
    assert mgsm.prompt_of(mgsm.items[0]).endswith("\nSchritt-für-Schritt-Antwort:")
    bbh = build("bbh_navigate", DATA)
    assert "canary" not in bbh.prompt_of(bbh.items[0])
    assert bbh.prompt_of(bbh.items[0]).count("So the answer is") == 3
    assert build("gsm8k", DATA).items[0].target == "18"


@pytest.mark.parametrize("name", BENCHMARKS)
def test_catalog_missing_data_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="missing data: no"):
        build(name, tmp_path)


ASKED = [{"role": "user", "content": "The king went to"}]


def test_catalog_broken_line_is_named(tmp_path: Path) -> None:
    (tmp_path / "lambada").mkdir()
    (tmp_path / "lambada" / "samples.jsonl").write_text(
        json.dumps({"input": ASKED, "ideal": "x"}) + "\n" + json.dumps({"input": ASKED}) + "\n"
    )

    with pytest.raises(ValueError, match=r"samples\.jsonl:2: no 'ideal'"):
        build("lambada", tmp_path)


@needs_data
@pytest.mark.slow
@pytest.mark.parametrize("name", ["human_eval", "mbpp"])
def test_catalog_reference_solutions_pass_and_empty_ones_fail(name: str) -> None:
    limits = Limits(wall_seconds=30.0, cpu_seconds=30, memory_bytes=1 << 30, file_bytes=1 << 24, processes=2)
    items = build(name, DATA).items

    def programs(bodies: list[str]) -> list[Program]:
        fields = [item.fields for item in items]
        return [Program(f["head"] + body, f["entry_point"], f["setup"], f["test"]) for f, body in zip(fields, bodies, strict=True)]

    right = run_programs(programs([item.target for item in items]), limits)
    wrong = run_programs(programs(["    return None\n" if name == "human_eval" else "x = 1\n"] * len(items)), limits)

    assert [(item.id, verdict.reason) for item, verdict in zip(items, right, strict=True) if not verdict.passed] == []
    assert not any(verdict.passed for verdict in wrong)
