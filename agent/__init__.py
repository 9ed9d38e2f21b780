"""The agent, the daemon of a node: holds shards and routes, runs a shard when its inputs came, sends outputs on."""
