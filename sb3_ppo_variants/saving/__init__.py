"""Saved models: checks of their files, and a way to read them without pickles."""
