"""The slow work behind the bridge: plain functions without Qt, each called on a worker thread.

What needs onnx or onnxruntime is imported where it is used, on the worker: the window is there a second earlier.
"""
