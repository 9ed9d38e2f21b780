"""linear-regression (diabetes) and logistic-regression (breast cancer): the two smallest models that mean something.

    python -m resources.training.tabular [OUTDIR]

``linear-regression`` takes ``features`` float32 (batch, 10), as scikit-learn scales them, and gives ``progression``
float32 (batch, 1): the disease's progression after a year. ``logistic-regression`` takes ``features`` float32
(batch, 30), measurements of cell nuclei in their own units, and gives ``probabilities`` float32 (batch, 2):
malignant, benign.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import r2_score
from sklearn.model_selection import train_test_split

from resources.training.classifier import SEED, Array
from resources.training.graph import GraphBuilder, accuracy, output_folder, run_model


def write_samples(folder: Path, key: str, features: Array, expected: Array) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / f"{key}.npz", features=features)
    np.save(folder / f"{key}.expected.npy", expected)


def linear_regression(outdir: Path) -> None:
    x, y = load_diabetes(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(
        x.astype(np.float32), y.astype(np.float32), test_size=0.25, random_state=SEED
    )
    fitted = LinearRegression().fit(x_train, y_train)
    graph = GraphBuilder("linear-regression", "Linear regression: progression of diabetes from ten measurements.")
    features = graph.input("features", ["batch", 10])
    weights = {"weight": fitted.coef_.astype(np.float32)[:, None]}
    product = graph.node("MatMul", "weigh", [features], weights=weights)
    bias = {"bias": np.array([fitted.intercept_], np.float32)}
    graph.node("Add", "shift", [product], weights=bias, outputs=["progression"])
    path = graph.save(outdir / "models" / "linear-regression.onnx", {"progression": ["batch", 1]})
    predicted = run_model(path, {"features": x_test})[:, 0]
    print(f"linear-regression: held-out R² {r2_score(y_test, predicted):.3f} of {len(y_test)} patients")
    write_samples(outdir / "samples", "linear-regression", x_test, y_test)


def logistic_regression(outdir: Path) -> None:
    x, y = load_breast_cancer(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(
        x.astype(np.float32), y, test_size=0.25, random_state=SEED, stratify=y
    )
    mean, std = x_train.mean(axis=0), x_train.std(axis=0)
    fitted = LogisticRegression(C=0.5, max_iter=1000).fit((x_train - mean) / std, y_train)
    graph = GraphBuilder("logistic-regression", "Logistic regression: is a breast tumour malignant or benign.")
    value = graph.input("features", ["batch", 30])
    value = graph.node("Sub", "centre", [value], weights={"mean": mean})
    value = graph.node("Div", "scale", [value], weights={"std": std})
    half = fitted.coef_.astype(np.float32).T / 2
    weights = {
        "weight": np.concatenate([-half, half], axis=1),
        "bias": np.array([-fitted.intercept_[0], fitted.intercept_[0]], np.float32) / 2,
    }
    value = graph.node("Gemm", "logits", [value], weights=weights)
    graph.node("Softmax", "softmax", [value], outputs=["probabilities"], axis=1)
    path = graph.save(outdir / "models" / "logistic-regression.onnx", {"probabilities": ["batch", 2]})
    share = accuracy(path, {"features": x_test}, y_test)
    print(f"logistic-regression: held-out accuracy {share:.2%} of {len(y_test)} tumours")
    write_samples(outdir / "samples", "logistic-regression", x_test, y_test)


def main() -> None:
    outdir = output_folder()
    linear_regression(outdir)
    logistic_regression(outdir)


if __name__ == "__main__":
    main()
