"""Container registries: the client, its host rules, and pull secrets."""
