"""Discovery, node health, requests to agents, deployments."""
