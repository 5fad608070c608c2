"""Small immutable values that everything else is built from."""
