"""Does PPO align? Reward against KL over KL coefficients, with and without pretraining gradients, judged by a gold reward model that PPO never saw.

``python -m bench.frontier STORE`` (``make bench-frontier``): ``STORE`` is the store of a finished line
(``make run``), whose SFT model, reward model, gold reward model and data are used. Each run is the line's own PPO
(``[policy]`` of ``--config``) at one KL coefficient and gamma, measured every few iterations on openings of
held-out reviews, the corpus' validation split, of which neither SFT, reward model, gold nor the line's
benchmark has any; ``--items test`` takes the benchmark's openings instead, to report by, not to choose by.
Gao et al. (arXiv:2210.10760) plot proxy and gold scores over KL in this way: the reward model is the proxy,
the gold reward model the gold. Language-model loss is on the validation rows behind those that the stage's own metric
reads. Every measurement is a line of ``--out``; a run that reached ``--iterations`` there is not repeated.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import typer

from bench.program import program
from modelyard.config import read_tree
from modelyard.execution import ExecutionConfig
from modelyard.formats.feedback import DEMONSTRATIONS, Demonstration, read
from modelyard.formats.token_rows import TokenRows
from modelyard.model import model_directory
from modelyard.model.encoder import Encoder
from modelyard.model.network import processor
from modelyard.model.training.engine import Engine
from modelyard.posttrain.policy import loop as ppo
from modelyard.posttrain.policy import rollout as experience
from modelyard.posttrain.policy.config import PPOConfig
from modelyard.posttrain.policy.hacking import signs
from modelyard.posttrain.policy.measure import language_model_loss, seed_of
from modelyard.posttrain.policy.prepare import Training, prepare
from modelyard.posttrain.policy.rewards import sequence_kl
from modelyard.posttrain.policy.rollout import Rollout
from modelyard.posttrain.scores import score
from modelyard.stats import ties
from modelyard.stats.estimate import bootstrap_mean, proportion

Point = dict[str, Any]


class Measure:
    """What is measured of a policy: the same openings and text for all, beside the SFT model's completions of them."""

    def __init__(self, config: PPOConfig, inputs: Mapping[str, Path], training: Training, items: str) -> None:
        encoder = Encoder(inputs["sft"])
        self.config, self.training = config, training
        self.prompts = [encoder.opening(text) for text in openings(inputs, items)]
        self.text = TokenRows(inputs["tokens"], "validation")[config.final_rows :]
        self.gold = model_directory.load(inputs["gold"], ExecutionConfig(threads=1), head="scalar")
        self.before = self._sample(training.models.reference)
        self.gold_before = self._gold(self.before)

    def __call__(self, iteration: int) -> Point:
        """Everything about the actor as it is now, each estimate as [value, low, high]."""
        drawn, seed = self._sample(self.training.models.actor), self.config.seed
        gold = self._gold(drawn)
        wins = [ties.preferred(a, b, self.gold.precision) for a, b in zip(gold, self.gold_before, strict=True)]
        kl = sequence_kl(drawn.logprobs, drawn.reference_logprobs, drawn.rows.mask).tolist()
        loss = language_model_loss(self.training.models, self.text, self.config.micro_batch, seed)
        hacking = signs(drawn.completions, self.before.completions, drawn.scores.tolist(), seed)
        estimates = {
            "kl": bootstrap_mean(kl, seed),
            "proxy": bootstrap_mean((drawn.scores - self.before.scores).tolist(), seed),
            "gold": bootstrap_mean([a - b for a, b in zip(gold, self.gold_before, strict=True)], seed),
            "win_rate": proportion(sum(wins), len(wins)),
        }
        change = [loss[f"policy/ptx/relative_change{end}"] for end in ("", "_low", "_high")]
        flags = [name.removeprefix("flag_") for name, value in hacking.items() if name.startswith("flag_") and value]
        length = float(np.mean([len(completion) for completion in drawn.completions]))
        intervals = {key: list(estimate[:3]) for key, estimate in estimates.items()}
        return {"iteration": iteration, **intervals, "loss_change": change, "length": length, "flags": flags}

    def _sample(self, engine: Engine) -> Rollout:
        return experience.sample(
            self.training.models._replace(actor=engine), self.prompts, seed_of(self.config, -1), self.training.sampling
        )

    def _gold(self, drawn: Rollout) -> list[float]:
        end, padding = self.training.sampling.end, self.training.sampling.padding
        pairs = zip(self.prompts, drawn.completions, drawn.ended.tolist(), strict=True)
        return score(self.gold, [[*prompt, *new, *([] if ended else [end])] for prompt, new, ended in pairs], padding)


