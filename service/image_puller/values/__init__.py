"""Small immutable values that all other packages use."""
