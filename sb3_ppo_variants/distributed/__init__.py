"""Training in several processes: who they are, what they exchange, and what of a run there is only once."""

from sb3_ppo_variants.distributed.ranks import RankFailedError, Ranks, current_ranks

__all__ = ["RankFailedError", "Ranks", "current_ranks"]
