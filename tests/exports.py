"""Real exports of small models by PyTorch: what files look like that people bring.

``export(name, folder)`` builds one of ``NAMES`` or ``QUANTISED`` with seeded weights, exports it with a dynamic batch
(and sequence) and returns its path and a sample feed. A model that is in the folder already is not built again, so one
folder per test session is a cache. Needs torch, onnxscript and, for the language models, transformers: ``missing()``
says what lacks.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import torch


class Export(NamedTuple):
    name: str
    path: Path
    feed: dict[str, np.ndarray]
    """Three items."""


class _Recipe(NamedTuple):
    module: torch.nn.Module
    feed: dict[str, torch.Tensor]
    outputs: list[str]
    dynamic: dict[str, dict[int, str]]
    """Input or output name -> axis -> name of the dynamic dimension."""
    args: tuple[Any, ...] | None = None
    """What the module is called with, where that is not simply the feed's values in order."""
    shapes: Any = None
    """torch.export's dynamic_shapes, where ``dynamic`` does not say it."""


def missing() -> str:
    """Why exports cannot be made here, "" where they can."""
    lacking = [name for name in ("torch", "onnxscript", "transformers") if importlib.util.find_spec(name) is None]
    return f"needs {', '.join(lacking)}: pip install 'shardboard[exports]'" if lacking else ""


def export(name: str, folder: Path) -> Export:
    """``name``: those that end in "-old" go through the exporter that traces TorchScript."""
    path, sample = folder / f"{name}.onnx", folder / f"{name}.npz"
    if name in QUANTISED and not sample.exists():
        return _quantised(name, folder)
    if not sample.exists():
        base, old = name.removesuffix("-old"), name.endswith("-old")
        import torch

        torch.manual_seed(7)
        with _quiet():
            recipe = _RECIPES[base]()
            recipe.module.eval()
            (_export_old if old else _export_new)(recipe, path)
        np.savez(sample, **{key: value.numpy() for key, value in recipe.feed.items()})
    with np.load(sample) as arrays:
        return Export(name, path, dict(arrays))


