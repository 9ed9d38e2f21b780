from __future__ import annotations

import numpy as np
import pytest

from core.plan.verify import verify_outputs


def test_equal_outputs_pass() -> None:
    values = [np.arange(6, dtype=np.float32).reshape(2, 3), np.array([1, 2]), np.array([True])]
    verdict = verify_outputs(values, [value.copy() for value in values])
    assert verdict.passed
    assert verdict.max_abs_error == verdict.max_rel_error == 0.0


def test_errors_are_relative_to_the_tensors_scale() -> None:
    expected = np.array([1000.0, 0.001], np.float32)
    verdict = verify_outputs([expected], [expected + np.float32(0.01)])
    assert verdict.passed
    assert verdict.max_abs_error == pytest.approx(0.01, rel=0.01)
    assert verdict.max_rel_error == pytest.approx(1e-5, rel=0.01)


def test_a_wrong_value_fails_and_says_where() -> None:
    right = np.ones(4, np.float32)
    verdict = verify_outputs([right, right], [right, right * 1.01])
    assert not verdict.passed
    assert verdict.reason.startswith("output 1: differs by 0.01")


def test_the_tolerance_is_given() -> None:
    right = np.ones(4, np.float32)
    assert verify_outputs([right], [right * 1.01], rtol=0.1).passed


def test_half_precision_has_fewer_digits() -> None:
    right = np.ones(4, np.float16)
    assert verify_outputs([right], [right + np.float16(0.002)]).passed
    assert not verify_outputs([right], [right + np.float16(0.01)]).passed


@pytest.mark.parametrize(
    ("expected", "actual", "words"),
    [
        (np.zeros((2, 3)), np.zeros((3, 2)), "shape [3, 2] instead of [2, 3]"),
        (np.zeros(2, np.float32), np.zeros(2, np.float64), "type float64 instead of float32"),
        (np.array([1, 2]), np.array([1, 3]), "1 of 2 elements differ"),
        (np.array([True, False]), np.array([True, True]), "1 of 2 elements differ"),
        (np.array([1.0, np.nan]), np.array([np.nan, 1.0]), "NaN or infinity"),
        (np.array([np.inf, 1.0]), np.array([-np.inf, 1.0]), "NaN or infinity"),
        (np.array([1.0, 1.0]), np.array([np.inf, 1.0]), "NaN or infinity"),
        (np.array(["a", "b"]), np.array(["a", "c"]), "1 of 2 elements differ"),
    ],
)
def test_what_may_not_differ(expected: np.ndarray, actual: np.ndarray, words: str) -> None:
    verdict = verify_outputs([expected], [actual])
    assert not verdict.passed
    assert words in verdict.reason


def test_nan_in_the_same_place_is_equal() -> None:
    values = np.array([1.0, np.nan, np.inf])
    assert verify_outputs([values], [values.copy()]).passed


def test_nothing_but_zeros() -> None:
    zeros = np.zeros(3, np.float32)
    assert verify_outputs([zeros], [zeros]).passed
    assert not verify_outputs([zeros], [zeros + 1]).passed


def test_empty_tensors_and_no_outputs() -> None:
    assert verify_outputs([np.zeros((0, 3))], [np.zeros((0, 3))]).passed
    assert verify_outputs([], []).passed


def test_a_missing_output() -> None:
    verdict = verify_outputs([np.zeros(1)], [])
    assert not verdict.passed
    assert verdict.reason == "0 outputs came, 1 were expected"
