"""The certificate and key with which a server encrypts (TLS), read and tried before Java starts.

TorchServe takes little, and says little of what it does not take: its HTTP reads RSA keys only, its
gRPC PKCS #8 only. So it is given copies in the one form that both read. Whether they work is seen
in a handshake with the protocol and ciphers of its HTTP, in memory, without a network.
"""

from __future__ import annotations

import base64
import binascii
import re
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from d2serve.client.connection.trust import trusting
from d2serve.client.errors import ServerStartError

_BLOCK = re.compile(
    r"-----BEGIN (?P<label>[A-Z0-9 ]+)-----(?P<content>.*?)-----END (?P=label)-----", re.DOTALL
)
_CERTIFICATE, _PKCS8, _PKCS1 = "CERTIFICATE", "PRIVATE KEY", "RSA PRIVATE KEY"
_ENCRYPTED = "ENCRYPTED PRIVATE KEY"
# What makes PKCS #8 of an RSA key in PKCS #1: RFC 5208, section 5, and RFC 8017, appendix A.
_VERSION_0 = bytes.fromhex("020100")
_RSA = bytes.fromhex("300d06092a864886f70d0101010500")
_TORCHSERVES_CIPHERS = "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-SHA"
_CERTIFICATE_COPY, _KEY_COPY = "certificate.pem", "key.pem"


@dataclass(frozen=True)
class ServerIdentity:
    """A certificate with its chain, and its RSA key."""

    certificate_file: Path
    """As the user named it; a client may name it as ``ca_file``."""
    names: tuple[str, ...]
    """Names and addresses that the certificate is for."""
    ends: str
    """When the certificate ends, as OpenSSL writes it: ``Dec  2 20:10:11 2026 GMT``."""
    _chain: str
    _key: str

    @property
    def a_name(self) -> str:
        """One of them, such as a client may ask for."""
        return self.names[0].replace("*", "d2serve")

    def name_for(self, host: str) -> str | None:
        """A name that a client has to expect when it connects to ``host``; None for that itself."""
        return None if host in self.names else self.a_name

    def write(self, directory: Path) -> dict[str, str]:
        """Write TorchServe's copies into its private directory; returns the settings that name
        them."""
        certificate, key = directory / _CERTIFICATE_COPY, directory / _KEY_COPY
        certificate.write_text(self._chain, encoding="ascii")
        key.touch(mode=0o600)
        key.write_text(self._key, encoding="ascii")
        return {"certificate_file": str(certificate), "private_key_file": str(key)}


def read_identity(certificate: Path, key: Path) -> ServerIdentity:
    """Read a certificate and its key, both PEM; they may be one file.

    Raises:
        ServerStartError: one cannot be read, is of a kind that TorchServe does not take, or has
            ended, or they do not belong together.
    """
    chain = [_pem(_CERTIFICATE, content) for content in _blocks(certificate, _CERTIFICATE)]
    if not chain:
        raise ServerStartError(
            f"{certificate} has no certificate: expected a PEM file with the server's certificate "
            "first and those of its authorities after it (fullchain.pem)."
        )
    written_key = _pem(_PKCS8, _rsa_key(key))
    seen = _tried(certificate, key)
    names = [value for kind, value in seen.get("subjectAltName", ()) if kind == "DNS"]
    names += [value for kind, value in seen.get("subjectAltName", ()) if kind == "IP Address"]
    if not names:
        raise ServerStartError(
            f"The certificate {certificate} is for no host: clients look for the name that they "
            "ask in its subjectAltName, and it has none. Make one with it, with openssl: -addext "
            "subjectAltName=DNS:models.example.com"
        )
    return ServerIdentity(
        certificate, tuple(names), str(seen["notAfter"]), "".join(chain), written_key
    )


def _blocks(file: Path, label: str) -> list[bytes]:
    """What the blocks of a PEM file that have this label stand for."""
    try:
        return [base64.b64decode("".join(content.split())) for content in _contents(file, label)]
    except binascii.Error as error:
        raise _unreadable_error(file, "it is no PEM text") from error


def _contents(file: Path, label: str) -> list[str]:
    try:
        found = _BLOCK.finditer(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no PEM text"
        raise _unreadable_error(file, reason) from error
    return [each.group("content") for each in found if _label_of(each) == label]


def _unreadable_error(file: Path, reason: str | None) -> ServerStartError:
    return ServerStartError(
        f"{file} cannot be read ({reason}): expected PEM, text that begins with -----BEGIN. The "
        "user who runs `d2serve serve` has to be allowed to read it."
    )


def _label_of(block: re.Match[str]) -> str:
    # An older way to encrypt leaves the label as it is and says so in a header.
    return _ENCRYPTED if "Proc-Type: 4,ENCRYPTED" in block.group("content") else block["label"]


def _pem(label: str, content: bytes) -> str:
    lines = base64.encodebytes(content).decode("ascii")
    return f"-----BEGIN {label}-----\n{lines}-----END {label}-----\n"


def _rsa_key(file: Path) -> bytes:
    """The RSA key of a PEM file, as PKCS #8."""
    for content in _blocks(file, _PKCS1):
        return _der(0x30, _VERSION_0 + _RSA + _der(0x04, content))
    keys = _blocks(file, _PKCS8)
    if keys and _RSA in keys[0][:40]:
        return keys[0]
    if _contents(file, _ENCRYPTED):
        raise ServerStartError(
            f"The key {file} has a password, and TorchServe cannot ask for it. Take it off, for "
            f"this server's user alone: openssl pkey -in {file} -out key.pem"
        )
    if keys or _contents(file, "EC PRIVATE KEY"):
        raise ServerStartError(
            f"The key {file} is no RSA key, and TorchServe's HTTP takes no other. Have a "
            "certificate made for an RSA key (openssl: -newkey rsa:2048; certbot: --key-type rsa; "
            "cert-manager: algorithm: RSA), or let a proxy encrypt: docs/security.md."
        )
    raise ServerStartError(
        f"{file} has no private key: expected a PEM file with BEGIN PRIVATE KEY or BEGIN RSA "
        "PRIVATE KEY in it."
    )


def _der(tag: int, content: bytes) -> bytes:
    """One value in ASN.1's DER."""
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content


def _tried(certificate: Path, key: Path) -> dict[str, Any]:
    """What a client sees of the certificate, in a handshake as TorchServe's HTTP makes it."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        server.load_cert_chain(certificate, key, password="")
        client = trusting(certificate)
        client.check_hostname = False
        client.verify_flags &= ~ssl.VERIFY_X509_STRICT  # what only some clients ask for
        client.minimum_version = client.maximum_version = ssl.TLSVersion.TLSv1_2
        client.set_ciphers(_TORCHSERVES_CIPHERS)
        return _handshake(server, client)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ServerStartError(
                f"The key {key} does not belong to the certificate {certificate}: expected the "
                "key that the certificate was made for, and the server's certificate first in "
                "its file."
            ) from error
        reason = getattr(error, "verify_message", None) or error.reason or str(error)
        raise ServerStartError(
            f"The certificate {certificate} with the key {key} does not work ({reason}). Expected "
            "a certificate that holds today, for an RSA key of 2048 bits or more."
        ) from error


def _handshake(server_side: ssl.SSLContext, client_side: ssl.SSLContext) -> dict[str, Any]:
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = server_side.wrap_bio(there, back, server_side=True)
    client = client_side.wrap_bio(back, there)
    for side in (client, server, client, server, client):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    return dict(client.getpeercert() or {})