def _quantised(name: str, folder: Path) -> Export:
    from onnxruntime import quantization

    base, _, how = name.rpartition("-")
    plain = export(base, folder)
    path = folder / f"{name}.onnx"

    class Samples(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._left = [plain.feed]

        def get_next(self) -> dict[str, np.ndarray] | None:
            return self._left.pop() if self._left else None

    with _quiet():
        if how == "qdq":
            quantization.quantize_static(plain.path, path, Samples(), per_channel=True)
        else:
            quantization.quantize_dynamic(plain.path, path)
    np.savez(folder / f"{name}.npz", **plain.feed)
    return Export(name, path, plain.feed)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporters talk and warn a lot, about themselves."""
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


def _export_new(recipe: _Recipe, path: Path) -> None:
    import torch

    batch = torch.export.Dim.DYNAMIC
    shapes = recipe.shapes or tuple(dict.fromkeys(recipe.dynamic.get(name, {}), batch) for name in recipe.feed)
    torch.onnx.export(
        recipe.module,
        recipe.args or tuple(recipe.feed.values()),
        str(path),
        input_names=list(recipe.feed),
        output_names=recipe.outputs,
        dynamic_shapes=shapes,
        dynamo=True,
        verbose=False,
    )


def _export_old(recipe: _Recipe, path: Path) -> None:
    import torch

    torch.onnx.export(
        recipe.module,
        recipe.args or tuple(recipe.feed.values()),
        str(path),
        input_names=list(recipe.feed),
        output_names=recipe.outputs,
        dynamic_axes=recipe.dynamic,
        opset_version=17,
        dynamo=False,
    )


def _image(*shape: int) -> torch.Tensor:
    import torch

    return torch.randn(*shape)


def _one_input(module: torch.nn.Module, feed: torch.Tensor) -> _Recipe:
    return _Recipe(module, {"x": feed}, ["y"], {"x": {0: "batch"}, "y": {0: "batch"}})


def _resnet() -> _Recipe:
    from torch import nn

    class Block(nn.Module):
        def __init__(self, width: int, out: int, stride: int) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(width, out, 3, stride, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(out)
            self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(out)
            self.down = nn.Conv2d(width, out, 1, stride) if stride > 1 or width != out else nn.Identity()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.bn1(self.conv1(x)).relu()
            return (self.bn2(self.conv2(y)) + self.down(x)).relu()

    blocks = [Block(8, 8, 1), Block(8, 16, 2), Block(16, 16, 1), Block(16, 32, 2)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10)]
    return _one_input(nn.Sequential(nn.Conv2d(3, 8, 3, 1, 1), *blocks, *head), _image(3, 3, 32, 32))


def _mobilenet() -> _Recipe:
    from torch import nn

    class Inverted(nn.Module):
        def __init__(self, width: int, out: int, stride: int) -> None:
            super().__init__()
            hidden = 4 * width
            self.keeps = stride == 1 and width == out
            self.body = nn.Sequential(
                nn.Conv2d(width, hidden, 1), nn.BatchNorm2d(hidden), nn.ReLU6(),
                nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden), nn.BatchNorm2d(hidden), nn.ReLU6(),
                nn.Conv2d(hidden, out, 1), nn.BatchNorm2d(out),
            )  # fmt: skip

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.body(x)
            return x + y if self.keeps else y

    blocks = [Inverted(8, 8, 1), Inverted(8, 16, 2), Inverted(16, 16, 1)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(16, 10)]
    return _one_input(nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), *blocks, *head), _image(3, 3, 32, 32))


def _unet() -> _Recipe:
    import torch
    from torch import nn

    def double(width: int, out: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(width, out, 3, 1, 1), nn.ReLU(), nn.Conv2d(out, out, 3, 1, 1), nn.ReLU())

    class UNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.enter, self.down1, self.down2 = double(3, 8), double(8, 16), double(16, 32)
            self.pool = nn.MaxPool2d(2)
            self.up2, self.up1 = nn.ConvTranspose2d(32, 16, 2, 2), nn.ConvTranspose2d(16, 8, 2, 2)
            self.join2, self.join1, self.leave = double(32, 16), double(16, 8), nn.Conv2d(8, 2, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            a = self.enter(x)
            b = self.down1(self.pool(a))
            c = self.down2(self.pool(b))
            b = self.join2(torch.cat([self.up2(c), b], 1))
            return self.leave(self.join1(torch.cat([self.up1(b), a], 1)))

    return _one_input(UNet(), _image(3, 3, 32, 32))


def _vit() -> _Recipe:
    import torch
    from torch import nn

    class Attention(nn.Module):
        def __init__(self, width: int, heads: int) -> None:
            super().__init__()
            self.heads, self.qkv, self.out = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            b, n, w = x.shape
            q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, w // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
            y = nn.functional.scaled_dot_product_attention(q, k, v)
            return self.out(y.transpose(1, 2).reshape(b, n, w))

    class Block(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.norm1, self.attention, self.norm2 = nn.LayerNorm(width), Attention(width, 4), nn.LayerNorm(width)
            self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = x + self.attention(self.norm1(x))
            return x + self.mlp(self.norm2(x))

    class ViT(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patch = nn.Conv2d(3, 32, 8, 8)
            self.token = nn.Parameter(torch.randn(1, 1, 32))
            self.position = nn.Parameter(torch.randn(1, 17, 32))
            self.blocks = nn.ModuleList(Block(32) for _ in range(3))
            self.head = nn.Linear(32, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.patch(x).flatten(2).transpose(1, 2)
            x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.position
            for block in self.blocks:
                x = block(x)
            return self.head(x[:, 0])

    return _one_input(ViT(), _image(3, 3, 32, 32))


def _lstm() -> _Recipe:
    from torch import nn

    class Tagger(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(50, 16)
            self.lstm = nn.LSTM(16, 12, num_layers=2, bidirectional=True, batch_first=True)
            self.head = nn.Linear(24, 5)

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            return self.head(self.lstm(self.embed(ids))[0])

    return _Recipe(
        Tagger(),
        {"ids": _ids(50, 3, 9)},
        ["tags"],
        {"ids": {0: "batch", 1: "sequence"}, "tags": {0: "batch", 1: "sequence"}},
    )


def _lstm_state() -> _Recipe:
    """Its states have the batch on axis 1: the items cannot be told apart by axis 0."""
    import torch
    from torch import nn

    class Stateful(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(6, 8, num_layers=2, batch_first=True)

        def forward(self, x: torch.Tensor, h: torch.Tensor, c: torch.Tensor) -> tuple[torch.Tensor, ...]:
            y, (h, c) = self.lstm(x, (h, c))
            return y, h, c

    feed = {"x": torch.randn(3, 5, 6), "h": torch.randn(2, 3, 8), "c": torch.randn(2, 3, 8)}
    axes = {"x": {0: "batch"}, "h": {1: "batch"}, "c": {1: "batch"}, "y": {0: "batch"}, "hn": {1: "batch"}}
    return _Recipe(Stateful(), feed, ["y", "hn", "cn"], {**axes, "cn": {1: "batch"}})


def _mlp() -> _Recipe:
    from torch import nn

    layers = [nn.Linear(20, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, 10)]
    return _one_input(nn.Sequential(*layers), _image(3, 20))


def _decoder() -> _Recipe:
    """From a code to a picture: transposed convolutions, group normalisation, nearest-neighbour enlarging."""
    from torch import nn

    def enlarge(width: int, out: int) -> nn.Sequential:
        return nn.Sequential(nn.ConvTranspose2d(width, out, 4, 2, 1), nn.GroupNorm(4, out), nn.SiLU())

    class Decoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.enter = nn.Linear(10, 32 * 16)
            self.up1, self.up2 = enlarge(32, 16), enlarge(16, 8)
            self.last = nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(8, 3, 3, 1, 1), nn.Tanh())

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.last(self.up2(self.up1(self.enter(x).reshape(-1, 32, 4, 4))))
            return y

    return _one_input(Decoder(), _image(3, 10))


def _encoder() -> _Recipe:
    """PyTorch's own attention layers."""
    import torch
    from torch import nn

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, activation="gelu", norm_first=True)
            self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
            self.head = nn.Linear(32, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.head(self.layers(x).mean(1))
            return y

    return _one_input(Encoder(), torch.randn(3, 9, 32))


def _ids(bound: int, *shape: int) -> torch.Tensor:
    import torch

    return torch.randint(0, bound, shape)


_BATCH_SEQUENCE = {0: "batch", 1: "sequence"}


def _language(model: Any, feed: dict[str, Any], output: str) -> _Recipe:
    """A transformers model that takes the feed by keyword and gives one tensor."""
    import torch

    names = list(feed)

    class Plain(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *args: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.model(**dict(zip(names, args, strict=True)), return_dict=True)[output]
            return found

    dynamic = dict.fromkeys((*names, output), _BATCH_SEQUENCE)
    axes = dict.fromkeys(_BATCH_SEQUENCE, torch.export.Dim.DYNAMIC)
    return _Recipe(Plain(), feed, [output], dynamic, shapes=(tuple(axes for _ in names),))


def _bert() -> _Recipe:
    import torch
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=100, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=64,
        max_position_embeddings=64, attn_implementation="eager",
    )  # fmt: skip
    mask = torch.ones(3, 12, dtype=torch.int64)
    mask[1, 8:] = 0
    feed = {"input_ids": _ids(100, 3, 12), "attention_mask": mask, "token_type_ids": _ids(2, 3, 12)}
    return _language(BertModel(config, add_pooling_layer=False), feed, "last_hidden_state")


def _gpt2_config() -> Any:
    from transformers import GPT2Config

    return GPT2Config(
        vocab_size=100, n_positions=64, n_embd=32, n_layer=3, n_head=4, attn_implementation="eager", use_cache=False,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip


def _gpt2() -> _Recipe:
    import torch
    from transformers import GPT2LMHeadModel

    feed = {"input_ids": _ids(100, 3, 12), "attention_mask": torch.ones(3, 12, dtype=torch.int64)}
    return _language(GPT2LMHeadModel(_gpt2_config()), feed, "logits")


def _llama() -> _Recipe:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=100, hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, attn_implementation="eager", use_cache=False,
    )  # fmt: skip
    feed = {"input_ids": _ids(100, 3, 12), "attention_mask": torch.ones(3, 12, dtype=torch.int64)}
    return _language(LlamaForCausalLM(config), feed, "logits")


def _gpt2_past() -> _Recipe:
    """A decoder with its cache as inputs past.N.key and outputs present.N.key."""
    import torch
    from transformers import DynamicCache, GPT2LMHeadModel

    config = _gpt2_config()
    model = GPT2LMHeadModel(config)
    layers, heads, size = config.n_layer, config.n_head, config.n_embd // config.n_head

    class Decoder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, ids: torch.Tensor, mask: torch.Tensor, *past: torch.Tensor) -> tuple[torch.Tensor, ...]:
            cache = DynamicCache()
            for layer in range(layers):
                cache.update(past[2 * layer], past[2 * layer + 1], layer)
            out = self.model(input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True)
            present = [tensor for layer in out.past_key_values.layers for tensor in (layer.keys, layer.values)]
            return out.logits, *present

    kinds = [f"{layer}.{kind}" for layer in range(layers) for kind in ("key", "value")]
    feed = {"input_ids": _ids(100, 3, 4), "attention_mask": torch.ones(3, 9, dtype=torch.int64)}
    feed |= {f"past.{kind}": torch.randn(3, heads, 5, size) for kind in kinds}
    outputs = ["logits", *(f"present.{kind}" for kind in kinds)]
    dynamic: dict[str, dict[int, str]] = {
        "input_ids": _BATCH_SEQUENCE, "attention_mask": {0: "batch", 1: "total_sequence"}, "logits": _BATCH_SEQUENCE,
        **{f"past.{kind}": {0: "batch", 2: "past_sequence"} for kind in kinds},
        **{f"present.{kind}": {0: "batch", 2: "total_sequence"} for kind in kinds},
    }  # fmt: skip
    free = torch.export.Dim.DYNAMIC
    shapes = ({0: free, 1: free}, {0: free, 1: free}, tuple({0: free, 2: free} for _ in kinds))
    return _Recipe(Decoder(), feed, outputs, dynamic, shapes=shapes)


_RECIPES: dict[str, Callable[[], _Recipe]] = {
    "resnet": _resnet,
    "mobilenet": _mobilenet,
    "unet": _unet,
    "vit": _vit,
    "lstm": _lstm,
    "lstm-state": _lstm_state,
    "bert": _bert,
    "gpt2": _gpt2,
    "gpt2-past": _gpt2_past,
    "llama": _llama,
    "decoder": _decoder,
    "encoder": _encoder,
    "mlp": _mlp,
}
NAMES = tuple(name + old for old in ("", "-old") for name in _RECIPES if name != "mlp")
QUANTISED = ("resnet-qdq", "mlp-qdq", "mlp-old-dynamic", "encoder-old-dynamic")
"""By onnxruntime, from exports: with QuantizeLinear and DequantizeLinear around everything, or with MatMulInteger."""
