"""The decisions: pure functions of configuration, state and changes."""
