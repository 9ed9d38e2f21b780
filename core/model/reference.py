"""Well-known architectures with seeded random weights, for performance work: what they compute means nothing.

| key | inputs | outputs | parameters |
| --- | --- | --- | --- |
| resnet50 | image float32 (batch, 3, 224, 224) | logits (batch, 1000) | 25.5 M |
| mobilenetv2 | image float32 (batch, 3, 224, 224) | logits (batch, 1000) | 3.5 M |
| bert-base | input_ids, attention_mask, token_type_ids int64 (batch, sequence) | last_hidden_state (batch, sequence, 768), pooler_output (batch, 768) | 109 M |
| gpt2 | input_ids int64 (batch, sequence) | logits (batch, sequence, 50257) | 163 M, the tied head counted twice |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

import onnx
from msgspec import Struct

from core.errors import ModelError
from core.model.reference_graph import GraphWriter, write_model
from core.model.reference_language import bert_base, gpt2_small
from core.model.reference_vision import mobilenetv2, resnet50
from core.units import format_bytes
