"""Whose certificates a client trusts."""

from __future__ import annotations

import os
import ssl

_PARTIAL_CHAIN = getattr(ssl, "VERIFY_X509_PARTIAL_CHAIN", 0x80000)  # has no name before 3.10


def trusting(file: str | os.PathLike[str]) -> ssl.SSLContext:
    """A context that trusts what a PEM file holds and nothing else: authorities, or the certificate
    of a server itself, as Python does by default from 3.13 on, and gRPC.

    Raises:
        OSError: the file cannot be read, or (ssl.SSLError) holds no certificate.
    """
    context = ssl.create_default_context(cafile=file)
    context.verify_flags |= _PARTIAL_CHAIN
    return context
