"""Figures; ``sb3_ppo_variants.plots`` is their public place. matplotlib is imported when one is drawn."""
