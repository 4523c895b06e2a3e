"""What lets the algorithms take gymnasium's vector environments as they are."""

from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from sb3_ppo_variants.arguments.signatures import HostMethods
from sb3_ppo_variants.vec_env.gymnasium_vec_env import GymnasiumVecEnv
from sb3_ppo_variants.vec_env.vector_infos import LazyInfos


class VectorEnvMixin(HostMethods):
    """Wraps a vector environment, and reads the infos of those environments only that have something to say."""

    @staticmethod
    def _wrap_env(env: Any, verbose: int = 0, monitor_wrapper: bool = True) -> VecEnv:
        if isinstance(env, VectorEnv):
            if verbose >= 1:
                print("Wrapping the vector env in a GymnasiumVecEnv.")
            env = GymnasiumVecEnv(env)
        return OnPolicyAlgorithm._wrap_env(env, verbose, monitor_wrapper)

    def _update_info_buffer(self, infos: list[dict[str, Any]], dones: np.ndarray[Any, Any] | None = None) -> None:
        if isinstance(infos, LazyInfos) and dones is not None:
            infos, dones = [infos[i] for i in np.flatnonzero(dones)], dones[dones]
        super()._update_info_buffer(infos, dones)


__all__ = ["VectorEnvMixin"]
