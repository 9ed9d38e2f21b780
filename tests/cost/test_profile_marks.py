"""A profile that was interrupted is known to be, in the next session too."""

from __future__ import annotations

import subprocess
import sys
import threading

import msgspec
import pytest

from core.cost.profile import profile_model
from core.cost.profile_marks import ProfileMark, interrupted, marked
from core.errors import Cancelled
from core.model.graph import Model
from core.model.library import resolve_model


@pytest.fixture
def model() -> Model:
    return resolve_model("digits-mlp")[0]


def test_what_came_to_its_end_leaves_no_mark(model: Model) -> None:
    with marked(model, 2) as marker:
        assert interrupted(model, 2) is not None
        profile_model(model, 2, progress=marker.reached)
    assert interrupted(model, 2) is None


def test_what_was_cancelled_leaves_one_with_its_share(model: Model) -> None:
    cancel = threading.Event()

    def reached(share: float) -> None:
        marker.reached(share)
        cancel.set()

    with pytest.raises(Cancelled), marked(model, 2) as marker:
        profile_model(model, 2, progress=reached, cancel=cancel)
    found = interrupted(model, 2)
    assert found is not None
    assert (found.batch, found.share, found.model) == (2, 0.3, model.sha256)
    assert interrupted(model, 3) is None


def test_an_error_is_told_and_leaves_none(model: Model) -> None:
    with pytest.raises(ValueError, match="boom"), marked(model, 2):
        raise ValueError("boom")
    assert interrupted(model, 2) is None


def test_one_that_goes_on_elsewhere_is_not_interrupted_until_its_program_is_gone(model: Model) -> None:
    with pytest.raises(Cancelled), marked(model, 2) as marker:
        raise Cancelled("")
    path, mark = marker._path, msgspec.json.decode(marker._path.read_bytes(), type=ProfileMark)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        path.write_bytes(msgspec.json.encode(msgspec.structs.replace(mark, process=other.pid, when=mark.when + 60)))
        assert interrupted(model, 2) is None
        other.communicate(b"\n")
    assert interrupted(model, 2) is not None


def test_a_damaged_mark_counts_as_none(model: Model) -> None:
    with pytest.raises(Cancelled), marked(model, 2) as marker:
        raise Cancelled("")
    marker._path.write_text("{")
    assert interrupted(model, 2) is None
