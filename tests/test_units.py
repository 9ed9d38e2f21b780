"""Sizes, rates and shares: what people write, what is refused, and what they read."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import InputError
from core.units import format_bytes, format_rate, parse_bytes, parse_rate, parse_share


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("4096", 4096),
        ("7b", 7),
        ("512M", 512 * 1024**2),
        ("512 MiB", 512 * 1024**2),
        ("2G", 2 * 1024**3),
        ("2GB", 2 * 1024**3),
        ("1.5g", 3 * 1024**3 // 2),
        (" 1k ", 1024),
        ("1T", 1024**4),
    ],
)
def test_sizes(text: str, expected: int) -> None:
    assert parse_bytes(text) == expected


@pytest.mark.parametrize("text", ["", "-1", "1e3", "G", "1Q", "1 M B", "nan", "inf", "٣", "9999999T", "1,5G", "0x10"])
def test_what_is_not_a_size_says_so(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_bytes(text)
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("9600", 9600),
        ("100mbit", 100_000_000),
        ("100Mbit/s", 100_000_000),
        ("54 Mbps", 54_000_000),
        ("2.5gbit", 2_500_000_000),
        ("500kbit", 500_000),
        ("1G", 1_000_000_000),
        ("8bits", 8),
    ],
)
def test_rates(text: str, expected: int) -> None:
    assert parse_rate(text) == expected


@pytest.mark.parametrize("text", ["", "-5mbit", "fast", "100 mbytes", "1e9", "mbit", "100mbit/h"])
def test_what_is_not_a_rate_says_so(text: str) -> None:
    with pytest.raises(InputError, match="data rate"):
        parse_rate(text)


@pytest.mark.parametrize(
    ("text", "expected"), [("50%", 0.5), ("0.5", 0.5), ("1", 1.0), (" 100 % ", 1.0), ("12.5%", 0.125)]
)
def test_shares(text: str, expected: float) -> None:
    assert parse_share(text) == pytest.approx(expected)


@pytest.mark.parametrize("text", ["0", "0%", "-1", "1.1", "101%", "", "half", "nan", "nan%", "inf"])
def test_what_is_not_a_share_says_so(text: str) -> None:
    with pytest.raises(InputError, match="share"):
        parse_share(text)


@pytest.mark.parametrize(
    ("nbytes", "expected"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1023.6, "1.00 KiB"),
        (1536, "1.50 KiB"),
        (10 * 1024, "10.0 KiB"),
        (512 * 1024**2, "512 MiB"),
        (1024**2 - 1, "1.00 MiB"),
        (-2048, "-2.00 KiB"),
        (5 * 1024**6, "5120 PiB"),
    ],
)
def test_sizes_as_people_read_them(nbytes: float, expected: str) -> None:
    assert format_bytes(nbytes) == expected


@pytest.mark.parametrize(
    ("rate", "expected"),
    [(0, "0 bit/s"), (999, "999 bit/s"), (100e6, "100 Mbit/s"), (2.5e9, "2.50 Gbit/s"), (999_999, "1.00 Mbit/s")],
)
def test_rates_as_people_read_them(rate: float, expected: str) -> None:
    assert format_rate(rate) == expected


@given(st.integers(0, 2**50))
def test_a_printed_size_reads_back_within_its_precision(nbytes: int) -> None:
    assert parse_bytes(format_bytes(nbytes)) == pytest.approx(nbytes, rel=0.01, abs=0.5)


@given(st.integers(0, 10**14))
def test_a_printed_rate_reads_back_within_its_precision(rate: int) -> None:
    assert parse_rate(format_rate(rate)) == pytest.approx(rate, rel=0.01, abs=0.5)


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused_in_words(text: str) -> None:
    for parse in (parse_bytes, parse_rate, parse_share):
        with contextlib.suppress(InputError):
            assert parse(text) >= 0
