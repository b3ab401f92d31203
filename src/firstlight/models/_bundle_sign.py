"""Who has signed a document: Ed25519 (RFC 8032) over it and over what kind of document it is, as DSSE has it.

It needs cryptography.
"""

import base64
import hashlib
import os
import stat
from collections.abc import Iterable
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey


class Untrusted(ValueError):
    """Something that nobody has signed who is trusted here."""


class _Each(msgspec.Struct, frozen=True):
    keyid: str
    sig: str


class _Envelope(msgspec.Struct, frozen=True, rename="camel"):
    payload_type: str
    signatures: tuple[_Each]


def make_key(path: Path) -> Path:
    """Make a key to sign with, which only its owner may read, and beside it `<path>.pub`, for whoever is to trust it.

    The path of the latter. Raises FileExistsError where there is one already: what that has signed would be worth
    nothing.
    """
    public = path.with_name(f"{path.name}.pub")
    for file in (path, public):
        if file.exists():
            raise FileExistsError(f"{file} exists, and is not overwritten: take another name, or move it away")
    key = Ed25519PrivateKey.generate()
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    shown = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )  # fmt: skip
    _create(path, secret, 0o600)
    _create(public, shown, 0o644)
    return public


def key_id(key: Ed25519PublicKey) -> str:
    """What a key is called: the digest of its 32 bytes."""
    return f"sha256:{hashlib.sha256(key.public_bytes_raw()).hexdigest()}"


def key_of(public: Path) -> str:
    """What the key in a file of a public key is called. Raises ValueError where it is none, OSError."""
    return key_id(_public(public))


def kind_of(signature: bytes) -> str:
    """What kind of document a signature says it is for, which nobody has verified yet. Raises Untrusted."""
    try:
        return msgspec.json.decode(signature, type=_Envelope).payload_type
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Untrusted(f"its signature cannot be read: {error}") from error


def signed(kind: str, content: bytes, key: Path) -> bytes:
    """The signature of a document of this kind, as a document. Raises ValueError or OSError for a useless key."""
    private = _private(key)
    return _envelope(kind, key_id(private.public_key()), private.sign(encoded(kind, content)))


def signer(kind: str, content: bytes, signature: bytes, trusted: Iterable[Path]) -> str:
    """Who has signed a document: the name of the file of the public key, without `.pub`.

    Raises Untrusted where that is nobody, or none of the trusted ones, or the signature is not of this document.
    """
    keys = {key_id(key): (file, key) for file in trusted for key in [_public(file)]}
    try:
        envelope = msgspec.json.decode(signature, type=_Envelope)
        raw = base64.b64decode(envelope.signatures[0].sig, validate=True)
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError) as error:
        raise Untrusted(f"its signature cannot be read: {error}") from error
    said = envelope.signatures[0].keyid
    if said not in keys:
        names = ", ".join(sorted(file.name for file, _ in keys.values())) or "none"
        raise Untrusted(f"it is signed with the key {said!r}, which is none of those that are trusted here: {names}")
    file, key = keys[said]
    try:
        key.verify(raw, encoded(kind, content))
    except InvalidSignature as error:
        raise Untrusted(f"it is not what {file.stem} has signed: it was changed, or is of another kind") from error
    if signature != _envelope(kind, said, raw):
        raise Untrusted("its signature was changed")
    return file.stem


def encoded(kind: str, content: bytes) -> bytes:
    """What is signed: the kind and the document, each with its length (the pre-authentication encoding of DSSE v1), so
    that a signature under a document of one kind is none under that of another."""
    raw = kind.encode()
    return b" ".join([b"DSSEv1", str(len(raw)).encode(), raw, str(len(content)).encode(), content])


def _envelope(kind: str, keyid: str, signature: bytes) -> bytes:
    each = _Each(keyid=keyid, sig=base64.b64encode(signature).decode())
    return msgspec.json.encode(_Envelope(payload_type=kind, signatures=(each,)), order="deterministic")


def _private(path: Path) -> Ed25519PrivateKey:
    if os.name == "posix" and (mode := stat.S_IMODE(path.stat().st_mode)) & 0o077:
        raise PermissionError(f"{path} may be read by others (mode {mode:o}), and is not used: chmod 600 {path}")
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ValueError(f"{path} is no key to sign with: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError(f"{path} is no Ed25519 key to sign with: `make_key` makes one")
    return key


def _public(path: Path) -> Ed25519PublicKey:
    try:
        key = serialization.load_pem_public_key(path.read_bytes())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError(f"{path} is no public key: {error}") from error
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError(f"{path} is no public Ed25519 key")
    return key


def _create(path: Path, content: bytes, mode: int) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
