"""Operator rules by operator type ("MatMul", "com.microsoft.Attention")."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from core.plan.operators import (
    attention,
    convolution,
    elementwise,
    embedding,
    joining,
    matrix,
    normalization,
    pooling,
    quantized,
    recurrent,
    reduction,
    repeating,
    resampling,
    reshaping,
    shapes,
)
from core.plan.operators.base import LinkRule, Rule

_MODULES = (
    attention,
    convolution,
    elementwise,
    embedding,
    joining,
    matrix,
    normalization,
    pooling,
    quantized,
    recurrent,
    reduction,
    repeating,
    resampling,
    reshaping,
    shapes,
)
RULES: Final[Mapping[str, Rule]] = MappingProxyType(
    {key: rule for module in _MODULES for key, rule in module.RULES.items()}
)
LINKS: Final[Mapping[str, LinkRule]] = MappingProxyType(
    {key: link for module in _MODULES for key, link in module.LINKS.items()}
)
