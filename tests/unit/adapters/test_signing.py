"""A release signed by a key or a certificate verifies offline, and another key, another file or no signature does not."""

import datetime
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from modelyard.adapters import signing
from modelyard.adapters.signing import Signer, SigningError, Trusted, believed, check, sign, signer
from modelyard.store.artifacts import Store
from modelyard.store.manifest import Artifact
from tests.unit.store.test_lineage import make_line
from tests.unit.store.test_manifest_chain import replace


def key(directory: Path, name: str, passphrase: str = "", made: Any = None) -> tuple[ec.EllipticCurvePrivateKey, Path, Path]:
    """A key pair on disk, of an elliptic curve unless it is given: the key, its file, its public file."""
    made = made or ec.generate_private_key(ec.SECP256R1())
    private, public = directory / f"{name}.pem", directory / f"{name}.pub"
    sealed = serialization.BestAvailableEncryption(passphrase.encode()) if passphrase else serialization.NoEncryption()
    form = serialization.PrivateFormat.PKCS8, sealed
    private.write_bytes(made.private_bytes(serialization.Encoding.PEM, *form))
    info = serialization.PublicFormat.SubjectPublicKeyInfo
    public.write_bytes(made.public_key().public_bytes(serialization.Encoding.PEM, info))
    return made, private, public


