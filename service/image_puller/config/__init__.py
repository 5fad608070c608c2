"""The configuration, parsed once from environment variables."""
