"""Where the models are that a line asks and did not make: what the environment names in MLflow's registry becomes a directory.

``MODELYARD_TEACHER`` and ``MODELYARD_JUDGE`` may hold ``models:/NAME@ALIAS``; the ranks that ask know directories and servers only. What an alias
names moves, and the config holds the hash of the weights, so another version than was meant is refused. Left out: ranks on other machines that share
no disk with this one; there the variable names a directory of theirs, or a server.
"""

from __future__ import annotations

import os
from pathlib import Path

from modelyard.adapters.home import home
from modelyard.adapters.mlflow.model_source import local_directory
from modelyard.config import Config
from modelyard.execution import ExecutionConfig
from modelyard.formats import tokenizer_files
from modelyard.judges.open_judge import REGISTERED, AskedModel, address, require_found, require_weights
from modelyard.model.encoder import Encoder
from modelyard.model.model_directory import weights_at
from modelyard.posttrain.policy.config import OPDConfig, RolloutsConfig
from tasks.line import Line
from tasks.line_config import LineConfig
from tasks.missing import require_sampler, tables, within
from tasks.outlook import looked_up


def fetch_asked(config: LineConfig) -> None:
    """Fetch the registered models that the line asks, and let the environment name their directories from here on.

    Raises:
        ValueError: the registry has no such version, or is not there, or the version has other weights than the config says.
    """
    asked = {table.variable: table for table in tables(config) if isinstance(table, AskedModel) and table.kind == "directory"}
    for variable, table in sorted(asked.items()):
        where = os.environ.get(variable, "")
        if where.startswith(REGISTERED):
            directory = local_directory(where, home() / "fetched" / "models").absolute()
            require_weights(table, directory, weights_at(directory))  # now, not after an hour of training
            os.environ[variable] = str(directory)
        elif where:  # a line whose stages the store has needs none
            require_found(table)


def require_asked(config: LineConfig) -> None:
    """Raise ValueError where a stage that is to be built asks a model of which the environment does not say where it is, or draws samples by a
    program that is not here: before anything is trained. A line whose stages the store has needs neither.
    """
    asks = [table for table in tables(config) if isinstance(table, AskedModel | RolloutsConfig)]
    if not any(_lacks(table, config.execution) for table in asks):
        return
    for name, _, cached in looked_up(Line(config)):
        for table in within(None if cached else config.of(name)):
            if lacking := _lacks(table, config.execution):
                raise ValueError(f"{name}: {lacking}")


def require_teachers_vocabulary(line: Line) -> None:
    """Raise ValueError where the policy, if it is to be built, is to learn from a teacher whose tokens are not the line's: before a model is trained.

    A teacher that only the ranks elsewhere see is left to them, as is one that reads images, whose token a projector brings.
    """
    policy = line.config.of("policy")
    if not isinstance(policy, OPDConfig) or line.config.of("projector") is not None:
        return
    directory = Path(os.environ.get(policy.teacher.variable, ""))
    if not (directory / tokenizer_files.TOKENIZER).is_file() or any(
        name == "policy" and cached for name, _, cached in looked_up(Line(line.config))
    ):
        return
    tokens = line.place.store.fetch(line.artifact("tokens"), tokenizer_files.FILES)
    Encoder(tokens).require_same_vocabulary("policy.teacher", Encoder(directory))


def _lacks(table: Config, execution: ExecutionConfig) -> str:
    """What a table asks for and nobody gives; "" where nothing is."""
    try:
        if isinstance(table, AskedModel) and table.kind != "policy" and not os.environ.get(table.variable):
            address(table)
        if isinstance(table, RolloutsConfig):
            require_sampler(table, execution)
    except ValueError as error:
        return str(error)
    return ""
