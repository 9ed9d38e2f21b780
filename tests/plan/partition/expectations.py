"""Which divisions of which models are refused, and why; and how far the others come at least."""

from __future__ import annotations

from collections.abc import Mapping

NO_ROWS = r"^No input has rows of an image or positions of a sequence to divide"
NO_COLUMNS = r"^No input has columns of an image to divide"
RECURRENT = r"^Nothing of this model can be divided .* \((RNN|LSTM)\): it "
"""One direction cannot be shared out, nor can the steps of a recurrence."""
NOTHING = r"^Nothing of this model can be divided"
IDLE = r"ank \d would have nothing to do"
"""There is less to share than nodes."""
TOO_FEW = r"^Input '.*' has 1 row, which 2 nodes cannot share"
ONE_ITEM = r"^A micro-batch of 1 item cannot be shared by 2 nodes"
"""The batch is not axis 0 where the model is cut."""

REFUSED: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "digits-mlp": {
        NO_ROWS: ("pipeline > spatial", "tensor > spatial"),
    },
    "linear-regression": {
        NOTHING: ("tensor 3 columns",),
        NO_ROWS: ("spatial 2", "spatial 3", "spatial 4", "pipeline > spatial", "tensor > spatial", "spatial > tensor"),
        NO_COLUMNS: ("spatial 2 columns", "spatial 3 columns"),
        IDLE: ("pipeline > tensor",),
    },
    "logistic-regression": {
        IDLE: ("tensor 3 columns", "tensor > pipeline"),
        NO_ROWS: ("spatial 2", "spatial 3", "spatial 4", "pipeline > spatial", "tensor > spatial", "spatial > tensor"),
        NO_COLUMNS: ("spatial 2 columns", "spatial 3 columns"),
    },
    "lstm": {
        RECURRENT: ("spatial 2", "spatial 3", "spatial 4", "pipeline > spatial"),
        NO_COLUMNS: ("spatial 2 columns", "spatial 3 columns"),
    },
    "rnn": {
        RECURRENT: ("spatial 2", "spatial 3", "spatial 4", "pipeline > spatial"),
        NO_COLUMNS: ("spatial 2 columns", "spatial 3 columns"),
    },
    "bert-base": {
        NO_COLUMNS: ("spatial 2 columns", "spatial 3 columns"),
    },
    "gpt2": {
        NO_COLUMNS: ("spatial 2 columns", "spatial 3 columns"),
    },
    "light_bvlc_alexnet": {
        ONE_ITEM: ("pipeline > replicate",),
    },
    "light_densenet121": {
        ONE_ITEM: ("pipeline > replicate",),
    },
    "light_inception_v1": {
        ONE_ITEM: ("pipeline > replicate",),
    },
    "light_inception_v2": {
        ONE_ITEM: ("pipeline > replicate",),
    },
    "light_resnet50": {
        ONE_ITEM: ("pipeline > replicate",),
    },
    "light_shufflenet": {
        ONE_ITEM: ("pipeline > replicate",),
    },
    "light_squeezenet": {
        ONE_ITEM: ("pipeline > replicate",),
    },
    "light_vgg19": {
        ONE_ITEM: ("pipeline > replicate",),
    },
    "light_zfnet512": {
        ONE_ITEM: ("pipeline > replicate",),
    },
    "exported lstm": {
        RECURRENT: ("spatial 2", "spatial 3", "spatial 4"),
        NO_COLUMNS: ("spatial 2 columns", "spatial 3 columns"),
    },
    "exported lstm-state": {
        RECURRENT: (
            "tensor 2",
            "tensor 3",
            "tensor 4",
            "tensor 3 rows",
            "tensor 3 columns",
            "pipeline > tensor",
            "replicate > tensor",
            "pipeline > replicate",
            "tensor > pipeline",
            "tensor > tensor",
        ),
        NOTHING: ("spatial 2", "spatial 3", "spatial 4", "pipeline > spatial", "tensor > spatial", "spatial > tensor"),
        NO_COLUMNS: ("spatial 2 columns", "spatial 3 columns"),
    },
    "exported bert": {
        NO_COLUMNS: ("spatial 2 columns", "spatial 3 columns"),
    },
    "exported gpt2": {
        NO_COLUMNS: ("spatial 2 columns", "spatial 3 columns"),
    },
    "exported gpt2-past": {
        NO_COLUMNS: ("spatial 2 columns", "spatial 3 columns"),
    },
    "exported llama": {
        NO_COLUMNS: ("spatial 2 columns", "spatial 3 columns"),
    },
    "exported decoder": {
        NO_ROWS: ("spatial 2", "spatial 3", "spatial 4", "pipeline > spatial", "spatial > tensor"),
        NO_COLUMNS: ("spatial 2 columns", "spatial 3 columns"),
    },
    "exported encoder": {
        NO_COLUMNS: ("spatial 2 columns", "spatial 3 columns"),
    },
    "exported lstm-old": {
        RECURRENT: ("spatial 2", "spatial 3", "spatial 4"),
        NO_COLUMNS: ("spatial 2 columns", "spatial 3 columns"),
    },
    "exported lstm-state-old": {
        RECURRENT: (
            "tensor 2",
            "tensor 3",
            "tensor 4",
            "tensor 3 rows",
            "tensor 3 columns",
            "spatial 2",
            "spatial 3",
            "spatial 4",
            "pipeline > tensor",
            "replicate > tensor",
            "pipeline > replicate",
            "tensor > spatial",
            "spatial > tensor",
            "tensor > pipeline",
            "tensor > tensor",
        ),
        NO_COLUMNS: ("spatial 2 columns", "spatial 3 columns"),
        TOO_FEW: ("pipeline > spatial",),
    },
    "exported bert-old": {
        NO_COLUMNS: ("spatial 2 columns", "spatial 3 columns"),
    },
    "exported gpt2-old": {
        NO_COLUMNS: ("spatial 2 columns", "spatial 3 columns"),
    },
    "exported gpt2-past-old": {
        NO_COLUMNS: ("spatial 2 columns", "spatial 3 columns"),
    },
    "exported llama-old": {
        NO_COLUMNS: ("spatial 2 columns", "spatial 3 columns"),
    },
    "exported decoder-old": {
        NO_ROWS: ("spatial 2", "spatial 3", "spatial 4", "pipeline > spatial", "spatial > tensor"),
        NO_COLUMNS: ("spatial 2 columns", "spatial 3 columns"),
    },
    "exported encoder-old": {
        NO_COLUMNS: ("spatial 2 columns", "spatial 3 columns"),
    },
    "exported mlp-qdq": {
        NO_ROWS: ("spatial 2", "spatial 3", "spatial 4", "pipeline > spatial", "tensor > spatial", "spatial > tensor"),
        NO_COLUMNS: ("spatial 2 columns", "spatial 3 columns"),
    },
    "exported mlp-old-dynamic": {
        NO_ROWS: ("spatial 2", "spatial 3", "spatial 4", "pipeline > spatial", "tensor > spatial", "spatial > tensor"),
        NO_COLUMNS: ("spatial 2 columns", "spatial 3 columns"),
        NOTHING: ("pipeline > replicate",),
    },
    "exported encoder-old-dynamic": {
        NO_COLUMNS: ("spatial 2 columns", "spatial 3 columns"),
    },
}
"""Model -> why -> ways; every other one must work."""
LEAST: Mapping[str, Mapping[str, float]] = {
    "digits-mlp": {
        "spatial 2": 0.47,
        "spatial 3": 0.47,
        "spatial 4": 0.47,
        "spatial 2 columns": 0.47,
        "spatial 3 columns": 0.47,
    },
    "logistic-regression": {
        "tensor 2": 0.49,
        "tensor 3": 0.49,
        "tensor 4": 0.49,
        "tensor 3 rows": 0.49,
        "pipeline > tensor": 0.49,
        "replicate > tensor": 0.49,
        "tensor > tensor": 0.49,
    },
    "lstm": {
        "tensor 2": 0.002,
        "tensor 3": 0.002,
        "tensor 4": 0.002,
        "tensor 3 rows": 0.002,
        "tensor 3 columns": 0.002,
        "pipeline > tensor": 0.002,
        "replicate > tensor": 0.002,
        "tensor > spatial": 0.002,
        "spatial > tensor": 0.002,
        "tensor > pipeline": 0.002,
        "tensor > tensor": 0.002,
    },
    "rnn": {
        "tensor 2": 0.017,
        "tensor 3": 0.017,
        "tensor 4": 0.017,
        "tensor 3 rows": 0.017,
        "tensor 3 columns": 0.017,
        "pipeline > tensor": 0.017,
        "replicate > tensor": 0.017,
        "tensor > spatial": 0.018,
        "spatial > tensor": 0.018,
        "tensor > pipeline": 0.017,
        "tensor > tensor": 0.017,
    },
    "light_shufflenet": {
        "tensor 2": 0.94,
        "tensor 3 columns": 0.93,
        "replicate > tensor": 0.94,
        "tensor > spatial": 0.94,
        "tensor > pipeline": 0.94,
    },
    "exported vit": {"tensor 3 rows": 0.88, "tensor 3 columns": 0.9},
    "exported lstm": {"pipeline > spatial": 0.035},
    "exported bert": {"tensor 3 rows": 0.91},
    "exported gpt2": {"tensor 3 rows": 0.81},
    "exported gpt2-past": {"tensor 3 rows": 0.78},
    "exported llama": {"tensor 3 rows": 0.9},
    "exported decoder": {"tensor 3 rows": 0.94},
    "exported encoder": {
        "tensor 2": 0.87,
        "tensor 3": 0.87,
        "tensor 4": 0.87,
        "tensor 3 rows": 0.86,
        "tensor 3 columns": 0.87,
        "pipeline > tensor": 0.85,
        "replicate > tensor": 0.87,
        "pipeline > spatial": 0.87,
        "pipeline > replicate": 0.87,
        "tensor > pipeline": 0.87,
        "tensor > tensor": 0.87,
    },
    "exported vit-old": {"tensor 3 rows": 0.86},
    "exported lstm-old": {"pipeline > spatial": 0.035},
    "exported bert-old": {"tensor 3 rows": 0.89},
    "exported gpt2-old": {"tensor 3 rows": 0.82},
    "exported gpt2-past-old": {"tensor 3 rows": 0.78},
    "exported llama-old": {"tensor 3 rows": 0.9},
    "exported decoder-old": {"tensor 3 rows": 0.94},
    "exported encoder-old": {
        "tensor 2": 0.88,
        "tensor 3": 0.87,
        "tensor 4": 0.88,
        "tensor 3 rows": 0.82,
        "tensor 3 columns": 0.88,
        "pipeline > tensor": 0.86,
        "replicate > tensor": 0.88,
        "pipeline > spatial": 0.87,
        "pipeline > replicate": 0.87,
        "tensor > pipeline": 0.88,
        "tensor > tensor": 0.88,
    },
    "exported mlp-qdq": {
        "tensor 2": 0.73,
        "tensor 3": 0.73,
        "tensor 4": 0.73,
        "tensor 3 rows": 0.7,
        "tensor 3 columns": 0.74,
        "pipeline > tensor": 0.73,
        "replicate > tensor": 0.73,
        "pipeline > replicate": 0.75,
        "tensor > pipeline": 0.73,
        "tensor > tensor": 0.73,
    },
    "exported mlp-old-dynamic": {"tensor 3 rows": 0.87, "pipeline > tensor": 0.93},
    "exported encoder-old-dynamic": {
        "tensor 2": 0.87,
        "tensor 3": 0.87,
        "tensor 4": 0.87,
        "tensor 3 rows": 0.77,
        "tensor 3 columns": 0.87,
        "spatial 2": 0.49,
        "spatial 3": 0.49,
        "spatial 4": 0.49,
        "pipeline > tensor": 0.85,
        "replicate > tensor": 0.87,
        "pipeline > spatial": 0.36,
        "pipeline > replicate": 0.36,
        "tensor > spatial": 0.92,
        "spatial > tensor": 0.92,
        "tensor > pipeline": 0.87,
        "tensor > tensor": 0.87,
    },
}
"""Model -> way -> part of the multiply-adds that is divided at least, where 0.95 is not reached."""
UNEVEN: Mapping[str, float] = {
    "lstm": 0.87,
    "rnn": 0.78,
    "light_bvlc_alexnet": 0.12,
    "light_shufflenet": 0.26,
    "exported lstm": 0.15,
    "exported llama": 0.19,
    "exported lstm-old": 0.15,
    "exported llama-old": 0.19,
}
"""Model -> part of all weights that a node may hold beyond its share of the work under tensor."""
