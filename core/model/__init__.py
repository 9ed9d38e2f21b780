"""Read a model: graph, shapes, parameters, work per layer, legal cuts; the library; reference architectures."""
