"""``python -m modelyard.commands.ledger [--store URL] [--json OUT]``: all forecasts of a store, what came of them, and the errors."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from modelyard.config import complaint
from modelyard.execution import ExecutionConfig
from modelyard.scaling.ledger import Entry, entries
from modelyard.store.artifacts import Store


def page(found: Sequence[Entry]) -> str:
    """The ledger as text, and its summary."""
    lines = [f"{'forecast':26} {'sealed (UTC)':17} {'FLOPs':>9} {'reach':>6} {'predicted [95%]':>26} {'measured':>9} {'error':>8}  seal"]
    for one in found:
        sealed = time.strftime("%Y-%m-%d %H:%M", time.gmtime(one.sealed_at)) if one.sealed_at else "not recorded"
        flops = f"{one.at_compute:.3g}" if one.at_compute else "?"
        reach = f"{one.reach:.0f}x" if one.reach else "?"
        interval = f"{one.predicted:.4f} [{one.low:.4f}, {one.high:.4f}]"
        measured = "-" if one.measured is None else f"{one.measured:.4f}"
        error = "-" if one.error is None else f"{one.error:+.2%}"
        seal = {None: "-" if one.base is None else "unknown", True: "before the run", False: "AFTER THE RUN BEGAN"}[one.sealed_before]
        lines.append(f"{one.forecast:26} {sealed:17} {flops:>9} {reach:>6} {interval:>26} {measured:>9} {error:>8}  {seal}")
    judged = [one for one in found if one.error is not None and one.sealed_before]
    if judged:
        typical = statistics.median(abs(one.error or 0.0) for one in judged)
        lines.append(f"{len(judged)} judged: median error {typical:.2%}, {sum(bool(one.inside) for one in judged)} inside their interval")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 2 when the store cannot be read."""
    parser = argparse.ArgumentParser(
        prog="python -m modelyard.commands.ledger", description="All forecasts, what came of them, and the errors."
    )
    parser.add_argument("--store", default=ExecutionConfig().store, help="URL of the artifact store (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="where the entries go as JSON")
    options = parser.parse_args(arguments)
    try:
        found = entries(Store(options.store, ExecutionConfig().scratch))
        if options.json:
            rows = [{**entry._asdict(), "error": entry.error, "inside": entry.inside} for entry in found]
            options.json.write_text(json.dumps(rows, indent=1) + "\n", "utf-8")
    except (ValueError, OSError) as error:
        sys.stderr.write(f"ledger: {complaint(error)}\n")
        return 2
    sys.stdout.write(page(found) if found else f"no forecasts in {options.store}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
