"""The scripts that trained the bundled models. Each is deterministic and prints how good its model is on held-out data.

    pip install 'shardboard[training,gui]'
    python -m resources.training.digits OUTDIR        (also .sequences and .tabular)

write ``OUTDIR/models/*.onnx`` and ``OUTDIR/samples/``; without OUTDIR they renew the files of this package.
"""
