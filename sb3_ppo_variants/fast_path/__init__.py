"""Pieces that replace the ordinary code of an update or a rollout where they give the same numbers faster."""
