"""The update loop and the variants on it."""
