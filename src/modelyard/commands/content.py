"""The public summary of training content of a registered version, from the store."""

from __future__ import annotations

import tempfile
from pathlib import Path

from pydantic import ValidationError

from modelyard.adapters.mlflow.registry import Registry
from modelyard.adapters.mlflow.server import answering, tracking_uri
from modelyard.commands.command import say
from modelyard.commands.outputs import write
from modelyard.commands.provenance import DECISION, registered, store_of
from modelyard.complaint import first_error
from modelyard.config import ConfigError, located, read_tree
from modelyard.exit_codes import DONE, FAILED
from modelyard.release import sign_off
from modelyard.release.card import content_summary
from modelyard.release.training_content import KEY, TrainingContent
from modelyard.store.artifacts import Store
from modelyard.store.lineage import parent_of
from modelyard.store.manifest import MANIFEST, Artifact


def write_summary(model: str, out: Path, answers: Path | None, url: str | None) -> int:
    """Write the page and say what it leaves open; FAILED where the store lacks an artifact that the release was made of."""
    label, store, decided = decision_of(model, url)
    if decided is None:
        return FAILED
    with tempfile.TemporaryDirectory() as place:
        inputs, missing = copied(store, decided, Path(place))
        for line in missing:
            say(f"{line}: not in the store any more")
        if missing:
            return FAILED
        given = read_answers(answers) if answers else TrainingContent.model_validate(decided.config.get("training_content", {}))
        write(out, content_summary.build(label, inputs, given))
        open_ = content_summary.blanks(content_summary.sections(label, inputs, given))
    say(f"{out}: {len(open_)} answers to be stated{':' if open_ else ''}")
    for key in open_:
        say(f"  {key}")
    return DONE


def decision_of(model: str, url: str | None) -> tuple[str, Store, Artifact | None]:
    """Name and version of a release, its store, and its decision before any signature; None, and said, where the store has it no more."""
    with answering(tracking_uri()):
        name, version = registered(model)
        registry = Registry(tracking_uri(), name)
        ref = registry.tag(version, DECISION)
    store = store_of(registry, version, url)
    decided = store.known(ref)
    if decided and decided.name == sign_off.NAME:
        decided = store.known(ref := parent_of(decided, "decision"))
    if decided is None:
        say(f"{ref}: not in the store any more")
    return f"{name} version {version.version}", store, decided


def read_answers(file: Path) -> TrainingContent:
    """``[release.training_content]`` of a config. Raises ConfigError naming file and key."""
    tree = read_tree(located(file)).get("release", {})
    table = tree.get("training_content") if isinstance(tree, dict) else None
    if table is None:
        raise ConfigError(f"{file}: no table [{KEY}]")
    try:
        return TrainingContent.model_validate(table)
    except ValidationError as error:
        raise ConfigError(f"{file}: {KEY}.{first_error(error)}") from None


def copied(store: Store, decided: Artifact, place: Path) -> tuple[dict[str, Path], list[str]]:
    """Role -> directory with the manifest and the small files that the summary reads, each checked against its hash; and what is missing."""
    inputs, missing = dict[str, Path](), list[str]()
    for role, files in content_summary.READS.items():
        if role not in decided.parents:
            continue
        artifact = store.known(decided.parents[role])
        if artifact is None:
            missing.append(decided.parents[role])
            continue
        inputs[role] = place / role
        inputs[role].mkdir()
        (inputs[role] / MANIFEST).write_text(artifact.model_dump_json(), "utf-8")
        for file in files:
            if file in artifact.files:
                (inputs[role] / file).write_bytes(store.read(artifact, file))
    return inputs, missing
