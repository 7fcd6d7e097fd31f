"""``modelyard forecast``: finished small runs in a CSV file -> the loss of a larger run, with its interval and backtest.

``modelyard forecast POINTS.csv --fit 'token_multiple=10xC' --at FLOPS --at-tokens D --at-mix same`` fits L(C) = a C^b + c to
the selected runs (:mod:`modelyard.scaling.power_law`). ``--joint`` fits L(N, D) to runs of all horizons instead
(:mod:`modelyard.scaling.chinchilla`) and wants ``--at-tokens D`` and either ``--at-params N`` or ``--at FLOPS``.
``--judge column=value`` holds selected runs back and predicts them.

What would make a forecast meaningless is refused: fewer than four runs (``--allow-few``: three), several token
horizons (``--allow-mixed-horizons``) or data mixes (``--allow-changed-mix``) among the runs and the one to predict, whose own
must be said (:mod:`modelyard.scaling.target`). Left out: runs that are not finished.
"""

from __future__ import annotations

import json as json_format
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from modelyard.commands.command import say
from modelyard.commands.numbers import between
from modelyard.commands.outputs import json_option, write

if TYPE_CHECKING:
    from modelyard.scaling.target import Target

NOISE = 0.0015
"""Default noise floor: the published ladder's runs scatter by 0.11 to 0.14% (one standard deviation) around their law at one horizon."""
positive = between(0, math.inf, ends=False)
SELECTION = "COLUMN=VALUE..."
POINTS = typer.Argument(help="CSV file, one finished run a row: its FLOPs, parameters, training tokens, loss.")
FIT = typer.Option(
    metavar=SELECTION, help="Runs to use; values of one column are alternatives, several columns must all hold.", show_default=False
)
JUDGE = typer.Option(metavar=SELECTION, help="Of these runs, hold back and predict these.", show_default=False)
AT = typer.Option(metavar="FLOPS", help="Training compute of the run to predict.", callback=positive)
JOINT = typer.Option("--joint", help="Fit L(N, D) over all horizons instead of L(C) in one.")
AT_PARAMS = typer.Option(metavar="N", help="Parameters of the run to predict, counted as in the file.", callback=positive)
AT_TOKENS = typer.Option(metavar="D", help="Training tokens of the run to predict.", callback=positive)
AT_MIX = typer.Option(metavar="MIX", help="Data mix of the run to predict: 'same', or its label in the file.")
LOSS = typer.Option(metavar="NAME", help="Needed where several columns are losses.")
DEVIATION = typer.Option(help="Least relative seed-to-seed deviation of a run.", callback=positive)
FEW = typer.Option("--allow-few", help="Fit three runs exactly; there is no backtest then.")
HORIZONS = typer.Option("--allow-mixed-horizons", help="Fit or predict L(C) across token horizons.")
MIX = typer.Option("--allow-changed-mix", help="Fit or predict runs of different data.")


class Asked(NamedTuple):
    """What a forecast is asked for."""

    points: Path
    fit: list[str]
    judge: list[str]
    target: Target
    loss_column: str | None
    noise: float
    seed: int
    allow_few: bool
    joint: bool


def forecast(
    points: Annotated[Path, POINTS],
    fit: Annotated[list[str], FIT] = [],
    judge: Annotated[list[str], JUDGE] = [],
    at: Annotated[float | None, AT] = None,
    joint: Annotated[bool, JOINT] = False,
    at_params: Annotated[float | None, AT_PARAMS] = None,
    at_tokens: Annotated[float | None, AT_TOKENS] = None,
    at_mix: Annotated[str | None, AT_MIX] = None,
    json: Annotated[Path | None, json_option("Where the forecast goes, as JSON.")] = None,
    loss_column: Annotated[str | None, LOSS] = None,
    noise: Annotated[float, DEVIATION] = NOISE,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
    allow_few: Annotated[bool, FEW] = False,
    allow_mixed_horizons: Annotated[bool, HORIZONS] = False,
    allow_changed_mix: Annotated[bool, MIX] = False,
) -> None:
    """Forecast the loss of a larger run from small ones, with an interval and a backtest.

    L(C) needs --at FLOPS and --at-tokens D; L(N, D) (--joint) needs --at-tokens D and either --at-params N or --at FLOPS;
    both want --at-mix. Refused unless allowed: fewer than four runs, several token horizons in L(C), a changed data mix.
    """
    from modelyard.commands import forecasting
    from modelyard.scaling.target import Target

    wanted = Target(at, at_params, at_tokens, at_mix, allow_mixed_horizons, allow_changed_mix)
    asked = Asked(points, fit, judge, wanted, loss_column, noise, seed, allow_few, joint)
    chosen = forecasting.choose(asked)
    result, text = (forecasting.joint if joint else forecasting.in_compute)(chosen, asked)
    if json:
        write(json, json_format.dumps(result, indent=1) + "\n")
    say("".join(f"warning: {line}\n" for line in result["warnings"]) + text, nl=False)
