"""Parses the configuration from environment variables, once."""
