"""Keys by https: a server counts that a known authority vouches for, by its own name, today."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from paigeant_core.errors import ConfigError
from paigeant_core.security.jwks import JwkSets
from paigeant_core.security.keys import SigningKey
from tests.core.security.test_jwks import publishing

SHOP = SigningKey.generate("shop")
DAY = timedelta(days=1)
_NOT = dict.fromkeys(
    (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "encipher_only",
        "decipher_only",
    ),
    False,
)
SIGNS_CERTIFICATES = x509.KeyUsage(**_NOT, key_cert_sign=True, crl_sign=True)


def named(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


class Authority:
    """Signs certificates, its own too."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._key = generate_private_key(SECP256R1())
        own = self._of(name, self._key, DAY).add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        self._certificate = own.add_extension(SIGNS_CERTIFICATES, True).sign(self._key, SHA256())

    def certify(self, folder: Path, host: str, until: timedelta = DAY) -> ssl.SSLContext:
        """What a server at ``host`` shows."""
        key = generate_private_key(SECP256R1())
        names = x509.SubjectAlternativeName([x509.IPAddress(ip_address(host))])
        shown = self._of(host, key, until).add_extension(names, False).sign(self._key, SHA256())
        path = folder / "server.pem"
        path.write_bytes(
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + shown.public_bytes(Encoding.PEM)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context

    def publish(self, folder: Path) -> str:
        path = folder / "authority.pem"
        path.write_bytes(self._certificate.public_bytes(Encoding.PEM))
        return str(path)

    def _of(self, subject: str, key: EllipticCurvePrivateKey, until: timedelta) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(named(subject))
            .issuer_name(named(self.name))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 2 * DAY)
            .not_valid_after(now + until)
            # From 3.13 on Python takes no certificate without these (RFC 5280, section 4.2.1).
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), False)
        )


OURS, ANOTHER = Authority("ours"), Authority("another")


def test_a_set_is_fetched_from_a_server_that_is_vouched_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", OURS.publish(tmp_path))
    with publishing(OURS.certify(tmp_path, "127.0.0.1")) as publisher:
        publisher.publish(SHOP)
        assert publisher.url.startswith("https://")
        assert JwkSets().keys(publisher.url) == [SHOP.public_document()]


@pytest.mark.parametrize(
    ("authority", "host", "until"),
    [(ANOTHER, "127.0.0.1", DAY), (OURS, "127.0.0.2", DAY), (OURS, "127.0.0.1", -DAY)],
    ids=["of another authority", "of another host", "expired"],
)
def test_a_server_with_a_bad_certificate_is_told_nothing_and_believed_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, authority: Authority, host: str, until: timedelta
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", OURS.publish(tmp_path))
    with publishing(authority.certify(tmp_path, host, until)) as publisher:
        publisher.publish(SHOP)
        with pytest.raises(ConfigError, match="cannot be fetched: ConnectError"):
            JwkSets().keys(publisher.url)
    assert publisher.asked == 0


def test_without_that_authority_in_the_store_the_server_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    with publishing(OURS.certify(tmp_path, "127.0.0.1")) as publisher:
        publisher.publish(SHOP)
        with pytest.raises(ConfigError, match="cannot be fetched"):
            JwkSets().keys(publisher.url)