def openings(inputs: Mapping[str, Path], items: str) -> list[str]:
    """Openings of reviews: ``validation`` (to choose by) or ``test`` (the line's benchmark)."""
    if items == "test":
        lines = (inputs["held_out"] / "benchmarks" / "openings.jsonl").read_text("utf-8").splitlines()
        return [str(json.loads(line)["prompt"]) for line in lines]
    shown = read(inputs["feedback"] / DEMONSTRATIONS, Demonstration, "validation")
    return [one.prompt for one in shown if isinstance(one.prompt, str)]


def line_inputs(store: Path) -> dict[str, Path]:
    """Directories of the newest finished line's models and data. Raises ValueError where the store has no results."""
    manifests = [json.loads(path.read_text("utf-8")) for path in store.glob("results/*/artifact.json")]
    if not manifests:
        raise ValueError(f"{store}: no results; a finished line is needed (make run)")
    results = max(manifests, key=lambda manifest: manifest.get("finished") or 0.0)["parents"]
    policy = json.loads((store / results["policy"] / "artifact.json").read_text("utf-8"))["parents"]
    feedback = json.loads((store / policy["feedback"] / "artifact.json").read_text("utf-8"))["parents"]
    return {role: store / ref for role, ref in {**policy, "gold": results["scorer"], "held_out": feedback["held_out"]}.items()}


def run(config: PPOConfig, inputs: Mapping[str, Path], items: str, every: int, threads: int, note: Callable[[Point], None]) -> None:
    """Train from the start and tell ``note`` what was measured at iterations 0, ``every``, 2 ``every``, ... and the last."""
    execution = ExecutionConfig(threads=threads, checkpoint_iterations=10**6)
    training = prepare(config, inputs, execution)
    measure = Measure(config, inputs, training, items)
    note(measure(0))

    def report(done: int, total: int, metrics: Mapping[str, float] = {}, unit: str = "step") -> None:
        if metrics and (done % every == 0 or done == total):
            note(measure(done))

    with tempfile.TemporaryDirectory() as scratch:
        ppo.train(config, training, Path(scratch), execution, report)


class Key(NamedTuple):
    """What tells runs apart."""

    kl_coef: float
    gamma: float
    items: str
    settings: tuple[str, ...] = ()


class Run(NamedTuple):
    """A run and its measurements, the first iteration's first."""

    key: Key
    points: list[Point]


def collected(out: Path) -> list[Run]:
    """The runs in ``out``, by gamma and KL coefficient; where one was begun twice, its last attempt."""
    found: dict[Key, list[Point]] = {}
    for line in out.read_text("utf-8").splitlines() if out.exists() else []:
        row = json.loads(line)
        (kl_coef, gamma, items, *settings), point = row["key"], row["point"]
        key = Key(kl_coef, gamma, items, tuple(settings))
        found[key] = [*(found.get(key, []) if point["iteration"] else []), point]
    return sorted((Run(key, points) for key, points in found.items()), key=lambda run: (-run.key.gamma, run.key.kl_coef))


def table(runs: Sequence[Run]) -> str:
    """One line a run, of its last point, and where its gold score was highest."""
    head = f"{'KL coef':>8} {'gamma':>6} {'KL (nats)':>10} {'proxy':>7} {'gold':>7}  {'win rate over SFT':<22} {'loss against SFT':<24} gold's best"
    lines = [head]
    for each in runs:
        last, best = each.points[-1], max(each.points, key=lambda point: point["gold"][0])
        win, loss = last["win_rate"], last["loss_change"]
        lines.append(
            f"{each.key.kl_coef:8g} {each.key.gamma:6g} {last['kl'][0]:10.2f} {last['proxy'][0]:+7.2f} {last['gold'][0]:+7.2f}  "
            f"{win[0]:.3f} [{win[1]:.3f}, {win[2]:.3f}]   {loss[0]:+.2%} [{loss[1]:+.2%}, {loss[2]:+.2%}]  "
            f"{best['gold'][0]:+.2f} at {best['kl'][0]:.1f} nats (iteration {best['iteration']}); now {', '.join(last['flags']) or 'no flags'}"
            + (f"  ({', '.join(each.key.settings)})" if each.key.settings else "")
        )
    return "\n".join(lines)


