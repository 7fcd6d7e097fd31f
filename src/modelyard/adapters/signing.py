"""Signatures of a release by OpenSSF's ``model-signing``, offline, with a key (elliptic curve, PEM) or a certificate.

Two are made: of the export's files, which anybody checks with ``model_signing verify`` who has the model, and of the
decision's with its manifest, which holds the hash of every manifest below it and so signs the whole evidence. The private
key is named by ``MODELYARD_SIGNING_KEY`` (its passphrase by ``MODELYARD_SIGNING_PASSPHRASE``) and, for a certificate,
``MODELYARD_SIGNING_CERTIFICATE`` with the chain's files in ``MODELYARD_SIGNING_CHAIN``, divided by colons. Left out:
Sigstore's public log, which needs a network.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from modelyard.complaint import complaint
from modelyard.config import Config
from modelyard.store.artifacts import Store
from modelyard.store.code_identity import code_version
from modelyard.store.file_hash import sha256_file
from modelyard.store.manifest import MANIFEST, Artifact, Spec
from modelyard.store.outage import StorageError

NAME = "signature"
SIGNED = ("decision", "export")
KEY, PASSPHRASE, CERTIFICATE, CHAIN = (f"MODELYARD_SIGNING_{name}" for name in ("KEY", "PASSPHRASE", "CERTIFICATE", "CHAIN"))


class SigningError(ValueError):
    """A release that cannot be signed, or whose signature does not hold; one line."""


class Signer(NamedTuple):
    """Who signs."""

    key: Path
    """Private key, PEM."""
    certificate: Path | None
    chain: tuple[Path, ...]


class SignatureConfig(Config):
    """What defines a signature besides what is signed."""

    signer: str
    """sha256 of the certificate, or of the public key (DER)."""


class Trusted(NamedTuple):
    """Whose signatures are believed: one of both."""

    public_key: Path | None
    certificates: tuple[Path, ...]
    """Roots and intermediates, PEM."""


def signer(environment: Mapping[str, str] = os.environ) -> Signer | None:
    """Who signs releases by the environment; None where it says nothing of it.

    Raises:
        SigningError: a file is not there or holds no such key or certificate, or what a signature needs is set in part: nobody would sign, or
            another than was meant.
    """
    for needed, others in ((KEY, (CERTIFICATE, CHAIN, PASSPHRASE)), (CERTIFICATE, (CHAIN,))):
        if not environment.get(needed) and (lone := next(filter(environment.get, others), None)):
            raise SigningError(f"{lone} is set, and {needed} is not")
    if not environment.get(KEY):
        return None
    certificate = Path(environment[CERTIFICATE]) if environment.get(CERTIFICATE) else None
    found = Signer(Path(environment[KEY]), certificate, tuple(Path(part) for part in environment.get(CHAIN, "").split(":") if part))
    for name, file in ((KEY, found.key), (CERTIFICATE, certificate), *((CHAIN, part) for part in found.chain)):
        if file is not None and not file.is_file():
            raise SigningError(f"{name} {file}: {'a directory' if file.is_dir() else 'no such file'}")
    _with(found)  # what cannot sign is said before there is anything to sign
    return found


def believed(public_key: Path | None, certificates: Sequence[Path]) -> Trusted | None:
    """Whose signatures a command is told to believe; None where it names nobody.

    Raises:
        SigningError: both are named, a file holds no such key or certificate, or ``model-signing`` is not installed.
        FileNotFoundError: a file is not there.
    """
    if public_key and certificates:
        raise SigningError("--public-key and --certificates: one of both says whose signature is believed")
    for file in (*([public_key] if public_key else []), *certificates):
        if not file.is_file():
            raise IsADirectoryError(21, "a directory", str(file)) if file.is_dir() else FileNotFoundError(2, "no such file", str(file))
    for one in [Trusted(public_key, ())] if public_key else [Trusted(None, (file,)) for file in certificates]:
        _trusting(one)
    return Trusted(public_key, tuple(certificates)) if public_key or certificates else None


def sign(store: Store, decided: Artifact, exported: Artifact, by: Signer) -> Artifact:
    """The artifact with both signatures, found or made. Raises SigningError."""
    parents = dict(zip(SIGNED, (decided, exported), strict=True))
    spec = Spec(NAME, SignatureConfig(signer=_identity(by)), parents, code_version("modelyard.adapters.signing"))

    def produce(out: Path, checkpoints: Path) -> dict[str, float]:
        for role, made in parents.items():
            config = _with(by).set_hashing_config(_hashing(role))
            try:
                config.sign(store.fetch(made), out / f"{role}.sig")
            except (ValueError, TypeError, OSError) as error:
                raise SigningError(f"{by.key}: cannot sign {made.ref}: {complaint(error)}") from None
        return {}

    return store.build(spec, produce).artifact


def check(store: Store, signature: Artifact, signed: Mapping[str, Artifact], trusted: Trusted) -> list[str]:
    """Why the signatures of ``signed`` (decision and export) do not hold, a line each.

    Raises:
        SigningError: what is trusted cannot be read, or ``model-signing`` is not installed.
        StorageError: the store does not answer.
    """
    problems = []
    for role in SIGNED:
        made = signed[role]
        verifier = _trusting(trusted).set_hashing_config(_hashing(role))
        try:
            verifier.verify(store.fetch(made), store.fetch(signature) / f"{role}.sig")
        except StorageError:
            raise
        except Exception as error:  # of this library, cryptography and OpenSSL, which have no base in common
            problems.append(f"{made.ref}: its signature does not hold: {complaint(error)[:200]}")
    return problems


def _with(by: Signer) -> Any:
    config = _library("signing").Config()
    if by.certificate:
        files = {"private_key": by.key, "signing_certificate": by.certificate, "certificate_chain": list(by.chain)}
        return _read(f"{KEY} {by.key}, {CERTIFICATE} {by.certificate}: cannot sign", config.use_certificate_signer, **files)
    named = f"{KEY} {by.key}: no private key of an elliptic curve in PEM"
    return _read(named, config.use_elliptic_key_signer, private_key=by.key, password=_passphrase())


def _trusting(trusted: Trusted) -> Any:
    config = _library("verifying").Config()
    if trusted.public_key:
        named = f"{trusted.public_key}: no public key of an elliptic curve in PEM"
        return _read(named, config.use_elliptic_key_verifier, public_key=trusted.public_key)
    named = f"{', '.join(map(str, trusted.certificates))}: no certificates in PEM"
    return _read(named, config.use_certificate_verifier, certificate_chain=list(trusted.certificates))


def _read(what: str, read: Callable[..., Any], **files: Any) -> Any:
    """What ``read`` makes of key files. Raises SigningError saying ``what`` is wrong with them."""
    try:
        return read(**files)
    except AttributeError:  # a key of another kind
        raise SigningError(what) from None
    except Exception as error:  # of cryptography and OpenSSL, which have no base in common
        raise SigningError(f"{what}: {complaint(error)[:200]}") from None


def _passphrase() -> bytes | None:
    return os.environ[PASSPHRASE].encode() if os.environ.get(PASSPHRASE) else None


def _hashing(role: str) -> Any:
    """The export's signature is of the model's files alone, as they are handed on."""
    ignored: Sequence[str] = [MANIFEST] if role == "export" else []
    return _library("hashing").Config().set_ignored_paths(paths=ignored)


def _identity(by: Signer) -> str:
    if by.certificate:
        return sha256_file(by.certificate)
    import hashlib

    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

    key = _read(f"{KEY} {by.key}: no private key in PEM", load_pem_private_key, data=by.key.read_bytes(), password=_passphrase())
    return hashlib.sha256(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def _library(module: str) -> Any:
    """A module of ``model_signing``, which is an extra. Raises SigningError where it is not installed."""
    from importlib import import_module

    try:
        return import_module(f"model_signing.{module}")
    except ImportError as error:
        raise SigningError(f"{error.name} is not installed; pip install 'modelyard[signing]'") from None
