"""``train --vec-env subproc`` that can be told to stop."""

import numpy as np
from stable_baselines3.common.vec_env import SubprocVecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from sb3_ppo_variants.zoo.termination import TERMINATION


class InterruptibleSubprocVecEnv(SubprocVecEnv):
    """SB3's, with the same rollouts; closing it after an interruption does not wait for answers that were read."""

    def step_async(self, actions: np.ndarray) -> None:
        TERMINATION.hold()
        super().step_async(actions)

    def step_wait(self) -> VecEnvStepReturn:
        result = super().step_wait()
        TERMINATION.release()
        return result

    def close(self) -> None:
        if self.waiting and not self.closed:
            self._end_processes()
        else:
            super().close()

    def _end_processes(self) -> None:
        """End the processes in the middle of a step, some of whose answers may be read already."""
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.join(5)
            process.kill()
        for remote in self.remotes:
            remote.close()
        self.closed = True


__all__ = ["InterruptibleSubprocVecEnv"]