def plot(runs: Sequence[Run], path: Path) -> None:
    """Proxy and gold scores, win rate and language-model loss over the square root of KL (Gao et al.'s axis); dashed without ptx."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    from modelyard.page_style import FAINT, PLOT

    pyplot.rcParams.update(PLOT)
    figure, panels = pyplot.subplots(1, 3, figsize=(15, 4.5), constrained_layout=True)
    panels[2].set_yscale("symlog", linthresh=2.0)
    coefficients = sorted({each.key.kl_coef for each in runs})
    colours = {coefficient: pyplot.get_cmap("viridis")(i / max(1, len(coefficients) - 1)) for i, coefficient in enumerate(coefficients)}
    for each in runs:
        kl = np.sqrt([max(0.0, point["kl"][0]) for point in each.points])
        drawn: dict[str, Any] = {"color": colours[each.key.kl_coef], "linestyle": "-" if each.key.gamma else "--", "marker": "."}
        name = f"KL coefficient {each.key.kl_coef:g}" + (f", gamma {each.key.gamma:g}" if each.key.gamma else ", no ptx")
        name = ", ".join((name, *each.key.settings))
        panels[0].plot(kl, [point["proxy"][0] for point in each.points], alpha=0.35, linewidth=1, **drawn)
        panels[0].plot(kl, [point["gold"][0] for point in each.points], label=name, **drawn)
        win = np.array([point["win_rate"] for point in each.points])
        panels[1].plot(kl, win[:, 0], **drawn)
        panels[1].errorbar(kl[-1], win[-1, 0], [[win[-1, 0] - win[-1, 1]], [win[-1, 2] - win[-1, 0]]], color=drawn["color"], capsize=3)
        panels[2].plot(kl, [100 * point["loss_change"][0] for point in each.points], **drawn)
    panels[0].set_ylabel("score minus SFT's (faint: the reward model's)")
    panels[0].legend(fontsize=7)
    panels[1].set_ylabel("win rate over SFT by the unseen gold reward model")
    panels[1].axhline(0.5, color=FAINT, linewidth=0.8)
    panels[2].set_ylabel("held-out loss against SFT, %")
    panels[2].axhline(2.0, color=FAINT, linewidth=0.8)
    for panel in panels:
        panel.set_xlabel("square root of KL(policy || SFT) of a completion, nats")
    figure.savefig(path, dpi=110)


def main(
    store: Annotated[Path, typer.Argument()] = Path(".modelyard/store"),
    config: Path = Path("configs/pipeline/tiny.toml"),
    kl: Annotated[list[float], typer.Option(help="KL coefficients.")] = [0.0, 0.02, 0.05, 0.1, 0.3],
    gammas: Annotated[list[float], typer.Option("--gamma", help="Default: the config's policy.ptx_coef, and 0.")] = [],
    iterations: int = 40,
    every: int = 5,
    items: Literal["validation", "test"] = "validation",
    threads: int = 2,
    settings: Annotated[list[str], typer.Option("--set", help="Other keys of [policy], as JSON values.", metavar="KEY=VALUE")] = [],
    out: Path = Path(".modelyard/frontier.jsonl"),
    plot_file: Annotated[Path, typer.Option("--plot")] = Path(".modelyard/frontier.png"),
) -> None:
    """Run what is missing, then print and plot all of it."""
    print(processor.description(), flush=True)
    base = read_tree(config)["policy"] | {"kl_stop": 1e9, "on_kl_stop": "stop", "iterations": iterations}
    base |= {key: json.loads(value) for key, _, value in (text.partition("=") for text in settings)}
    inputs = line_inputs(store)
    out.parent.mkdir(parents=True, exist_ok=True)
    done = {each.key for each in collected(out) if each.points[-1]["iteration"] >= iterations}
    for gamma, kl_coef in product(gammas or [base["ptx_coef"], 0.0], kl):
        key = Key(kl_coef, gamma, items, tuple(settings))
        if key in done:
            continue
        chosen = base | {"kl_coef": kl_coef, "ptx_coef": gamma, "ptx_rows": base["ptx_rows"] if gamma else 0}

        def note(point: Point, key: Key = key) -> None:
            with out.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps({"key": [*key[:3], *key.settings], "point": point}) + "\n")

        run(PPOConfig.model_validate(chosen), inputs, items, every, threads, note)
        print(table([each for each in collected(out) if each.key == key]), flush=True)
    runs = [each for each in collected(out) if each.key.items == items]
    print(table(runs))
    plot(runs, plot_file)


if __name__ == "__main__":
    sys.exit(program(main))
