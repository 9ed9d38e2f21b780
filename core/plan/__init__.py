"""The plan form, one module per strategy, and the compiler from a model and a request to shards and routes."""
