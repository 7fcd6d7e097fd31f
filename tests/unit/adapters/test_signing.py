"""A release signed by a key or a certificate verifies offline, and another key, another file or no signature does not."""

import datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from modelyard.adapters import signing
from modelyard.adapters.signing import Signer, SigningError, Trusted, check, sign, signer
from modelyard.store.artifacts import Store
from modelyard.store.manifest import Artifact
from tests.unit.store.test_lineage import make_line
from tests.unit.store.test_manifest_chain import replace


def key(directory: Path, name: str) -> tuple[ec.EllipticCurvePrivateKey, Path, Path]:
    """A key pair on disk: the key, its file, its public file."""
    made = ec.generate_private_key(ec.SECP256R1())
    private, public = directory / f"{name}.pem", directory / f"{name}.pub"
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
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
