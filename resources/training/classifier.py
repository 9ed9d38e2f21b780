"""The digits data set and one training loop for every network that classifies it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

SEED = 7
Array = np.ndarray[Any, Any]


class Digits(NamedTuple):
    """Images as uint8 (items, 8, 8), 0 black to 255 white, and their labels (items,), int64."""

    train_images: Array
    train_labels: Array
    test_images: Array
    test_labels: Array


def digits() -> Digits:
    """scikit-learn's 1,797 digits as 8-bit pixels, a quarter of them held out, evenly over the ten digits."""
    data = load_digits()
    pixels = np.round(data.images * (255 / 16)).astype(np.uint8)
    parts = train_test_split(pixels, data.target, test_size=0.25, random_state=SEED, stratify=data.target)
    return Digits(parts[0], parts[2], parts[1], parts[3])


def to_float(images: Array) -> Array:
    """uint8 pixels -> float32 in 0 ... 1, the same shape."""
    return (images.astype(np.float32) / np.float32(255)).astype(np.float32)


def add_noise(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A batch of images with a little noise of its own, so that a small data set is not learnt by heart."""
    return images + 0.1 * torch.randn(images.shape, generator=generator)


def train_classifier(
    network: nn.Module,
    images: Array,
    labels: Array,
    *,
    epochs: int,
    shape: Callable[[torch.Tensor], torch.Tensor],
    rate: float = 3e-3,
) -> None:
    """Adam with a one-cycle rate; ``shape`` turns noisy images (items, 8, 8) into the network's input."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    generator = torch.Generator().manual_seed(SEED)
    x, y = torch.from_numpy(to_float(images)), torch.from_numpy(labels)
    batches = -(-len(x) // 64)
    optimiser = torch.optim.Adam(network.parameters(), lr=rate, weight_decay=1e-5)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=rate, total_steps=epochs * batches)
    network.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(x), generator=generator).split(64):
            loss = nn.functional.cross_entropy(network(shape(add_noise(x[rows], generator))), y[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    network.eval()


def array(tensor: torch.Tensor) -> Array:
    """A parameter as float32."""
    return tensor.detach().numpy().astype(np.float32)
