from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

import core.cost.profile as measuring
from core.cost.balance import estimated_profile
from core.cost.clock import compute_clock
from core.cost.profile import profile_model, segment_cuts
from core.cost.segments import MOST_RUNS
from core.errors import Cancelled, DoesNotFitError
from core.model import reference
from core.model.reader import open_model
from core.model.session import start_session
from tests.counting import Asked
from tests.plan.models import chain, skipping


def test_layers_add_up_to_the_whole() -> None:
    model = chain(6, width=256)
    profile = profile_model(model, 32)
    assert profile.model == model.sha256
    assert (profile.batch, profile.threads) == (32, 1)
    assert len(profile.layer_seconds) == len(model.layers(32))
    assert min(profile.layer_seconds) > 0
    assert sum(profile.layer_seconds) == pytest.approx(profile.total_seconds)
    assert profile.base_bytes > 20 << 20


def test_products_take_longer_than_their_relu() -> None:
    profile = profile_model(chain(6, width=512), 64)
    products, relus = np.array(profile.layer_seconds).reshape(6, 2).T
    assert np.median(products) > 2 * np.median(relus)


def test_the_total_is_the_time_of_the_whole_model() -> None:
    model = chain(6, width=512)
    profile = profile_model(model, 64)
    session = start_session(model.ir, threads=1)
    feed = model.random_feed(64)
    clock, taken = compute_clock(1), []
    for _ in range(15):
        begun = clock()
        session.run(None, feed)
        taken.append(clock() - begun)
    assert 0.3 * min(taken) < profile.total_seconds < 3 * min(taken)


def test_a_model_of_microseconds_is_not_cut_to_be_timed() -> None:
    """One session for all of it, that runs no longer than the figure asks for."""
    model = skipping()
    guess = np.array(estimated_profile(model, 2).layer_seconds)
    assert segment_cuts(model, 2, guess, 1e-5) == []
    asked = Asked()
    profile_model(model, 2, cancel=asked)
    assert asked.count < 3 * MOST_RUNS, "it is asked before every run"


def test_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = chain(2)
    first = profile_model(model, 4)
    monkeypatch.setattr(measuring, "_measure", None)
    assert profile_model(model, 4) == first
    with pytest.raises(TypeError):
        profile_model(model, 8)


def test_a_damaged_cache_is_measured_again(own_home: Path) -> None:
    model = chain(2)
    profile_model(model, 4)
    (path,) = (own_home / "cache" / "profiles").iterdir()
    path.write_bytes(b"{")
    assert len(profile_model(model, 4).layer_seconds) == 4


def test_a_batch_that_this_machine_has_no_memory_for_is_refused_before_it_is_made() -> None:
    with pytest.raises(DoesNotFitError, match=r"cannot be timed in micro-batches of 9999999999: that takes .* free"):
        profile_model(chain(2), 9_999_999_999)


def test_it_can_be_stopped() -> None:
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(Cancelled):
        profile_model(chain(2), 3, cancel=cancel)


def test_it_says_how_far_it_is() -> None:
    seen: list[float] = []
    profile_model(chain(4), 5, progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


@pytest.mark.slow
def test_segments_of_a_real_model(tmp_path: Path) -> None:
    """MobileNetV2: its stages timed in sessions of their own agree with what the layers add up to."""
    model = open_model(reference.build("mobilenetv2", tmp_path / "mobilenetv2.onnx"))
    profile = profile_model(model, 1)
    seconds = np.array(profile.layer_seconds)
    by_op: dict[str, float] = {}
    for layer in model.layers(1):
        by_op[layer.op] = by_op.get(layer.op, 0.0) + seconds[layer.index]
    assert by_op["Conv"] > 0.5 * profile.total_seconds
