"""Runs on one process of two: torchrun --nproc-per-node 2 ranked_runs.py FOLDER; results go to FOLDER/rank_R.pt."""

import pickle
import sys
import warnings
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from environments import make_env, make_vec_env
from hosts import VARIANTS, ModeSensitiveExtractor, build, host_of
from same_draws import Share, same_draws
from sb3_contrib import MaskablePPO
from stable_baselines3.common.callbacks import (
    BaseCallback,
    CallbackList,
    CheckpointCallback,
    EvalCallback,
    ProgressBarCallback,
)
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecNormalize

from sb3_ppo_variants import PPOAdaptiveClip, PPOClip, PPOPenalty
from sb3_ppo_variants.callbacks import TrustRegionRecorder
from sb3_ppo_variants.checkpoints import ResumableCheckpointCallback, resume
from sb3_ppo_variants.distributed import Ranks, current_ranks

N_ENVS, N_STEPS, BATCH_SIZE, UPDATES = 4, 25, 32, 3
"""Of the whole run: of each process half the environments and half the minibatch."""
OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, {"target_kl": 1e-4} if "AdaptiveClip" in name else {}) for name in VARIANTS},
    "target_kl": ("PPOClip", {"target_kl": 0.003, "learning_rate": 0.01, "n_epochs": 8}),
    "stop_at_max_kl": ("PPOPenalty", {"on_max_kl": "stop", "max_kl": 0.002, "learning_rate": 0.01}),
    "hinge": ("PPOPenalty", {"hinge_coef": 500.0, "target_kl": 1e-3, "max_kl": None}),
    "statistics_of_the_rollout": (
        "PPOClip",
        {"normalize_advantage": "rollout", "clip_range_vf": 0.1, "value_clip_scale": "return_std"},
    ),
    "one_by_one": ("PPOAdaptiveClip", {"policy_kwargs": {"optimizer_class": th.optim.RMSprop}}),
}
CASES = {f"{name}, {how}": (*what, how) for name, what in OPTIONS.items() for how in ("off", "eager")}


def trained(name: str, settings: dict[str, Any], acceleration: str, rank: int, size: int) -> dict[str, Any]:
    """Train as one of so many processes, and tell what became of the model."""
    cls = VARIANTS[name]
    parts = 2 // size
    share = Share(rank, parts, N_ENVS // 2, BATCH_SIZE // 2)
    action = "discrete" if issubclass(host_of(cls).stock, MaskablePPO) else "box"
    arguments = {"learning_rate": 3e-3, "n_steps": N_STEPS, "ent_coef": 0.01, **settings}
    with same_draws(share), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "You have specified a mini-batch size")
        model = build(
            cls, action, n_envs=N_ENVS // size, batch_size=BATCH_SIZE // size, acceleration=acceleration, **arguments
        )
        np.random.seed(7)
        th.manual_seed(7)
        model.learn(UPDATES * N_STEPS * N_ENVS, log_interval=1000)
    return {
        "parameters": {key: value.clone() for key, value in model.policy.state_dict().items()},
        "optimizer": model.policy.optimizer.state_dict()["state"],
        "live": {key: getattr(model, key) for key in type(model).live_state},
        "timesteps": model.num_timesteps,
        "n_updates": model._n_updates,
        "update": model.last_update,
        "logged": {key: value for key, value in model.logger.name_to_value.items() if key.startswith("train/")},
        "report": model.acceleration_report(),
    }


class _Stop(BaseCallback):
    """Ends training on one rank in the middle of a rollout."""

    def __init__(self, rank: int, at: int):
        super().__init__()
        self.rank, self.at = rank, at

    def _on_step(self) -> bool:
        return self.model.ranks.rank != self.rank or self.n_calls < self.at


def normalization(ranks: Ranks, folder: Path) -> dict[str, Any]:
    env = VecNormalize(make_vec_env("box", "vector", 2), gamma=0.9)
    model = build(PPOClip, env=env, n_epochs=1).learn(3 * 25 * 4)
    obs, returns = env.obs_rms, env.ret_rms
    return {
        "observations": (obs.mean, obs.var, obs.count),
        "returns": (returns.mean, returns.var, returns.count),
        "timesteps": model.num_timesteps,
    }


def stop(ranks: Ranks, folder: Path) -> dict[str, Any]:
    """End in the second rollout, on one rank and then on both, with checkpoints."""
    found: dict[str, Any] = {"timesteps": [], "n_updates": [], "checkpoints": []}
    for rank in (1, ranks.rank):
        writer = ResumableCheckpointCallback(10_000, folder / f"stopped_{len(found['timesteps'])}")
        model = build(PPOClip).learn(1000, callback=[_Stop(rank, at=30), writer])
        found["timesteps"].append(model.num_timesteps)
        found["n_updates"].append(model._n_updates)
        found["checkpoints"].append([path.name for path in writer.path.glob("*.zip")])
    return found


