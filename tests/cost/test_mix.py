"""What models' time is made of."""

from __future__ import annotations

import pytest

from core.cost.balance import estimated_profile
from core.cost.mix import mix_of
from core.cost.types import Profile
from core.errors import PlanError
from core.model.library import open_entry
from tests.plan.models import chain


def test_the_parts_of_the_time() -> None:
    model = chain(2)  # product, relu, product, relu
    profile = Profile(model.sha256, 8, 1, (3.0, 1.0, 5.0, 1.0), 10.0)
    found = mix_of(model, profile)
    assert (found.gemm, found.convolution, found.elementwise) == pytest.approx((0.8, 0.0, 0.2))


def test_a_product_of_few_rows_waits_for_memory() -> None:
    model = chain(2)
    assert mix_of(model, Profile(model.sha256, 1, 1, (1.0,) * 4, 4.0)).gemm == 0.0


@pytest.mark.parametrize(("name", "kind"), [("digits-cnn", "convolution"), ("lstm", "gemm")])
def test_models_are_what_they_are_called_for(name: str, kind: str) -> None:
    model = open_entry(name)
    batch = model.fixed_batch or 8
    found = mix_of(model, estimated_profile(model, batch))
    assert found.gemm + found.convolution + found.elementwise == pytest.approx(1)
    assert getattr(found, kind) > 0.5


def test_a_profile_of_another_model() -> None:
    with pytest.raises(PlanError, match="another model"):
        mix_of(chain(3), Profile(chain(3).sha256, 8, 1, (1.0,), 1.0))
