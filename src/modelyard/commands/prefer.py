"""``modelyard prefer``: a judge on pairs of responses, and how far its word can be trusted.

PAIRS: one file of pairs, as LLMBar (``input``, ``output_1``, ``output_2``, ``label``), RewardBench or HH-RLHF (``chosen``,
``rejected``) publish them; or the records of two models on one benchmark, of which the first's win rate is asked. JUDGE as
of ``modelyard judge``.
"""

from __future__ import annotations

import json as json_format
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer

from modelyard.commands.command import say
from modelyard.commands.judge import CHOOSE_BY, JUDGE, REPLY_TOKENS, open_judge
from modelyard.commands.numbers import at_least
from modelyard.commands.outputs import json_option, write
from modelyard.commands.tables import table

if TYPE_CHECKING:
    from modelyard.judges.pairwise import Pair, PairResult, Preference
    from modelyard.stats.estimate import Estimate

PAIRS = typer.Argument(metavar="PAIRS | OURS THEIRS", help="A file of pairs, or the records of two models on one benchmark.")
ORDERS = 2
T = TypeVar("T")
HEAD = ("", "value", "95% interval", "n")


def prefer(
    pairs: Annotated[list[Path], PAIRS],
    judge: Annotated[str, JUDGE],
    calibrate: Annotated[Literal["none", "nothing"], typer.Option(help="Whether what it answers about nothing is divided out.")] = "none",
    chat: Annotated[bool, typer.Option("--chat", help="Ask in the judge's chat template.")] = False,
    choose_by: Annotated[Literal["likelihood", "letter"], CHOOSE_BY] = "likelihood",
    max_new_tokens: Annotated[int, REPLY_TOKENS] = 16,
    limit: Annotated[int | None, typer.Option(help="At most N pairs, a seeded sample.", callback=at_least(1))] = None,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 2,
    seed: Annotated[int, typer.Option(help="Of the sample and the bootstrap.")] = 0,
    json: Annotated[Path | None, json_option("Where the numbers and every pair's answer go, as JSON.")] = None,
) -> None:
    """Ask a judge which of two responses is better, in both positions: win rate, position bias, contradictions, agreement with people."""
    from modelyard.judges.judge import Asking, Judge
    from modelyard.judges.pairwise import judged

    if len(pairs) > 2:
        raise ValueError(f"{pairs[2]}: one file of pairs, or the records of two models, and not {len(pairs)} files")
    asked = sample(read(pairs[0]) if len(pairs) == 1 else of_models(*pairs), limit, seed)
    asking = Asking(orders=ORDERS, calibrate=calibrate, shots=0, chat=chat, choose_by=choose_by, max_new_tokens=max_new_tokens)
    opened = Judge(open_judge(judge, threads), asking)
    said, found = judged(opened, asked, seed)
    say(f"{len(asked)} pairs, judge {opened.identity}")
    say(table(HEAD, rows(found, models=len(pairs) == 2), right=HEAD[1:]), nl=False)
    by_group = grouped(asked, said)
    if len(by_group) > 1:
        say(table(("group", *HEAD[1:]), [(name, *cells(one)) for name, one in by_group.items()], right=HEAD[1:]), nl=False)
    if json:
        write(json, json_format.dumps(answer(asked, said, found, by_group), indent=1, ensure_ascii=False))


def read(path: Path) -> list[Pair]:
    """The pairs of a file: JSON (a list, or lines), CSV or Parquet. Raises ValueError naming file and line."""
    from modelyard.evals.catalog.rows import lines_of
    from modelyard.formats import json_file
    from modelyard.formats.json_file import Line
    from modelyard.judges.pairwise import read_pair

    if path.suffix == ".json" and isinstance(listed := json_file.load(path), list):
        lines = [Line(f"{path}: entry {number}", row if isinstance(row, dict) else {}) for number, row in enumerate(listed, 1)]
    else:
        lines = lines_of(path)
    if not lines:
        raise ValueError(f"{path}: no pairs")
    return [read_pair(line, number) for number, line in enumerate(lines, 1)]


def of_models(ours: Path, theirs: Path) -> list[Pair]:
    """Outputs of two models on the same items, ours first. Raises ValueError where they share none."""
    from modelyard.formats.records import read_records
    from modelyard.judges.pairwise import Pair

    said = [
        {(name, row["item"], row.get("sample", 0)): row for name, some in read_records(path).items() for row in some}
        for path in (ours, theirs)
    ]
    shared = [key for key in said[0] if key in said[1] and "output" in said[0][key] and "output" in said[1][key]]
    if not shared:
        raise ValueError(f"{theirs}: has no item with an output that {ours} has too")
    return [
        Pair("/".join(map(str, key[1:])), str(said[0][key].get("prompt", "")), str(said[0][key]["output"]), str(said[1][key]["output"]))
        for key in shared
    ]


def sample(pairs: list[T], limit: int | None, seed: int) -> list[T]:
    """At most ``limit`` of them, in order."""
    import numpy as np

    if limit is None or limit >= len(pairs):
        return pairs
    return [pairs[place] for place in sorted(np.random.default_rng(seed).permutation(len(pairs))[:limit].tolist())]


def rows(found: PairResult, models: bool) -> list[tuple[str, ...]]:
    """One row a number."""
    made: list[tuple[str, ...]] = [("the first model wins", *cells(found.wins))] if models else []
    made.append(("contradicts itself when positions are swapped", *cells(found.contradicted)))
    made.append(("takes what stands in front (0.5: no bias)", *cells(found.front)))
    if found.no_letter:
        made.append(("replies without a letter", *cells(found.no_letter)))
    if one := found.agreement:
        made.append(("agrees with people", f"{one.accuracy:.3f}", f"[{one.accuracy_low:.3f}, {one.accuracy_high:.3f}]", str(one.n)))
        made.append(("kappa", f"{one.kappa:.3f}", f"[{one.kappa_low:.3f}, {one.kappa_high:.3f}]", str(one.n)))
    if found.consistent:
        made.append(("agrees where it does not contradict itself", *cells(found.consistent)))
    return made


def cells(one: Estimate) -> tuple[str, str, str]:
    """Value, interval and number."""
    return f"{one.value:.3f}", f"[{one.low:.3f}, {one.high:.3f}]", str(one.n)


def grouped(pairs: Sequence[Pair], said: Sequence[Preference]) -> dict[str, Estimate]:
    """Agreement with people in each group."""
    from modelyard.stats import ties
    from modelyard.stats.estimate import proportion

    right: dict[str, list[float]] = {}
    for pair, one in zip(pairs, said, strict=True):
        if pair.better >= 0 and pair.group:
            win = ties.preferred(one.first, 1 - one.first, "fp32")
            right.setdefault(pair.group, []).append(win if pair.better == 0 else 1 - win)
    return {name: proportion(sum(some), len(some)) for name, some in right.items()}


def answer(pairs: Sequence[Pair], said: Sequence[Preference], found: PairResult, by_group: dict[str, Estimate]) -> dict[str, Any]:
    """Everything as JSON."""
    numbers = {name: one.plain() for name in ("wins", "contradicted", "front", "consistent", "no_letter") if (one := getattr(found, name))}
    people = {"agreement": found.agreement.model_dump()} if found.agreement else {}
    each = [{"id": pair.id, "group": pair.group, "better": pair.better, **one._asdict()} for pair, one in zip(pairs, said, strict=True)]
    return {**numbers, **people, "groups": {name: one.plain() for name, one in by_group.items()}, "pairs": each}