def certificate(directory: Path, name: str, made: ec.EllipticCurvePrivateKey, issuer: tuple | None) -> tuple[x509.Certificate, Path]:
    """A certificate for ``made``: a root of its own, or one that signs code, by ``issuer`` (certificate, key)."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer[0].subject if issuer else subject)
    builder = builder.public_key(made.public_key()).serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=30))
    builder = builder.add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    flags = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only", "decipher_only"), False
    )
    usage = x509.KeyUsage(digital_signature=True, key_cert_sign=issuer is None, crl_sign=issuer is None, **flags)
    builder = builder.add_extension(usage, critical=True)
    if issuer:
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
    signed = builder.sign(issuer[1] if issuer else made, hashes.SHA256())
    file = directory / f"{name}.crt"
    file.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    return signed, file


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(f"file://{tmp_path}/store", str(tmp_path / "scratch"))


@pytest.fixture
def release(store: Store) -> dict[str, Artifact]:
    made = make_line(store)
    return {role: made[role] for role in signing.SIGNED}


def test_signature_by_a_key_holds_for_that_key_and_that_release_alone(store: Store, release: dict[str, Artifact], tmp_path: Path) -> None:
    _, private, public = key(tmp_path, "ours")
    _, _, foreign = key(tmp_path, "theirs")
    by = signer({signing.KEY: str(private)})
    assert by == Signer(private, None, ())

    signature = sign(store, release["decision"], release["export"], by)

    assert sign(store, release["decision"], release["export"], by) == signature
    assert check(store, signature, release, Trusted(public, ())) == []
    assert len(check(store, signature, release, Trusted(foreign, ()))) == 2
    replace(store, release["export"], "config.json", "other weights, with their hash in the manifest")
    forged = {**release, "export": store.get(release["export"].ref)}
    (problem,) = check(store, signature, forged, Trusted(public, ()))
    assert problem.startswith(f"{release['export'].ref}: its signature does not hold: ")


def test_signature_by_a_certificate_holds_for_its_root(store: Store, release: dict[str, Artifact], tmp_path: Path) -> None:
    root_key, _, _ = key(tmp_path, "root")
    root, root_file = certificate(tmp_path, "root", root_key, None)
    leaf_key, private, _ = key(tmp_path, "leaf")
    _, leaf_file = certificate(tmp_path, "leaf", leaf_key, (root, root_key))
    other_key, _, _ = key(tmp_path, "other")
    _, other_file = certificate(tmp_path, "other", other_key, None)

    signature = sign(store, release["decision"], release["export"], Signer(private, leaf_file, (root_file,)))

    assert check(store, signature, release, Trusted(None, (root_file,))) == []
    assert len(check(store, signature, release, Trusted(None, (other_file,)))) == 2


def test_signer_that_cannot_sign_is_one_line(store: Store, release: dict[str, Artifact], tmp_path: Path) -> None:
    assert signer({}) is None
    with pytest.raises(SigningError, match=r"MODELYARD_SIGNING_KEY /none\.pem: no such file"):
        signer({signing.KEY: "/none.pem"})
    (tmp_path / "no.pem").write_text("no key")
    with pytest.raises(SigningError, match="no private key in PEM"):
        sign(store, release["decision"], release["export"], Signer(tmp_path / "no.pem", None, ()))
    _, other_kind, _ = key(tmp_path, "rsa", made=rsa.generate_private_key(65537, 2048))
    with pytest.raises(SigningError, match=r"rsa\.pem: no private key of an elliptic curve in PEM"):
        sign(store, release["decision"], release["export"], Signer(other_kind, None, ()))


@pytest.mark.parametrize("lone", [signing.CERTIFICATE, signing.CHAIN, signing.PASSPHRASE])
def test_signer_that_is_named_in_part_is_no_release_without_a_signature(lone: str) -> None:
    with pytest.raises(SigningError, match=f"{lone} is set, and MODELYARD_SIGNING_KEY is not"):
        signer({lone: "x", signing.KEY: ""})
    with pytest.raises(SigningError, match="CHAIN is set, and MODELYARD_SIGNING_CERTIFICATE is not"):
        signer({signing.KEY: "/key.pem", signing.CHAIN: "/root.pem"})


def test_key_with_a_passphrase_signs_by_it_alone(
    store: Store, release: dict[str, Artifact], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, private, public = key(tmp_path, "sealed", "open sesame")
    for wrong in ("", "open barley"):
        monkeypatch.setenv(signing.PASSPHRASE, wrong)
        with pytest.raises(SigningError, match=r"MODELYARD_SIGNING_KEY .*sealed\.pem: no private key in PEM"):
            sign(store, release["decision"], release["export"], Signer(private, None, ()))
    monkeypatch.setenv(signing.PASSPHRASE, "open sesame")

    signature = sign(store, release["decision"], release["export"], Signer(private, None, ()))

    assert check(store, signature, release, Trusted(public, ())) == []


def test_key_that_cannot_sign_is_said_before_there_is_anything_to_sign(tmp_path: Path) -> None:
    _, private, public = key(tmp_path, "ours")
    (tmp_path / "words").write_text("hello")
    assert signing.signer({signing.KEY: str(private)}) == Signer(private, None, ())
    for file, why in ((tmp_path / "words", "no private key"), (public, "no private key"), (tmp_path, "a directory")):
        with pytest.raises(SigningError, match=rf"^MODELYARD_SIGNING_KEY {file}: {why}"):
            signing.signer({signing.KEY: str(file)})
    with pytest.raises(SigningError, match=r"MODELYARD_SIGNING_CERTIFICATE .*words: cannot sign"):
        signing.signer({signing.KEY: str(private), signing.CERTIFICATE: str(tmp_path / "words")})


def test_whoever_cannot_be_believed_is_one_line_and_no_forgery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root_key, _, public = key(tmp_path, "ours")
    _, root = certificate(tmp_path, "root", root_key, None)
    _, _, other_kind = key(tmp_path, "rsa", made=rsa.generate_private_key(65537, 2048))
    assert (believed(None, ()), believed(public, ())) == (None, Trusted(public, ()))
    assert believed(None, [root, root]) == Trusted(None, (root, root))
    for file in (root, other_kind):
        with pytest.raises(SigningError, match=rf"^{file}: no public key of an elliptic curve in PEM(?!.*attribute)"):
            believed(file, ())
    with pytest.raises(SigningError, match=rf"^{public}: no certificates in PEM: "):
        believed(None, [root, public])
    with pytest.raises(SigningError, match="one of both"):
        believed(public, [root])
    with pytest.raises(FileNotFoundError):
        believed(tmp_path / "none.pub", ())
    monkeypatch.setitem(sys.modules, "model_signing.verifying", None)
    with pytest.raises(SigningError, match=r"is not installed; pip install 'modelyard\[signing\]'"):
        believed(public, ())
