"""CurveZMQ keys: a node's or workstation's long-term pair, the shared key file, and keys made from a pairing code.

Every private file is created with mode 0600, before its content is written, and put in place atomically.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import struct
from pathlib import Path

import msgspec
import zmq
from msgspec import Struct
from zmq.utils import z85

from core.errors import InputError

KEY_BYTES = 32
Z85_LENGTH = 40

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base 32: no I, L, O, U
_MISREAD = str.maketrans("OIL", "011")
_CODE_LENGTH = 10
_CODE_SALT = b"shardboard pairing 1"


class KeyPair(Struct, frozen=True):
    """A CurveZMQ key pair, both in Z85 (40 characters)."""

    public: str
    secret: str

    def __repr__(self) -> str:
        """Without the secret: a key pair in a log line must not give the key away."""
        return f"KeyPair(public={self.public!r})"


def new_keys() -> KeyPair:
    """A fresh random pair."""
    public, secret = zmq.curve_keypair()
    return KeyPair(public.decode(), secret.decode())


def load_or_create_keys(path: Path) -> KeyPair:
    """The pair kept in ``path``, made on first use. Raises InputError when the file is damaged or unreadable."""
    if not path.exists():
        create_private(path, msgspec.json.encode(new_keys()))
    try:
        keys = msgspec.json.decode(path.read_bytes(), type=KeyPair)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(
            f"The key file {path} cannot be used: {error}.", hint="Move it away to get a new identity."
        ) from error
    if not is_key(keys.secret) or keys_from_secret(z85.decode(keys.secret.encode())).public != keys.public:
        raise InputError(f"The key file {path} is damaged.", hint="Move it away to get a new identity.")
    return keys


def keys_from_secret(secret: bytes) -> KeyPair:
    """The pair whose secret half is these 32 bytes."""
    if len(secret) != KEY_BYTES:
        raise InputError(f"A shared key has {KEY_BYTES} bytes, this one has {len(secret)}.")
    encoded = z85.encode(secret)
    return KeyPair(zmq.curve_public(encoded).decode(), encoded.decode())


def new_pairing_code() -> str:
    """A one-time code of 50 random bits, easy to read aloud: ``XXXX-XXXX-XX``."""
    text = "".join(secrets.choice(_ALPHABET) for _ in range(_CODE_LENGTH))
    return f"{text[:4]}-{text[4:8]}-{text[8:]}"


def keys_from_code(code: str) -> KeyPair:
    """The pair that a pairing code stands for; case, spaces, dashes and O/0, I/L/1 do not matter.

    Slow on purpose (scrypt, about 0.1 s). Raises InputError when the code cannot be one.
    """
    text = code.upper().replace("-", "").replace(" ", "").translate(_MISREAD)
    if len(text) != _CODE_LENGTH or not set(text) <= set(_ALPHABET):
        raise InputError(f"{code!r} is not a pairing code.", hint="It looks like 7KX2-94QF-M3.")
    secret = hashlib.scrypt(text.encode(), salt=_CODE_SALT, n=2**15, r=8, p=1, maxmem=2**26, dklen=KEY_BYTES)
    return keys_from_secret(secret)


def load_or_create_key_file(path: Path) -> bytes:
    """The 32 bytes of the shared key file at ``path``, made on first use."""
    if not path.exists():
        create_private(path, z85.encode(secrets.token_bytes(KEY_BYTES)) + b"\n")
    return load_key_file(path)


def load_key_file(path: Path) -> bytes:
    """The 32 bytes of the shared key file at ``path``. Raises InputError when it is missing or not a key file."""
    try:
        text = path.read_bytes().strip()
    except OSError as error:
        raise InputError(f"The shared key file {path} cannot be read: {error.strerror or error}.") from error
    if not is_key(text.decode("latin-1")):
        raise InputError(f"{path} is not a shared key file: it should hold one line of {Z85_LENGTH} characters.")
    return bytes(z85.decode(text))


def is_key(text: str) -> bool:
    """Whether ``text`` is 32 bytes in Z85."""
    if len(text) != Z85_LENGTH or not text.isascii():
        return False
    try:
        return len(z85.decode(text.encode())) == KEY_BYTES
    except (KeyError, ValueError, struct.error):  # not its alphabet, or over 32 bits in 5 characters
        return False


def create_private(path: Path, content: bytes) -> None:
    """Create ``path`` with mode 0600; when another process was first, its file stays."""
    temporary = _write_temporary(path, content)
    try:
        os.link(temporary, path)
    except FileExistsError:
        return
    except OSError:  # a file system without hard links
        temporary.replace(path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()


def replace_private(path: Path, content: bytes) -> None:
    """Put ``content`` in place of ``path`` atomically, with mode 0600."""
    _write_temporary(path, content).replace(path)


def _write_temporary(path: Path, content: bytes) -> Path:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0), 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return temporary
