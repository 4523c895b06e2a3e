"""One of several ranks: trains with something that is not the same on every rank, and prints its parameters."""

import warnings
from typing import Any

import torch as th
from environments import make_vec_env
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

from sb3_ppo_variants import PPOClip

warnings.simplefilter("ignore")


class DropsALayer(BaseFeaturesExtractor):
    """Leaves a layer, and its gradient, out at random."""

    def __init__(self, space: Any):
        super().__init__(space, 16)
        self.first, self.second = nn.Linear(space.shape[0], 16), nn.Linear(16, 16)

    def forward(self, x: th.Tensor) -> th.Tensor:
        x = self.first(x).tanh()
        return x if self.training and th.rand(()) < 0.5 else x + self.second(x).tanh()


class HooksOneRank(BaseCallback):
    """Registers a hook on rank 1 after the second rollout."""

    first_rank_only = False

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        model: Any = self.model
        if model.ranks.rank == 1 and model.num_timesteps > 2 * model.n_steps * model.n_envs:
            model.policy.mlp_extractor.policy_net[1].register_forward_hook(lambda *_: None)


custom = {"features_extractor_class": DropsALayer}
CASES: Any = [("eager", {}, HooksOneRank()), ("eager", custom, None), ("off", custom, None)]
for acceleration, policy_kwargs, callback in CASES:
    arguments: dict[str, Any] = {"n_steps": 16, "batch_size": 16, "n_epochs": 2, "seed": 0}
    env = make_vec_env("discrete", n_envs=2)
    model = PPOClip("MlpPolicy", env, acceleration=acceleration, policy_kwargs=policy_kwargs, **arguments)
    model.learn(320, callback=callback)
    print([float(p.double().sum()) for p in model.policy.parameters()])
