"""Claims as PRML manifests (Pre-Registered ML Manifest 0.2), which ``falsify`` and others lock, hash and verify.

The same claim always gives the same bytes and hash: its id is a UUIDv7 (RFC 9562) of the time at which it was committed and of its content.
Left out: publishing a hash, which alone proves a date to others.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from modelyard.release.claims import Claim

VERSION = "prml/0.2"


class Written(NamedTuple):
    """A manifest as it was written."""

    file: Path
    sha256: str
    """Of its canonical bytes, as ``falsify hash`` says it."""
    holds: bool | None
    """Whether the observed number meets the claim; None where there is none."""


def manifest(claim: Claim, producer: str, seed: int, model: str) -> dict[str, Any]:
    """The manifest's fields."""
    return {
        "version": VERSION,
        "claim_id": uuid7(claim.fixed, json.dumps([*claim[:-1], producer, model])),
        "created_at": datetime.fromtimestamp(int(claim.fixed), UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "metric": claim.metric,
        "comparator": claim.comparator,
        "threshold": claim.threshold,
        "dataset": {"id": claim.dataset, "hash": claim.content},
        "seed": seed,
        "producer": {"id": producer},
        "model": {"id": model},
        "notes": claim.notes,
    }


def write(claim: Claim, producer: str, seed: int, model: str, out: Path) -> Written:
    """Write ``out/NAME.prml.yaml`` and its lock ``out/NAME.prml.prml.sha256``, where ``falsify verify`` looks for it.

    Raises ValueError where ``falsify`` is not installed or does not take the manifest.
    """
    prml = library()
    made = manifest(claim, producer, seed, model)
    if errors := prml.validate_manifest(made):
        raise ValueError(f"{claim.name}: no PRML manifest: {errors[0]}")
    file, identity = out / f"{claim.name}.prml.yaml", str(prml.manifest_hash(made))
    out.mkdir(parents=True, exist_ok=True)
    file.write_text(prml.canonicalize(made), "utf-8")
    file.with_suffix(".prml.sha256").write_text(f"{identity}\n", "utf-8")
    observed = claim.observed
    return Written(file, identity, None if observed is None else bool(prml.evaluate_predicate(observed, claim.comparator, claim.threshold)))


def library() -> Any:
    """``falsify``'s functions. Raises ValueError where it is not installed."""
    try:
        import falsify_prml
    except ImportError:
        raise ValueError("PRML manifests need falsify: pip install 'modelyard[prml]'") from None
    return falsify_prml


def uuid7(seconds: float, content: str) -> str:
    """A UUIDv7 whose random bits are of ``content``."""
    digest = int.from_bytes(hashlib.sha256(content.encode()).digest())
    high = (int(seconds * 1000) & (1 << 48) - 1) << 16 | 0x7000 | digest >> 244
    low = 2 << 62 | digest & (1 << 62) - 1
    return str(uuid.UUID(int=high << 64 | low))
