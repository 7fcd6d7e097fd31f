"""Model and data locations as local directories: MLflow's ``models:/name@alias``, ``models:/name/3`` and ``runs:/id/path``, and fsspec's URLs.

Left out: clean-up; what is fetched stays in the given directory, so a second command finds it.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import fsspec
import mlflow
from mlflow.exceptions import MlflowException

from modelyard.adapters.mlflow.packaging import WEIGHTS
from modelyard.adapters.mlflow.server import client, tracking_uri
from modelyard.complaint import complaint, without_password
from modelyard.config import digest
from modelyard.store.local_files import remove_tree
from modelyard.store.local_lock import alone

WHOLE = ".complete"
"""File of a fetched directory that says that nothing of it is missing."""


class NoVersionError(ValueError):
    """A version or alias that the registry does not have."""


def local_directory(location: str, into: Path) -> Path:
    """The directory that ``location`` names, downloaded under ``into`` where it is not local.

    Raises:
        ValueError: there is nothing at ``location``, or it cannot be read.
    """
    if location.startswith(("models:/", "runs:/")):
        return _from_mlflow(location, into)
    if "://" not in location or location.startswith("file://"):
        path = Path(location.removeprefix("file://"))
        if not path.is_dir():
            raise ValueError(f"{location}: no such directory")
        return path
    return _fetched(location, into / digest(location)[:16])


def registered_source(uri: str) -> str:
    """What the registry has under ``models:/name@alias`` or ``models:/name/3`` now: where that version's files lie.

    Raises:
        NoVersionError: the registry has no such version.
        ValueError: there is no registry, or it cannot be asked.
    """
    return str(_version(uri).source)


def registered_version(uri: str) -> str:
    """The version that ``models:/name@alias`` names now, as ``models:/name/3``, which does not move. Raises as :func:`registered_source`."""
    found = _version(uri)
    return f"models:/{found.name}/{found.version}"


def registered_tags(uri: str) -> dict[str, str]:
    """What the release left on a registered version: refs of corpus, decision and export, the store's URL. Raises as :func:`registered_source`."""
    return dict(_version(uri).tags)


def _version(uri: str) -> Any:
    """MLflow's ModelVersion."""
    server = _registry(uri)
    if not re.fullmatch(r"models:/[^/@]+(@[^/@]+|/\d+)", uri):
        raise ValueError(f"{uri}: expected models:/NAME@ALIAS or models:/NAME/VERSION")
    registry, name = client(server), uri.removeprefix("models:/")
    try:
        if "@" in name:
            return registry.get_model_version_by_alias(*name.rsplit("@", 1))
        return registry.get_model_version(*name.rsplit("/", 1))
    except MlflowException as error:
        kind = NoVersionError if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE") else ValueError
        raise kind(f"{uri}: not found at {without_password(server)}: {complaint(error)}") from None


def _fetched(location: str, target: Path) -> Path:
    """``target``, whole: what is fetched lies beside it until nothing is missing, and what a download that was cut off left is removed."""
    if (target / WHOLE).is_file():
        return target
    partial = target.with_name(f"{target.name}.partial")
    with alone(target):
        if (target / WHOLE).is_file():  # by whom we waited for
            return target
        for left in (partial, target):
            _remove(left)
        try:
            _download(location, partial)
            os.replace(partial, target)
        finally:
            _remove(partial)
    return target


def _download(location: str, into: Path) -> None:
    """Everything at ``location``, into a directory that is not there: fsspec would copy into one that is. Raises ValueError."""
    try:
        filesystem, path = fsspec.url_to_fs(location)
        filesystem.get(path, str(into), recursive=True)
    except Exception as error:  # a filesystem raises what its library raises, such as aiohttp's errors, which are no OSErrors
        raise ValueError(f"{without_password(location)}: {type(error).__name__}: {complaint(error)}") from None
    if not into.is_dir():
        raise ValueError(f"{without_password(location)}: not a directory")
    (into / WHOLE).touch()


def _remove(path: Path) -> None:
    with suppress(FileNotFoundError):
        remove_tree(str(path))


def _from_mlflow(uri: str, into: Path) -> Path:
    """The files of a registered version, of a packaged one its weights; an alias is looked up each time, since it moves."""
    server = _registry(uri)
    source = registered_source(uri) if uri.startswith("models:/") else uri
    try:
        target = into / digest([server, source])[:16]
        target.mkdir(parents=True, exist_ok=True)
        found = Path(mlflow.artifacts.download_artifacts(source, dst_path=str(target), tracking_uri=server))
        return found / WEIGHTS if (found / WEIGHTS).is_dir() else found
    except (MlflowException, TypeError) as error:
        raise ValueError(f"{uri}: not found at {without_password(server)}: {complaint(error)}") from None


def _registry(uri: str) -> str:
    """MLflow's address. Raises ValueError where a local one does not exist."""
    server = tracking_uri()
    if server.startswith("sqlite:///") and not Path(server.removeprefix("sqlite:///")).is_file():
        raise ValueError(f"{uri}: there is no MLflow at {without_password(server)}; MLFLOW_TRACKING_URI says where")
    return server
