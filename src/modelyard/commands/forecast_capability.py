"""``modelyard forecast capability``: how often small models pass the problems of a benchmark -> how often a larger one will.

``POINTS.csv`` has one model a row: its training FLOPs and, in the column ``records``, a file of per-item records with
several samples an item (``modelyard eval`` with ``--samples``, or another tool's, :mod:`modelyard.formats.records`), or with
the probability of the right answer (``values.nats``, as ``modelyard eval`` records it for multiple choice and last words), which
is the pass rate without samples. The law is -E[log pass rate] = alpha C^-k + c, a bucket of like problems at a time (GPT-4
report, section 3.2, where c is 0). A bucket whose fall steepens over the small models follows no such law, nor does a harder
one, nor one that does not fall yet; that is said before the large model is trained. Several data mixes or token horizons are
refused as by ``modelyard forecast``.
Left out: benchmarks that are not passed or failed.
"""

from __future__ import annotations

import json as json_format
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from modelyard.commands.command import say
from modelyard.commands.forecast import AT, AT_MIX, AT_TOKENS, FIT, HORIZONS, JUDGE, MIX
from modelyard.commands.numbers import at_least
from modelyard.commands.outputs import json_option, write
from modelyard.commands.tables import table

if TYPE_CHECKING:
    from modelyard.scaling.capability import Bucket, CapabilityForecast, Tried

RECORDS = "records"
"""Column of the files."""
HEAD = ("bucket", "problems", "unsolved", "k", "c", "forecast [95%]", "pass rate", "measured", "")
POINTS = typer.Argument(help="CSV file, one model a row: its FLOPs and, under 'records', the file of its per-item records.")
BENCHMARK = typer.Option(metavar="NAME", help="Needed where the files hold several.")
BUCKETS = typer.Option(help="Of equal size, by how the small models do.", callback=at_least(1))
DROPPED = typer.Option(help="Hardest problems left out.", callback=at_least(0))


def forecast_capability(
    points: Annotated[Path, POINTS],
    fit: Annotated[list[str], FIT] = [],
    judge: Annotated[list[str], JUDGE] = [],
    at: Annotated[float | None, AT] = None,
    at_tokens: Annotated[float | None, AT_TOKENS] = None,
    at_mix: Annotated[str | None, AT_MIX] = None,
    benchmark: Annotated[str | None, BENCHMARK] = None,
    buckets: Annotated[int, BUCKETS] = 6,
    dropped: Annotated[int, DROPPED] = 0,
    json: Annotated[Path | None, json_option("Where the forecasts go, as JSON.")] = None,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
    allow_mixed_horizons: Annotated[bool, HORIZONS] = False,
    allow_changed_mix: Annotated[bool, MIX] = False,
) -> None:
    """Forecast how often a larger model passes a benchmark's problems, from small ones, bucket by bucket.

    Wants --at FLOPS, --at-tokens D and --at-mix, or --judge COLUMN=VALUE for one model of the file that is held back and predicted.
    """
    from modelyard.scaling import capability, runs, target

    whole = runs.read_table(points)
    picked = runs.select(whole, [runs.parse_selection(text) for text in fit])
    held = runs.select(picked, [runs.parse_selection(text) for text in judge]).rows if judge else ()
    if len(held) > 1 or (at is None) is not bool(held):
        raise ValueError(f"{points}: say either --at FLOPS or a --judge that holds back one model; it holds back {len(held)}")
    back = held[0].line if held else None
    fitted = picked._replace(rows=tuple(row for row in picked.rows if row.line != back))
    wanted = target.Target(at, None, at_tokens, at_mix, allow_mixed_horizons, allow_changed_mix)
    warnings = target.comparable(picked, fitted, wanted)
    asked = {row.line: read(picked, row, benchmark) for row in picked.rows}
    require_alike(points, [one.identity for one in asked.values()], [one.tried for one in asked.values()])
    small = [one.tried for line, one in asked.items() if line != back]
    large = asked[back].tried if back else None
    try:
        split = capability.buckets(small, buckets, dropped)
        found = capability.forecast(small, split, large.compute if large else at or 0.0, seed)
    except ValueError as error:
        raise ValueError(f"{points}: {error}") from None
    rows = [row_of(one, split[one.bucket], large) for one in found]
    if json:
        write(json, json_format.dumps([one._asdict() | row for one, row in zip(found, rows, strict=True)], indent=1) + "\n")
    say("".join(f"warning: {line}\n" for line in warnings) + page(found, split, rows), nl=False)


