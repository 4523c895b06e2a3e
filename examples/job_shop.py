"""Schedule a job shop with MaskablePPOPenalty: Fisher and Thompson's 6 x 6 instance, whose best makespan is 55.

Six jobs, each a fixed chain of six operations; every operation needs one of six machines for a given time, and a
machine does one thing at a time. The agent builds the schedule operation by operation: an action names the job whose
next operation is placed, as early as its job and its machine allow. Jobs that are finished are masked out: the last
decisions have one valid action left. The reward is what an operation adds to the makespan, negated, so that the
return of an episode is minus the makespan.

``python examples/job_shop.py`` compares the learned scheduler with random valid choices and two rules of thumb.
The instance is ft06 (H. Fisher, G. L. Thompson, "Probabilistic learning combinations of local job-shop scheduling
rules", in Industrial Scheduling, Prentice-Hall 1963).
"""

import argparse
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from sb3_contrib.common.maskable.utils import get_action_masks
from stable_baselines3.common.env_util import make_vec_env

from sb3_ppo_variants import MaskablePPOPenalty

# Per job, in order: machine, duration.
FT06 = [
    [(2, 1), (0, 3), (1, 6), (3, 7), (5, 3), (4, 6)],
    [(1, 8), (2, 5), (4, 10), (5, 10), (0, 10), (3, 4)],
    [(2, 5), (3, 4), (5, 8), (0, 9), (1, 1), (4, 7)],
    [(1, 5), (0, 5), (2, 5), (3, 3), (4, 8), (5, 9)],
    [(2, 9), (1, 3), (4, 5), (5, 4), (0, 3), (3, 1)],
    [(1, 3), (3, 3), (5, 9), (0, 10), (4, 4), (2, 1)],
]
BEST_MAKESPAN = 55


class JobShopEnv(gym.Env[np.ndarray, int]):
    """A job shop as a sequence of dispatching decisions.

    Observation: for each job the share of its operations done, when it is free, its remaining work, and machine-ready
    time and duration of its next operation; for each machine when it is free. Times are relative to the earliest time
    at which anything can still start, in units of the mean job length.

    :param jobs: per job a list of (machine, duration) in order
    """

    def __init__(self, jobs: list[list[tuple[int, int]]] = FT06):
        self.jobs = jobs
        self.n_machines = 1 + max(machine for job in jobs for machine, _ in job)
        self.unit = sum(duration for job in jobs for _, duration in job) / len(jobs)
        self.action_space = gym.spaces.Discrete(len(jobs))
        size = 5 * len(jobs) + self.n_machines
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (size,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.done_operations = np.zeros(len(self.jobs), dtype=int)
        self.job_free = np.zeros(len(self.jobs))
        self.machine_free = np.zeros(self.n_machines)
        return self._observation(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        job = self.jobs[action]
        before = self.makespan
        machine, duration = job[self.done_operations[action]]
        end = max(self.job_free[action], self.machine_free[machine]) + duration
        self.job_free[action] = self.machine_free[machine] = end
        self.done_operations[action] += 1
        over = not self.action_masks().any()
        return self._observation(), before - self.makespan, over, False, {"makespan": self.makespan}

    def action_masks(self) -> np.ndarray:
        """Jobs with an operation left."""
        return np.array([done < len(job) for done, job in zip(self.done_operations, self.jobs)])

    @property
    def makespan(self) -> float:
        """When the last operation placed so far ends."""
        return float(self.job_free.max())

    def remaining_work(self) -> np.ndarray:
        """Per job, the time its remaining operations take."""
        return np.array([sum(d for _, d in job[done:]) for done, job in zip(self.done_operations, self.jobs)])

    def next_operations(self) -> list[tuple[int, int]]:
        """Per job, machine and duration of its next operation; duration 0 for a finished job."""
        return [job[done] if done < len(job) else (0, 0) for done, job in zip(self.done_operations, self.jobs)]

    def _observation(self) -> np.ndarray:
        machines, durations = (np.array(column) for column in zip(*self.next_operations()))
        starts = np.maximum(self.job_free, self.machine_free[machines])
        valid = self.action_masks()
        now = starts[valid].min() if valid.any() else self.makespan
        times = np.concatenate([self.job_free - now, starts - now, durations, self.remaining_work()])
        shares = self.done_operations / [len(job) for job in self.jobs]
        return np.concatenate([times / self.unit, shares, (self.machine_free - now) / self.unit]).astype(np.float32)


def makespan_of(choose: Callable[[JobShopEnv, np.ndarray], int]) -> float:
    """Build one schedule with a rule that picks a job.

    :param choose: from environment and observation to an action
    """
    env = JobShopEnv()
    observation, _ = env.reset()
    over = False
    while not over:
        observation, _, over, _, info = env.step(choose(env, observation))
    return info["makespan"]


def shortest_processing_time(env: JobShopEnv, _: np.ndarray) -> int:
    durations = np.array([duration for _, duration in env.next_operations()])
    return int(np.argmin(np.where(env.action_masks(), durations, np.inf)))


def most_work_remaining(env: JobShopEnv, _: np.ndarray) -> int:
    return int(np.argmax(np.where(env.action_masks(), env.remaining_work(), -1)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--timesteps", type=int, default=150_000, help="environment steps (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="random seed (default: %(default)s)")
    arguments = parser.parse_args()
    th.set_num_threads(1)
    rng = np.random.default_rng(arguments.seed)

    def random_valid(env: JobShopEnv, _: np.ndarray) -> int:
        return int(rng.choice(np.flatnonzero(env.action_masks())))

    env = make_vec_env(JobShopEnv, n_envs=8, seed=arguments.seed)
    model = MaskablePPOPenalty(
        "MlpPolicy", env, n_steps=144, batch_size=128, gamma=1.0, ent_coef=0.01, target_kl=0.02, seed=arguments.seed
    )
    model.learn(arguments.timesteps)

    def learned(env: JobShopEnv, observation: np.ndarray) -> int:
        return int(model.predict(observation, deterministic=True, action_masks=get_action_masks(env))[0])

    print(f"Makespan of the schedule (best possible: {BEST_MAKESPAN})")
    print(f"  random valid choices, mean of 100  {np.mean([makespan_of(random_valid) for _ in range(100)]):.1f}")
    print(f"  shortest processing time           {makespan_of(shortest_processing_time):.0f}")
    print(f"  most work remaining                {makespan_of(most_work_remaining):.0f}")
    print(f"  learned by MaskablePPOPenalty      {makespan_of(learned):.0f}")


if __name__ == "__main__":
    main()
