"""Keys and key files: private from creation, stable, refused when damaged."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from zmq.utils import z85

from core.errors import InputError
from core.wire.keys import (
    is_key,
    keys_from_code,
    keys_from_secret,
    load_key_file,
    load_or_create_key_file,
    load_or_create_keys,
    new_keys,
    new_pairing_code,
)

posix_only = pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")


def test_keys_are_made_once_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "keys.json"
    first = load_or_create_keys(path)
    assert load_or_create_keys(path) == first
    assert is_key(first.public)
    assert first.secret not in repr(first)


@posix_only
def test_private_files_are_private(tmp_path: Path) -> None:
    load_or_create_keys(tmp_path / "keys.json")
    load_or_create_key_file(tmp_path / "shared.key")
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in tmp_path.iterdir()}
    assert modes == {"keys.json": 0o600, "shared.key": 0o600}


@pytest.mark.parametrize("content", [b"", b"{", b'{"public":"a","secret":"b"}', b"\xff\xfe", b"[]"])
def test_damaged_key_file_is_refused_with_words(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"keys\.json"):
        load_or_create_keys(path)


def test_public_half_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    mine, other = new_keys(), new_keys()
    path.write_text(f'{{"public": "{other.public}", "secret": "{mine.secret}"}}'.replace("\\", "\\\\"))
    with pytest.raises(InputError):
        load_or_create_keys(path)


def test_shared_key_file(tmp_path: Path) -> None:
    path = tmp_path / "shared.key"
    secret = load_or_create_key_file(path)
    assert len(secret) == 32
    assert load_key_file(path) == load_or_create_key_file(path) == secret
    assert keys_from_secret(secret) == keys_from_secret(z85.decode(z85.encode(secret)))


@pytest.mark.parametrize("content", [b"", b"short", b"~" * 40, b"\xff" * 40, b"#" * 40])
def test_bad_shared_key_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "shared.key"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"shared\.key"):
        load_key_file(path)
    with pytest.raises(InputError, match="cannot be read"):
        load_key_file(tmp_path / "missing")


def test_pairing_code_survives_how_people_type_it() -> None:
    code = new_pairing_code()
    assert [len(part) for part in code.split("-")] == [4, 4, 2]
    assert keys_from_code(code) == keys_from_code(f" {code.lower().replace('-', ' ')} ")
    assert keys_from_code("O0I1-LL11-00") == keys_from_code("0011111100")
    assert keys_from_code(code) != keys_from_code("0000000000")
    for wrong in ("", "ABC", code + "X", "!!!!-!!!!-!!"):
        with pytest.raises(InputError, match="pairing code"):
            keys_from_code(wrong)