def files(ranks: Ranks, folder: Path) -> dict[str, Any]:
    """Give each process a folder of its own, so that it shows which of them writes."""
    own = folder / f"files_{ranks.rank}"
    env = DummyVecEnv([make_env("discrete")] * 2)
    callbacks = [
        EvalCallback(make_vec_env(), eval_freq=20, n_eval_episodes=1, best_model_save_path=str(own), verbose=0),
        CheckpointCallback(20, str(own)),
        TrustRegionRecorder(own / "run.csv"),
    ]
    model = build(PPOPenalty, env=env, tensorboard_log=str(own), verbose=1)
    model.learn(200, callback=callbacks, progress_bar=False)
    model.save(own / "model")
    return {"values": dict(model.logger.name_to_value)}


def episodes(ranks: Ranks, folder: Path) -> dict[str, Any]:
    env = DummyVecEnv([lambda: Monitor(make_env("discrete")())] * 2)
    own: list[float] = []

    class Count(BaseCallback):
        def _on_step(self) -> bool:
            own.extend(info["episode"]["r"] for info in self.locals["infos"] if "episode" in info)
            return True

    model = build(PPOClip, env=env, n_epochs=1).learn(200, callback=Count())
    return {"own": own, "buffer": [info["r"] for info in model.ep_info_buffer], "limit": model.ep_info_buffer.maxlen}


def windows(ranks: Ranks, folder: Path) -> dict[str, Any]:
    """Look at the window of the last three episodes within rollouts, where checkpoints and evaluations save models."""
    env = DummyVecEnv([lambda: Monitor(make_env("discrete")())] * 2)
    seen: list[Any] = []

    class Look(BaseCallback):
        def _on_step(self) -> bool:
            saved = pickle.loads(pickle.dumps(self.model.ep_info_buffer))
            seen.append((len(self.model.ep_info_buffer or ()), type(saved) is deque, saved.maxlen))
            return True

    class Empties(BaseCallback):
        def _on_step(self) -> bool:
            if self.num_timesteps == 196 and self.model.ep_info_buffer is not None:
                self.model.ep_info_buffer.clear()
            if self.num_timesteps == 296:
                self.model.ep_info_buffer = deque(maxlen=5)
            return True

    build(PPOClip, env=env, n_epochs=1, stats_window_size=3).learn(300, callback=Look())
    emptied = [build(PPOClip, env=env, n_epochs=1).learn(steps, callback=Empties()) for steps in (200, 300)]
    left = [len(model.ep_info_buffer or ()) for model in emptied]
    return {"longest": max(one[0] for one in seen), "saved": {one[1:] for one in seen}, "left": left}


def progress(ranks: Ranks, folder: Path) -> dict[str, Any]:
    class Reads(ProgressBarCallback):
        shown = 0

        def _on_training_end(self) -> None:
            self.shown = self.pbar.n
            super()._on_training_end()

    bar = Reads()
    model = build(PPOClip, n_epochs=1).learn(200, callback=[CallbackList([bar])])
    return {"shown": bar.shown, "timesteps": model.num_timesteps}