class Asked(NamedTuple):
    """How a model did, and what it was asked."""

    tried: Tried
    identity: str
    """The benchmark's id; "" where the file says none."""


def require_alike(points: Path, identities: Sequence[str], models: Sequence[Tried]) -> None:
    """Raise ValueError unless all models were asked the same problems in the same way."""
    if len(set(identities)) > 1:
        raise ValueError(f"{points}: its models were asked in different ways (benchmark ids {', '.join(sorted(set(identities)))})")
    if other := next((one for one in models if one.rates.keys() != models[0].rates.keys()), None):
        odd = sorted(other.rates.keys() ^ models[0].rates.keys())[0]
        raise ValueError(f"{points}: its models tried different problems; not all have {odd}")


def read(table: Any, row: Any, benchmark: str | None) -> Asked:
    """How a row's model did on the benchmark. Raises ValueError naming file, line or item."""
    from modelyard.formats.records import read_records
    from modelyard.scaling import capability, runs

    column = runs.required(table, (RECORDS,), "the files of records")
    file = table.path.parent / row.cells[column]
    there = read_records(file)
    name = benchmark or next(iter(there))
    if name not in there or (benchmark is None and len(there) > 1):
        raise ValueError(f"{file}: holds {', '.join(there)}; name one with --benchmark")
    compute = table.number(row, runs.required(table, runs.COMPUTE, "training compute"))
    try:
        return Asked(capability.tried(there[name], compute), str(there[name][0].get("benchmark_id") or ""))
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None


def row_of(one: CapabilityForecast, bucket: Bucket, large: Tried | None) -> dict[str, Any]:
    """What is said of a forecast besides itself."""
    from modelyard.scaling.capability import mean_log_failure

    said: dict[str, Any] = {"unsolved": len(bucket.unsolved), "objection": one.objection}
    solved = [problem for problem in one.problems if large.rates[problem]] if large else []
    if large and solved:
        measured = mean_log_failure(large, solved)
        said |= {"measured": measured, "inside": one.low <= measured <= one.high, "never": len(one.problems) - len(solved)}
    return said


def page(found: Sequence[CapabilityForecast], split: Sequence[Bucket], rows: Sequence[dict[str, Any]]) -> str:
    """The forecasts as text, and what is not forecast."""
    cells = []
    for one, row in zip(found, rows, strict=True):
        measured = f"{row['measured']:.3f}, {'inside' if row['inside'] else 'outside'}" if "measured" in row else "-"
        interval = f"{one.prediction:.3f} [{one.low:.3f}, {one.high:.3f}]"
        name = f"{one.bucket + 1}{' (easiest)' if not one.bucket else ''}"
        law = "no law" if one.objection else ""
        counts = (str(len(one.problems)), str(row["unsolved"]))
        cells.append((name, *counts, f"{one.k:.3f}", f"{one.c:.3f}", interval, f"{one.pass_rate:.1%}", measured, law))
    done = {one.bucket for one in found}
    left = [
        f"bucket {number + 1}: {len(bucket.problems)} problems that every small model solves ({len(bucket.unsolved)} others): no forecast\n"
        for number, bucket in enumerate(split)
        if number not in done
    ]
    objections = [f"bucket {one.bucket + 1}: {one.objection}\n" for one in found if one.objection]
    whole = table(HEAD, cells, right=HEAD[1:-1]) if cells else ""
    return "".join([whole, *left, *objections])
