"""The subcommands of `shardboard`, one module each; what they need is imported when they run."""
