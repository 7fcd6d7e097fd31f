"""``python -m modelyard.model.plan configs/model/gpt3-175b.toml --gpus 1024 --memory-gib 80 [--json OUT]``: the plan of a run elsewhere."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from modelyard.config import complaint, load_config
from modelyard.model.plan.layout_search import Machine, PlanConfig
from modelyard.model.plan.planning import PlanError, plan, text


def main(arguments: list[str] | None = None) -> int:
    """The command; 0 with a plan, 1 with one line when nothing fits, 2 with one line when the input cannot be used."""
    fields = Machine.model_fields
    parser = argparse.ArgumentParser(prog="python -m modelyard.model.plan", description="Plan a training run that this machine cannot do.")
    parser.add_argument("config", type=Path, help="TOML: precision, tokens, batch and [model]; see configs/model")
    for name, field in fields.items():
        required = field.is_required()
        kind = int if field.annotation is int else float
        shown = field.description or ""
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=kind, required=required, default=None if required else field.default, help=shown
        )
    parser.add_argument("--json", type=Path, help="where the plan goes, as JSON")
    options = parser.parse_args(arguments)
    try:
        machine = Machine(**{name: getattr(options, name) for name in fields})
        config = load_config(PlanConfig, options.config)
        result = plan(config, machine)
        if options.json:
            options.json.write_text(result.model_dump_json(indent=1) + "\n", "utf-8")
    except PlanError as error:
        sys.stderr.write(f"plan: {error}\n")
        return 1
    except (ValueError, OSError) as error:
        sys.stderr.write(f"plan: {complaint(error)}\n")
        return 2
    sys.stdout.write(text(config, machine, result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
