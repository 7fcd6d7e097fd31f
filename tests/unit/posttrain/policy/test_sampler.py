"""Samples drawn by a server: our own, which speaks vLLM's ``/v1/completions``, started by the stage from the exported weights."""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil
import pytest
import torch

from modelyard.child_server import ServerError, started_engine
from modelyard.execution import ExecutionConfig
from modelyard.model.encoder import Encoder
from modelyard.model.hf.conversion import export_hf
from modelyard.model.training.batch import Batch
from modelyard.posttrain.policy import loop, sampler
from modelyard.posttrain.policy.config import OnPolicyConfig
from modelyard.posttrain.policy.mismatch import GenerationDriftError
from tests.unit.posttrain.conftest import optimizer

from . import sampler_program
from .policies import Inputs, grpo_config, opd_config, ppo_config, rloo_config, run

SERVE = f"{shlex.quote(sys.executable)} -m modelyard serve"
OPTIONS = "--classifier none --book none --threads 1 --rows 16"
RESTARTED = f"{SERVE} {OPTIONS}"
RELOADED = f"{RESTARTED} --reloads"
SERVED = {"rollouts": {"backend": "server"}}


def execution(command: str, **changes: object) -> ExecutionConfig:
    return ExecutionConfig(checkpoint_every=1000, log_every=1, threads=1, sampler=command, sampler_requests=16, **changes)


def history(root: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (root / "out" / "history.jsonl").read_text().splitlines()]


def require_exact(line: Mapping[str, float], prefix: str = "policy/") -> None:
    """Every importance weight of an iteration is 1 within 1e-4."""
    assert line[f"{prefix}sampler/weight_max"] == pytest.approx(1.0, abs=1e-4)
    assert line[f"{prefix}sampler/weight_mean"] == pytest.approx(1.0, abs=1e-4)
    assert line[f"{prefix}sampler/effective"] == pytest.approx(1.0, abs=1e-4)
    assert 0 <= line[f"{prefix}sampler/kl"] < 1e-7
    assert line[f"{prefix}sampler/truncated"] == 0
    assert line[f"{prefix}policy/generation_drift"] < 1e-4


def servers() -> list[psutil.Process]:
    """Servers of models that this process started."""
    living = [one for one in psutil.Process().children(recursive=True) if one.status() != psutil.STATUS_ZOMBIE]
    return [one for one in living if "modelyard serve" in " ".join(one.cmdline()).replace("-m ", "")]


@pytest.mark.integration
@pytest.mark.parametrize(
    ("command", "reload", "exports"),
    [
        pytest.param(RELOADED, True, ["step_00000000", "step_00000002"], id="reloads"),
        pytest.param(RESTARTED, True, ["step_00000002"], id="cannot_reload", marks=pytest.mark.slow),
        pytest.param(RELOADED, False, ["step_00000002"], id="is_not_to_reload", marks=pytest.mark.slow),
    ],
)
def test_server_draws_from_the_policys_weights_before_and_after_an_update(
    command: str, reload: bool, exports: list[str], inputs: Inputs, tmp_path: Path
) -> None:
    config, place = ppo_config(**SERVED, optimizer=optimizer(2e-2), episodes=32), execution(command, sampler_reload=reload)
    training = loop.prepare(config, inputs, place)
    with sampler.drawing(config, inputs["sft"], tmp_path, place) as draw:
        training = training._replace(draw=draw)
        first = loop.sampled(config, training, 0)
        again = loop.sampled(config, training, 0)
        server = servers()
        assert server
        loop.update(config, training, first, 0, config.kl_coef)
        moved = training.models.actor.evaluate(Batch(first.rows.tokens, first.rows.labels, {}), config.micro_batch)
        second = loop.sampled(config, training, 1)
        assert sorted(path.name for path in tmp_path.glob("step_*")) == exports
    assert not any(process.is_running() for process in server)
    assert not servers()
    for drawn in (first, again, second):
        require_exact(drawn.notes | {"policy/generation_drift": drawn.drift}, "")
        torch.testing.assert_close(drawn.weights, drawn.rows.mask, atol=1e-4, rtol=0)
        assert all(len(new) == 8 or new[-1] == training.sampling.end for new in drawn.completions)
        assert not any(training.sampling.end in new[:-1] for new in drawn.completions)
        assert drawn.ended.tolist() == [new[-1] == training.sampling.end for new in drawn.completions]
    # the update moved the policy further than the weights above may differ, so weights that lag would have been seen
    assert float((moved.cpu() - first.logprobs)[first.rows.mask.bool()].abs().mean()) > 1e-2
    # the same seeds again: the same text but for what rounding decides
    assert sum(a == b for a, b in zip(first.completions, again.completions, strict=True)) >= 28
    assert len({tuple(new) for new in first.completions}) > 8


@pytest.mark.slow
@pytest.mark.integration
def test_server_with_other_weights_is_refused_at_the_first_iteration(inputs: Inputs, tmp_path: Path) -> None:
    encoder = Encoder(inputs["sft"])
    export_hf(inputs["base"], tmp_path / "other", start_id=encoder.start, end_id=encoder.ends, pad_id=encoder.padding)
    stubborn = f"sh -c 'exec {SERVE} {tmp_path / 'other'} {OPTIONS} \"$@\"'"
    with pytest.raises(
        GenerationDriftError, match=r"iteration 0: the sampler and the policy differ by .*max_mismatch is 0\.001"
    ) as refusal:
        run(grpo_config(**SERVED), inputs, tmp_path / "run", execution(stubborn))
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "run" / "out" / "model.json").exists()


