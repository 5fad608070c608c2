"""Decodes requests to events: one module for each registry, and CloudEvents."""
