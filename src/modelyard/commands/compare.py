"""``python -m modelyard.commands.compare OLD.jsonl NEW.jsonl --json OUT``: is NEW worse than OLD on the same items?

The tests are :mod:`modelyard.release.compare`'s, the files :mod:`modelyard.formats.records`'.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from modelyard.arguments import at_least, between
from modelyard.formats import records
from modelyard.release.compare import Comparison, Grouped, compare, in_common

SHOWN_FLIPS = 20


def table(comparisons: Sequence[Comparison]) -> str:
    """The comparison as lines of text, one a benchmark."""
    head = ("benchmark", "n", "old", "new", "difference [95%]", "p (Holm)", "detectable", "+/-", "verdict")
    rows = [
        (
            c.benchmark,
            str(c.n),
            f"{c.old:.4f}",
            f"{c.new:.4f}",
            f"{c.difference:+.4f} [{c.low:+.4f}, {c.high:+.4f}]",
            f"{c.p_holm:.4f}",
            "-" if c.detectable is None else f"{c.detectable:.4f}",
            f"{len(c.gained)}/{len(c.lost)}",
            c.verdict,
        )
        for c in comparisons
    ]
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    return "".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() + "\n" for row in [head, *rows])


def flips(comparison: Comparison) -> str:
    """The items whose score changed, as lines of text."""
    lines = ""
    for sign, items in (("+", comparison.gained), ("-", comparison.lost)):
        if items:
            more = f" and {len(items) - SHOWN_FLIPS} more" if len(items) > SHOWN_FLIPS else ""
            lines += f"  {comparison.benchmark} {sign}{len(items)}: {', '.join(items[:SHOWN_FLIPS])}{more}\n"
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 0 when it compared, whatever it found, 2 with one line for input that cannot be compared."""
    parser = argparse.ArgumentParser(
        prog="python -m modelyard.commands.compare",
        description="Paired comparison of two files of per-item records.",
        epilog=records.__doc__,
    )
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--json", type=Path, help="where the comparison goes, with every flipped item")
    parser.add_argument("--alpha", type=between(0, 1, ends=False), default=0.05, help="level after Holm's correction (default 0.05)")
    parser.add_argument("--min-items", type=at_least(1, int), default=30, help="fewest items for a verdict (default 30)")
    parser.add_argument(
        "--tolerance", type=at_least(0), default=0.0, help="difference of mean score, loss or gain, that is called same (default 0)"
    )
    parser.add_argument("--common", action="store_true", help="compare on the items and benchmarks that both files have")
    options = parser.parse_args(arguments)
    try:
        sides: tuple[Grouped, Grouped] = (records.read_records(options.old), records.read_records(options.new))
        old, new = in_common(*sides) if options.common else sides
        if not old:
            raise ValueError(f"no item is in both {options.old} and {options.new}")
        tolerance = dict.fromkeys(old, options.tolerance)
        result = compare(old, new, alpha=options.alpha, min_items=options.min_items, tolerance=tolerance)
        if options.json:
            options.json.parent.mkdir(parents=True, exist_ok=True)
            options.json.write_text(json.dumps([c.model_dump() for c in result], indent=1), "utf-8")
    except (ValueError, OSError) as error:
        sys.stderr.write(f"compare: {error}\n")
        return 2
    shown = table(result) + "".join(flips(comparison) for comparison in result)
    sys.stdout.write(shown.encode("utf-8", "backslashreplace").decode())  # ids may hold half a surrogate pair
    return 0


if __name__ == "__main__":
    sys.exit(main())
