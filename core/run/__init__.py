"""Jobs: sources, the coordinator, sinks, metrics, history."""