@pytest.mark.slow
@pytest.mark.integration
def test_server_that_runs_elsewhere_is_reloaded_or_refused_in_one_line(inputs: Inputs, tmp_path: Path) -> None:
    encoder = Encoder(inputs["sft"])
    export_hf(inputs["base"], tmp_path / "other", start_id=encoder.start, end_id=encoder.ends, pad_id=encoder.padding)
    config = grpo_config(**SERVED, iterations=2)
    with started_engine(RELOADED, tmp_path / "other", tmp_path / "a.log") as url:
        metrics = run(config, inputs, tmp_path / "run", execution(url))
        for line in history(tmp_path / "run"):
            require_exact(line)
    assert metrics["policy/train/iterations"] == 2
    assert not any("sampler/" in key for key in metrics)  # the finished policy is measured by the own engine
    with (
        started_engine(RESTARTED, tmp_path / "other", tmp_path / "b.log") as url,
        pytest.raises(ValueError, match=r"collective_rpc: 404: .* it must take other weights while it runs"),
    ):
        run(config, inputs, tmp_path / "again", execution(url))


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.usefixtures("teacher")
@pytest.mark.parametrize("make", [rloo_config, opd_config])
def test_killed_run_resumes_and_asks_for_the_lost_iterations_samples_again(
    make: Callable[..., OnPolicyConfig], inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, config = execution(RELOADED, checkpoint_iterations=2), make(**SERVED, iterations=4, optimizer=optimizer(1e-3))
    asked: list[tuple[list[list[int]], list[int]]] = []
    true = sampler.TokenServer.complete

    def noted(server: sampler.TokenServer, prompts: list[list[int]], seeds: list[int], **options: object) -> object:
        asked.append((prompts, seeds))
        return true(server, prompts, seeds, **options)

    monkeypatch.setattr(sampler.TokenServer, "complete", noted)

    def killed(done: int, total: int, metrics: Mapping[str, float] = {}, unit: str = "step") -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(config, inputs, tmp_path, place, killed)
    assert not servers()
    run(config, inputs, tmp_path, place)
    lines = history(tmp_path)
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    for line in lines:
        require_exact(line)
    assert len(asked) == 5
    assert asked[3] == asked[2]
    seeds = [seed for _, each in (*asked[:3], asked[4]) for seed in each]
    assert len(set(seeds)) == len(seeds)


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.sampled
def test_policy_learns_from_a_servers_samples(inputs: Inputs, tmp_path: Path) -> None:
    """As in test_loop: with nothing to hold it back the policy says what the reward model likes best."""
    free = {"iterations": 16, "episodes": 32, "micro_batch": 8, "ema_decay": 0.0, "kl_coef": 0.0, "ptx_rows": 0, "ptx_coef": 0.0}
    metrics = run(grpo_config(**free, **SERVED, optimizer=optimizer(4e-3), final_episodes=32), inputs, tmp_path, execution(RELOADED))
    for line in history(tmp_path):
        require_exact(line)
    spread = metrics["policy/reference/reward_std"]
    assert metrics["policy/objective/reward_low"] > metrics["policy/reference/reward"] + 0.7 * spread
    assert metrics["policy/objective/reward_std"] < 0.5 * spread


@pytest.mark.slow
@pytest.mark.integration
def test_two_replicas_train_on_the_same_samples_and_fail_alike(inputs: Inputs, tmp_path: Path) -> None:
    given = {
        "config": grpo_config(**SERVED, micro_batch=2, optimizer=optimizer(1e-2)).model_dump(exclude_unset=True),
        "inputs": {role: str(path) for role, path in inputs.items()},
        "sampler": RELOADED,
        "out": str(tmp_path / "sampler"),
    }
    (tmp_path / "given.json").write_text(json.dumps(given))
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone", sampler_program.__file__]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, str(tmp_path / "given.json")], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (json.loads(line) for line in done.stdout.strip().splitlines())
    assert first == second
    for notes in first["notes"]:
        require_exact(notes, "")
    assert first["completions"][0] != first["completions"][1]
    assert "token 10000 is none of the model's" in first["error"]
    assert first["failure"] == "the disk is gone"


def test_server_that_does_not_start_is_one_line_and_exports_of_a_killed_run_are_gone(inputs: Inputs, tmp_path: Path) -> None:
    (tmp_path / "ck" / "sampler" / "step_00000099").mkdir(parents=True)
    (tmp_path / "ck" / "sampler" / "model").mkdir()
    with pytest.raises(ServerError, match=r"false did not start; see .*/sampler/server\.log"):
        run(grpo_config(**SERVED), inputs, tmp_path, execution("false"))
    assert sorted(one.name for one in (tmp_path / "ck" / "sampler").iterdir()) == ["server.log", "step_00000000"]


def test_without_a_server_nothing_is_trained(inputs: Inputs, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"policy\.rollouts\.backend 'server': execution\.sampler says nothing"):
        run(grpo_config(**SERVED), inputs, tmp_path, execution(""))


def test_server_that_runs_already_and_is_not_to_reload_is_refused() -> None:
    with pytest.raises(ValueError, match="sampler_reload: a server that runs already is not started anew"):
        ExecutionConfig(sampler="http://host:8000", sampler_reload=False)


@pytest.mark.parametrize(
    "address",
    [
        "http://",
        "htp://host:8000",
        "http://host:8000/v1/completions",
        "http://host:abc",
        "http://host:99999",
        "http://host:0",
        "http://host:8000?x=1",
        "http://[::1",
        "   ",
    ],
)
def test_execution_address_that_is_no_servers_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="sampler: expected http://host:port or a command"):
        ExecutionConfig(sampler=address)


def test_seeds_of_an_iteration_differ_and_are_the_same_again() -> None:
    first = sampler.seeds(123, 1000)
    assert first == sampler.seeds(123, 1000)
    assert len({*first, *sampler.seeds(124, 1000)}) == 2000
    assert all(0 <= seed < 2**32 for seed in first)
