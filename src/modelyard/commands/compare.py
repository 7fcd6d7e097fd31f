"""``modelyard compare``: is one model worse than another on the same items?

The tests are :mod:`modelyard.release.compare`'s, the files :mod:`modelyard.formats.records`'.
"""

from __future__ import annotations

import json as json_format
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modelyard.commands.command import say
from modelyard.commands.numbers import at_least, between
from modelyard.commands.outputs import json_option, write
from modelyard.commands.tables import table
from modelyard.exit_codes import BLOCK, DONE, HOLD

if TYPE_CHECKING:
    from modelyard.release.compare import Comparison

SHOWN_FLIPS = 20
HEAD = ("benchmark", "n", "old", "new", "difference [95%]", "p (Holm)", "detectable", "+/-", "verdict")
ALPHA = typer.Option(help="Level after Holm's correction.", callback=between(0, 1, ends=False))
MIN_ITEMS = typer.Option(help="Fewest items for a verdict.", callback=at_least(1))
TOLERANCE = typer.Option(help="Difference of mean score, loss or gain, that is called same.", callback=at_least(0))


def compare(
    old: Annotated[Path, typer.Argument(help="Records of the model to compare with.")],
    new: Annotated[Path, typer.Argument(help="Records of the model in question.")],
    json: Annotated[Path | None, json_option("Where the comparison goes, with every flipped item.")] = None,
    alpha: Annotated[float, ALPHA] = 0.05,
    min_items: Annotated[int, MIN_ITEMS] = 30,
    tolerance: Annotated[float, TOLERANCE] = 0.0,
    common: Annotated[bool, typer.Option("--common", help="Compare on the items that both files have.")] = False,
    gate: Annotated[bool, typer.Option("--gate", help="Exit code 4 where a benchmark is worse, 3 where one has too few items.")] = False,
) -> int:
    """Compare two files of per-item records by paired tests. Exit code 0 whatever was found, but for --gate.

    A file is JSON lines (.gz allowed), one item a line, of this or of another tool. Of the keys of a row the
    first one present counts:

    - item, required: item, item_id, id, doc_id, task_id, question_id
    - score, required: score (a number); correct, is_correct, passed, acc, exact_match (true/false or 0 to 1)
    - or an answer: choice, prediction, parsed, output
    - and the right one: target, gold, label, correct, answer
    - benchmark: benchmark, task, dataset; "benchmark" where there is none
    - identity: benchmark_id; results of different ids are never compared

    Read as their tools write them: samples of lm-evaluation-harness (each filter by itself), logs of inspect_ai
    (.eval, .json; each scorer by itself), per_instance_stats.json of HELM, and OpenCompass's results with details.
    """
    from modelyard.formats import records
    from modelyard.release.compare import Grouped, in_common
    from modelyard.release.compare import compare as compare_records

    sides: tuple[Grouped, Grouped] = (records.read_records(old), records.read_records(new))
    before, after = in_common(*sides) if common else sides
    if not before:
        raise ValueError(f"no item is in both {old} and {new}")
    margins = dict.fromkeys(before, tolerance)
    found = compare_records(before, after, alpha=alpha, min_items=min_items, tolerance=margins)
    if json:
        write(json, json_format.dumps([one.model_dump() for one in found], indent=1))
    say(table(HEAD, [row(one) for one in found]) + "".join(map(flips, found)), nl=False)
    return gated(found) if gate else DONE


def gated(found: Sequence[Comparison]) -> int:
    """The exit code of a gate: what is worse blocks, what cannot be told holds."""
    verdicts = {one.verdict for one in found}
    return BLOCK if "worse" in verdicts else HOLD if "not enough items" in verdicts else DONE


def row(comparison: Comparison) -> tuple[str, ...]:
    """A benchmark's cells."""
    one = comparison
    return (
        one.benchmark,
        str(one.n),
        f"{one.old:.4f}",
        f"{one.new:.4f}",
        f"{one.difference:+.4f} [{one.low:+.4f}, {one.high:+.4f}]",
        f"{one.p_holm:.4f}",
        "-" if one.detectable is None else f"{one.detectable:.4f}",
        f"{len(one.gained)}/{len(one.lost)}",
        one.verdict,
    )


def flips(comparison: Comparison) -> str:
    """The items whose score changed, as lines of text."""
    lines = ""
    for sign, items in (("+", comparison.gained), ("-", comparison.lost)):
        if items:
            more = f" and {len(items) - SHOWN_FLIPS} more" if len(items) > SHOWN_FLIPS else ""
            lines += f"  {comparison.benchmark} {sign}{len(items)}: {', '.join(items[:SHOWN_FLIPS])}{more}\n"
    return lines