def compiling(ranks: Ranks, folder: Path) -> dict[str, Any]:
    model = build(PPOPenalty, acceleration="compile").learn(100)
    return {"report": model.acceleration_report(), "updates": model._n_updates // model.n_epochs}


def hooked(ranks: Ranks, folder: Path) -> dict[str, Any]:
    """Watch the policy of rank 0 only, as loggers do."""
    model = build(PPOClip).learn(100)
    if ranks.first:
        model.policy.action_net.register_forward_hook(lambda *_: None)
    model.learn(100, reset_num_timesteps=False)
    return {"report": model.acceleration_report(), "parameters": model.policy.state_dict()}


def disagreement(ranks: Ranks, folder: Path) -> dict[str, Any]:
    writers = [ResumableCheckpointCallback(100, folder / "of_one")] if ranks.first else None
    trials: list[tuple[dict[str, Any], Any]] = [
        ({"n_envs": 2 + ranks.rank}, None),
        ({"learning_rate": 0.1 * (1 + ranks.rank)}, None),
        ({}, writers),
    ]
    errors = []
    for arguments, callback in trials:
        with pytest.raises(ValueError, match="the same in every process") as raised:
            build(PPOClip, **arguments).learn(100, callback=callback)
        errors.append(str(raised.value))
    return {"errors": errors}


def same_seeds(ranks: Ranks, folder: Path) -> dict[str, Any]:
    """Seed the generators alike in every process, as scripts for one process do, and give the model a seed or none."""
    found = {}
    for name, seed in (("unseeded", None), ("seeded", 3), ("mixed", None if ranks.first else 3)):
        th.manual_seed(1)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            build(PPOClip, seed=seed).learn(100)
        found[name] = any("draw the same random numbers" in str(one.message) for one in caught)
    return found


class _Nested(gym.Env[Any, Any]):
    """Counts the ranks where it runs, as an opponent of this package would."""

    observation_space = gym.spaces.Discrete(2)
    action_space = gym.spaces.Discrete(2)

    def count(self) -> int:
        return current_ranks().size


def of_workers(ranks: Ranks, folder: Path) -> dict[str, Any]:
    found = {}
    for how in ("spawn", "fork"):
        env = SubprocVecEnv([_Nested, _Nested], start_method=how)
        found[how] = tuple(env.env_method("count"))
        env.close()
    return found


def batch_norm(ranks: Ranks, folder: Path) -> dict[str, Any]:
    model = build(PPOPenalty, policy_kwargs={"features_extractor_class": ModeSensitiveExtractor}, n_steps=24).learn(192)
    return {"parameters": model.policy.state_dict()}


class _SpoilsOneAdvantage(BaseCallback):
    """Put NaN into a rollout of the second rank."""

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        if self.model.ranks.rank == 1:  # type: ignore[attr-defined]  # of this package
            self.model.rollout_buffer.advantages[3, 0] = np.nan  # type: ignore[attr-defined]  # it has one


def skipping(ranks: Ranks, folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for acceleration in ("off", "eager"):
        model = build(PPOPenalty, acceleration=acceleration, on_nonfinite="skip", normalize_advantage=False)
        model.learn(100, callback=_SpoilsOneAdvantage())
        skipped = model.last_update.column("skipped")
        found[acceleration] = {"parameters": model.policy.state_dict(), "skipped": skipped, "beta": model.beta}
    return found


def resumed(ranks: Ranks, folder: Path) -> dict[str, Any]:
    """Train at once, and in two parts; environments, generators and episodes of each process go on."""
    ends = []
    for name in ("whole", "parts"):
        writer = ResumableCheckpointCallback(1, folder / name)
        env = VecNormalize(make_vec_env("box", "vector", 2))
        model = build(PPOPenalty, env=env).learn(300 if name == "parts" else 600, callback=writer)
        if name == "parts":
            env = VecNormalize(make_vec_env("box", "vector", 2))
            model = resume(folder / name, env, total_timesteps=600, device="cpu")
        last_obs, draws = model._last_obs, (np.random.rand(), th.rand(1))
        ends.append((model.policy.state_dict(), model.beta, model.num_timesteps, last_obs, draws))
    return {"ends": ends, "files": len(list((folder / "parts").glob("checkpoint_*.zip")))}


def fifty_updates(ranks: Ranks, folder: Path) -> dict[str, Any]:
    arguments: dict[str, Any] = {"learning_rate": 1e-2, "target_kl": 3e-3}
    penalty = build(PPOPenalty, "box", **arguments).learn(50 * 100)
    clip = build(PPOAdaptiveClip, **arguments).learn(50 * 100)
    return {"beta": penalty.beta, "clip_scale": clip.clip_scale, "updates": penalty._n_updates // penalty.n_epochs}


def sockets(ranks: Ranks, folder: Path) -> dict[str, Any]:
    """The same training and exchanges where the ranks share no memory, and a message that is too long for it."""
    long = th.full((300_000,), float(ranks.rank))
    ranks.mean_(long)
    arguments: dict[str, Any] = {"learning_rate": 1e-2, "target_kl": 3e-3}
    results = []
    with pytest.MonkeyPatch.context() as patch:
        for _ in range(2):
            model = build(PPOPenalty, "box", **arguments).learn(5 * 100)
            results.append([model.policy.state_dict(), model.beta, exchanges(ranks, folder)])
            patch.setattr(ranks, "_memory", None)
    return {"long": long.unique().tolist(), "memory": results[0], "sockets": results[1]}


def exchanges(ranks: Ranks, folder: Path) -> dict[str, Any]:
    tensors = [th.full((2, 2), float(ranks.rank)), th.tensor([1.0, 3.0 * ranks.rank])]
    ranks.mean_(*tensors)
    return {
        "mean_": [tensor.tolist() for tensor in tensors],
        "mean": ranks.mean(0.1 * (ranks.rank + 1)),
        "any": [ranks.any(ranks.rank == 1), ranks.any(False)],
        "gather": ranks.gather({"rank": "r" * ranks.rank}),  # of different lengths
        "from_first": ranks.from_first(lambda: f"of rank {ranks.rank}"),
    }


SCENARIOS: dict[str, Callable[[Ranks, Path], dict[str, Any]]] = {
    function.__name__: function
    for function in (
        exchanges,
        sockets,
        normalization,
        stop,
        files,
        episodes,
        windows,
        progress,
        compiling,
        hooked,
        disagreement,
        same_seeds,
        of_workers,
        batch_norm,
        skipping,
        resumed,
        fifty_updates,
    )
}

if __name__ == "__main__":
    th.set_num_threads(1)
    to = Path(sys.argv[1])
    here = current_ranks()
    results = {name: scenario(here, to) for name, scenario in SCENARIOS.items()}
    results |= {name: trained(*case, here.rank, here.size) for name, case in CASES.items()}
    th.save(results, to / f"rank_{here.rank}.pt")
