"""One rank and every split of the work are the same computation: losses, gradients of every parameter, scores, samples, checkpoints."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from modelyard.execution import ExecutionConfig
from modelyard.model.hf.weights import read_checkpoint
from modelyard.model.training.batch import Batch

from . import layout_program as program

pytestmark = [pytest.mark.numerics, pytest.mark.timeout(1800)]  # one fixture computes every slow layout

ONE = ExecutionConfig(threads=1)


class Measured(NamedTuple):
    """Answers by ``layout/case``, one rank's under ``one/case``, and where the checkpoints stand."""

    answers: dict[str, Any]
    root: Path


def measured_on_one_rank(root: Path, case: str) -> dict[str, Any]:
    """One rank's answers, and its checkpoint after three steps for the others to go on from."""
    shape = program.case(case)
    answer = program.measure(ONE, case, root / "one" / case, None)
    source = program.engine(ONE, case, "lm")
    for _ in range(3):
        source.train_step(program.batch_of(shape), 2, program.masked_loss)
    source.save(root / "one-three-steps" / case)
    return answer


def launched(ranks: int, root: Path, kind: str) -> dict[str, Any]:
    """The program's answers at every layout of a world of ``ranks``."""
    project = Path(__file__).parents[3]
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={ranks}", "--standalone", program.__file__]
    done = subprocess.run(
        [*command, str(root), kind],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{project / 'src'}", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, "\n".join(line for line in done.stderr.splitlines() if line.startswith("[rank"))[-3000:]
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def measured(root: Path, kind: str) -> Measured:
    """Every layout's answers beside one rank's."""
    names = sorted({case for _, case in program.cases(kind)})
    answers = {f"one/{case}": measured_on_one_rank(root, case) for case in names}
    for ranks in program.LAYOUTS:
        if program.cases(kind, ranks):
            answers |= launched(ranks, root, kind)
    return Measured(answers, root)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    """The layouts of the default suite."""
    return measured(tmp_path_factory.mktemp("layouts"), "default")


@pytest.fixture(scope="module")
def slow_results(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    """All the other layouts."""
    return measured(tmp_path_factory.mktemp("layouts"), "slow")


def assert_same_computation(results: Measured, layout: str, case: str) -> None:
    """Losses, gradients, scores, samples and resumes from each other's checkpoints, within 1e-5 of one rank's."""
    split, one = results.answers[f"{layout}/{case}"], results.answers[f"one/{case}"]
    for key in ("loss", "scores", "resumed"):
        torch.testing.assert_close(
            torch.tensor(split[key]), torch.tensor(one[key][: len(split[key])]), rtol=1e-5, atol=1e-5 if key == "scores" else 0
        )
    # the first steps of the two engines start from equal weights; later ones from weights whose rounding AdamW has amplified (3e-5 seen)
    found, expected = torch.tensor(split["grad_norm"]), torch.tensor(one["grad_norm"])
    torch.testing.assert_close(found[[0, 3]], expected[[0, 3]], rtol=1e-5, atol=0)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=0)
    assert split["sampled"] == one["sampled"]
    # and one rank goes on from the layout's checkpoint after its first step
    engine = program.engine(ONE, case, "lm")
    engine.load(results.root / layout / case)
    onward = [engine.train_step(program.batch_of(program.case(case)), 2, program.masked_loss)["loss"] for _ in range(2)]
    torch.testing.assert_close(torch.tensor(onward), torch.tensor(one["loss"][1:3]), rtol=1e-5, atol=0)
    # what was read at this layout and written again is what one rank wrote, to the bit
    wrote, again = (read_checkpoint(place) for place in (results.root / "one-three-steps" / case, results.root / layout / f"{case}-again"))
    assert wrote.keys() == again.keys()
    for name in wrote:
        assert torch.equal(again[name][: len(wrote[name])], wrote[name]), name
    # after one step the first moments are the clipped gradients
    rows = program.case(case).vocab_size
    theirs, ours = (read_checkpoint(results.root / where / case) for where in (layout, "one"))
    assert theirs.keys() == ours.keys()
    for name in ours:
        if name.startswith("optimizer.state.exp_avg."):
            expected, found = ours[name], theirs[name]
            found = found[:rows] if "word_embeddings" in name or "output_layer" in name else found
            assert (found - expected).norm() <= 1e-5 * expected.norm(), name


@pytest.mark.parametrize(("layout", "case"), program.cases("default"))
def test_layout_against_one_rank_is_the_same_computation(results: Measured, layout: str, case: str) -> None:
    assert_same_computation(results, layout, case)


@pytest.mark.slow
@pytest.mark.parametrize(("layout", "case"), program.cases("slow"))
def test_every_other_layout_against_one_rank_is_the_same_computation(slow_results: Measured, layout: str, case: str) -> None:
    assert_same_computation(slow_results, layout, case)


def test_distributed_optimizer_at_two_replicas_keeps_half_of_the_state_on_each(results: Measured) -> None:
    one, two = results.answers["one/llama-tied"]["state"], results.answers["dp2/llama-tied"]["state"]
    assert one == program.case("llama-tied").parameters()
    assert two <= 0.55 * one


def test_weights_of_an_update_are_gathered_in_several_pieces_beside_what_follows(results: Measured) -> None:
    assert results.answers["dp2-overlap/llama-untied"]["gathering"] > 4
    assert results.answers["dp2/llama-tied"]["gathering"] == 0


@pytest.mark.parametrize("case", ["llama-tied", "gpt-untied"])
@pytest.mark.parametrize("micro_batch", [1, 4, 8])
def test_gradient_accumulation_in_other_pieces_is_the_same_step(results: Measured, case: str, micro_batch: int) -> None:
    engine = program.engine(ONE, case, "lm")
    steps = [engine.train_step(program.batch_of(program.case(case)), micro_batch, program.masked_loss) for _ in range(3)]
    for key in ("loss", "grad_norm"):
        expected = torch.tensor(results.answers[f"one/{case}"][key][:3])
        torch.testing.assert_close(torch.tensor([step[key] for step in steps]), expected, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("case", ["llama-tied", "gpt-untied", "llama-experts"])
def test_generation_logprobs_against_training_forward_are_equal(results: Measured, case: str) -> None:
    answers = results.answers[f"one/{case}"]
    engine = program.engine(ONE, case, "lm")
    engine.load(results.root / "one-three-steps" / case)
    for prompt, new, logprobs in zip(program.PROMPTS, answers["sampled"], answers["logprobs"], strict=True):
        tokens = torch.tensor([prompt + new])
        scored = engine.evaluate(Batch(tokens[:, :-1], tokens[:, 1:], {}), 1)[0, len(prompt) - 1 :]
        torch.testing.assert_close(scored, torch.tensor(logprobs), rtol=1e-5, atol=1e-5)
