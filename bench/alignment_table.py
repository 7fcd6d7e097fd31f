"""What ``bench.alignment`` makes of its lines: a row each, the table, and win rate and alignment tax over the distance from the SFT model."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.table import Table

from bench.alignment_compute import computed
from modelyard.formats.results import Results, read_results
from modelyard.release.compare import Comparison
from modelyard.release.decision import read_decision
from modelyard.release.gates.behaviour import alignment_tax_gate
from modelyard.release.limits import ReleaseConfig
from modelyard.stats.estimate import Estimate
from modelyard.store.manifest import Artifact
from tasks.line import Line
from tasks.stage import Name
from tasks.stage_memory import base_model, peak_bytes

OWN: tuple[Name, ...] = ("feedme", "sft_start", "start_selection", "rbrm", "reference", "policy")
"""Stages that a way to align needs beyond what all have in common."""
SIDES = ("unsafe_answered", "over_refusal")
BASE_ROW = "SFT"
"""The way of the model that all start from."""


class Row(NamedTuple):
    """One way at one setting."""

    way: str
    setting: str
    estimates: Mapping[str, Estimate]
    """``kl`` (nats a sequence), ``win_rate`` (over SFT, by the gold reward model), ``reward`` (the reward model's score), ``calibration_error``,
    and ``unsafe_answered`` and ``over_refusal`` where the suite asks for them."""
    tax: Mapping[str, float] = {}
    """Benchmark -> mean score less the base model's."""
    compute: float = math.nan
    """FLOPs of the stages that this way alone needs (:mod:`bench.alignment_compute`)."""
    seconds: float = math.nan
    """Of the stages that this way alone needs."""
    memory: int | None = None
    """Planned bytes of a rank at their peak."""
    verdict: str = ""
    gates: Mapping[str, str] = {}
    """Gate -> what it said, where it did not pass."""

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        estimates = {key: estimate.plain() for key, estimate in self.estimates.items()}
        costs = {key: None if math.isnan(cost) else cost for key, cost in (("compute", self.compute), ("seconds", self.seconds))}
        return {**self._asdict(), **costs, "estimates": estimates, "tax": dict(self.tax), "gates": dict(self.gates)}


def row_of(line: Line, release: ReleaseConfig, way: str, setting: str) -> Row:
    """The row of what a line released, or of its SFT model, about which nobody decides.

    Raises:
        ValueError: a reward model is not clearly above chance.
    """
    store = line.place.store
    for name in ("reward", "gold"):
        require_above_chance(line.artifact(name))
    results = read_results(store.fetch(line.artifact("results")))
    if way == BASE_ROW:
        return Row(way, setting, measured(results, "sft", release), taxed(results, "sft", release))
    built = [line.built[name].artifact for name in OWN if line.has(name)]
    shape = base_model(line.config)
    sizes = [size for one in built if (size := peak_bytes(one.name, line.config, shape)) is not None]
    decision = read_decision(store.fetch(line.artifact("decision")))
    estimates = dict(measured(results, "policy", release))
    if (reward := reward_of(built)) is not None:
        estimates["reward"] = reward
    gates: dict[str, str] = {gate.name: gate.reason for gate in decision.gates if gate.verdict != "PROMOTE"}
    tax = {one.benchmark: one.difference for one in decision.tax}
    seconds, memory = sum(one.seconds for one in built), max(sizes, default=None)
    return Row(way, setting, estimates, tax, computed(line), seconds, memory, decision.verdict, gates)


def require_above_chance(model: Artifact) -> None:
    """Raise ValueError unless the interval of the model's accuracy on held-out pairs lies above a half."""
    low, value = (model.metrics[f"{model.name}/test/accuracy{end}"] for end in ("_low", ""))
    if low <= 0.5:
        raise ValueError(
            f"{model.name}: orders {value:.1%} of held-out pairs rightly, at least {low:.1%}: what it says of policies is chance"
        )


def measured(results: Results, model: str, release: ReleaseConfig) -> dict[str, Estimate]:
    """The estimates of a model that a row shows."""
    prefix = f"evals/{model}"
    wanted = {"kl": f"{prefix}/{release.preference}/kl_to_sft", "win_rate": f"{prefix}/{release.preference}/win_rate_over_sft"}
    if release.calibration:
        wanted["calibration_error"] = f"{prefix}/{release.calibration[0]}/calibration_error"
    wanted |= {side: f"{prefix}/xstest/{side}" for side in SIDES}
    return {name: results.metrics[key] for name, key in wanted.items() if key in results.metrics}


def taxed(results: Results, model: str, release: ReleaseConfig) -> dict[str, float]:
    """What a model gained or lost against the base model, as the gate compares them."""
    alone = results._replace(
        records={"base": results.of("base"), "policy": results.of(model)},
        weights={"base": results.weights["base"], "policy": results.weights[model]},
    )
    found: list[Comparison] = []
    alignment_tax_gate(alone, release, found)
    return {one.benchmark: one.difference for one in found}


def reward_of(built: Sequence[Artifact]) -> Estimate | None:
    """The reward model's mean score of the finished policy's samples; None without a policy."""
    found = next((one.metrics for one in built if one.name == "policy"), None)
    key = "policy/objective/reward"
    return Estimate(found[key], found[f"{key}_low"], found[f"{key}_high"], int(found[f"{key}_n"])) if found else None


def spelled(estimate: Estimate | None, form: Callable[[float], str]) -> str:
    """A value with its interval; a dash for what was not measured."""
    if estimate is None:
        return "-"
    interval = f" [{form(estimate.low)}, {form(estimate.high)}]" if estimate.n else ""
    return form(estimate.value) + interval


def table(rows: Sequence[Row]) -> Table:
    """All rows as a terminal shows them; of the alignment tax the worst benchmark."""
    shown = Table(title="ways to align one model", title_justify="left")
    heads = ("way", "setting", "KL, nats", "wins over SFT", "reward", "worst tax", "calibration error", "unsafe answered", "safe refused")
    for head in (*heads, "TFLOP", "seconds", "memory", "gates"):
        shown.add_column(head, overflow="fold")
    for row in rows:
        found = row.estimates.get
        worst = min(row.tax.items(), key=lambda item: item[1], default=None)
        shown.add_row(
            row.way,
            row.setting,
            spelled(found("kl"), "{:.2f}".format),
            spelled(found("win_rate"), "{:.1%}".format),
            spelled(found("reward"), "{:+.2f}".format),
            f"{worst[0]} {worst[1]:+.4f}" if worst else "-",
            spelled(found("calibration_error"), "{:.3f}".format),
            *(spelled(found(side), "{:.1%}".format) for side in SIDES),
            "-" if math.isnan(row.compute) else tera(row.compute),
            "-" if math.isnan(row.seconds) else f"{row.seconds:.0f}",
            "-" if row.memory is None else f"{row.memory / 2**20:,.0f} MiB",
            " ".join((row.verdict or "-", *(row.gates and (f"({', '.join(row.gates)})",)))),
        )
    return shown


def tera(flops: float) -> str:
    """FLOPs in TFLOP, three digits of them at least."""
    return f"{flops / 1e12:,.0f}" if flops >= 1e14 else f"{flops / 1e12:.3g}"


def spread(rows: Sequence[Row]) -> str:
    """How equal the rows' compute is; "" without two to compare."""
    known = sorted((row.compute, f"{row.way}, {row.setting}") for row in rows if not math.isnan(row.compute))
    if len(known) < 2:
        return ""
    (least, light), (most, heavy) = known[0], known[-1]
    return f"compute from {tera(least)} TFLOP ({light}) to {tera(most)} ({heavy}): {most / least:.1f} times as much"


def plot(rows: Sequence[Row], path: Path) -> None:
    """Win rate over the square root of KL (Gao et al., arXiv:2210.10760), and the worst benchmark's tax, a line a way."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    from modelyard.page_style import FAINT, PLOT

    pyplot.rcParams.update(PLOT)
    figure, panels = pyplot.subplots(1, 2, figsize=(12, 4.8), constrained_layout=True)
    colours = pyplot.get_cmap("tab10")
    for number, way in enumerate(dict.fromkeys(row.way for row in rows)):
        own = sorted((row for row in rows if row.way == way and "kl" in row.estimates), key=lambda row: row.estimates["kl"].value)
        if not own:
            continue
        across = [math.sqrt(max(0.0, row.estimates["kl"].value)) for row in own]
        wins = [row.estimates["win_rate"] for row in own]
        error = [[one.value - one.low for one in wins], [one.high - one.value for one in wins]]
        panels[0].errorbar(across, [one.value for one in wins], error, marker="o", capsize=2, color=colours(number), label=way)
        if all(row.tax for row in own):
            panels[1].plot(across, [min(row.tax.values()) for row in own], marker="o", color=colours(number), label=way)
    panels[0].axhline(0.5, color=FAINT, linewidth=0.8)
    panels[0].set_ylabel("win rate over SFT by the gold reward model")
    panels[0].legend(fontsize=8)
    panels[1].axhline(0.0, color=FAINT, linewidth=0.8)
    panels[1].set_ylabel("most that a benchmark lost against the base model")
    for panel in panels:
        panel.set_xlabel("square root of KL(policy || SFT) of a completion, nats")
    figure.savefig(path, dpi=110)
