"""Messages, tensor frames, keys and trust. The only package that imports zmq."""
