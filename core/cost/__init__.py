"""Measure layers and nodes; predict what a plan will cost."""
