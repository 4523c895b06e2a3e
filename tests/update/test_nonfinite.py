"""NaN and infinity are found before a parameter is harmed, wherever they come from, and the model can be saved."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from environments import TinyEnv
from hosts import VARIANTS, ModeSensitiveExtractor, all_classes, build, collect_rollout
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_ppo_variants import NonFiniteUpdateError, PPOClip, PPOPenalty
from sb3_ppo_variants.fast_path import self_check
from sb3_ppo_variants.fast_path.flat_parameters import FlatAdam
from sb3_ppo_variants.fast_path.mlp_trunk import MlpTrunk
from sb3_ppo_variants.fast_path.numpy_trunk import NumpyTrunk
from sb3_ppo_variants.update import nonfinite

N_STEPS, N_ENVS = 25, 2
ROLLOUT = N_STEPS * N_ENVS  # minibatches of 16, 16, 16 and 2
STEPS_PER_UPDATE = 12  # three epochs
KINDS = ["observation", "reward", "logit", "gradient"]

pytestmark = pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")


@pytest.fixture(autouse=True)
def no_self_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls are counted here: the checks of the fast path's first data are not among them."""
    for name in self_check.__all__:
        monkeypatch.setattr(self_check, name, lambda *_: None)


class FaultyEnv(TinyEnv):
    """Returns one bad number, in its reward or its observation, at one step counted over all episodes.

    A bad observation comes with the first step from there on that ends no episode: nobody sees the last one of an
    episode unless a time limit ended it.
    """

    def __init__(self, kind: str = "", at: int = -1, value: float = math.nan, action: str = "discrete"):
        super().__init__(action)
        self.kind, self.at, self.value, self.total = kind, at, value, 0

    def step(self, action: Any) -> Any:
        observation, reward, terminated, truncated, info = super().step(action)
        self.total += 1
        if 0 <= self.at <= self.total and self.kind == "observation" and not (terminated or truncated):
            observation = observation.copy()
            observation[1] = self.value
            self.at = -1
        if self.total == self.at and self.kind == "reward":
            reward = self.value
        return observation, reward, terminated, truncated, info


def faulty(kind: str, at: int, env: int = 1, **settings: Any) -> DummyVecEnv:
    make: list[Callable[[], TinyEnv]] = [FaultyEnv] * N_ENVS
    make[env] = lambda: FaultyEnv(kind, at, **settings)
    return DummyVecEnv(make)


def at_call(n: int, function: Callable[..., Any], spoil: Callable[[Any], Any]) -> Callable[..., Any]:
    """Spoil the result of the n-th call of a function, counted from 1."""
    calls = 0

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        result = function(*args, **kwargs)
        return spoil(result) if calls == n else result

    return wrapped


def with_nan(tensor: th.Tensor, value: float = math.nan) -> th.Tensor:
    flat = tensor.flatten()
    hole = th.zeros_like(flat, dtype=th.bool)
    hole[len(flat) // 2] = True
    return flat.masked_fill(hole, value).view_as(tensor)


def inject(kind: str, model: Any, n: int, monkeypatch: pytest.MonkeyPatch, value: float = math.nan) -> None:
    """Spoil one logit of the n-th forward pass of the network, or one gradient of the n-th step of the update."""
    report = model.acceleration_report()
    written, flat = report["backward"] == "written out", report["optimizer"].startswith("Adam")
    if kind == "logit" and written:
        in_numpy = report["arithmetic"] == "numpy"
        trunk: Any = NumpyTrunk if in_numpy else MlpTrunk

        def spoil(result: Any) -> Any:
            output = with_nan(th.as_tensor(result[0]), value)
            return output.numpy() if in_numpy else output, result[1]

        monkeypatch.setattr(trunk, "forward", at_call(n, trunk.forward, spoil))
    elif kind == "logit":
        model.policy.action_net.register_forward_hook(at_call(n, lambda _, __, out: out, lambda o: with_nan(o, value)))
    if kind == "gradient" and not flat:
        model.policy.value_net.weight.register_hook(at_call(n, lambda g: g, lambda g: with_nan(g, value)))
    elif kind == "gradient":

        def spoil_flat(adam: FlatAdam) -> None:
            adam.gradient[5] = value

        step, spoil_at_n = FlatAdam.step, at_call(n, lambda adam: adam, spoil_flat)

        def spoiled(adam: FlatAdam, limit: float, loss: th.Tensor) -> th.Tensor:
            spoil_at_n(adam)
            return step(adam, limit, loss)

        monkeypatch.setattr(FlatAdam, "step", spoiled)


def remember_steps(model: Any, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, th.Tensor]]:
    """Keep a copy of all parameters after every step that was taken."""
    copies = [snapshot(model)]

    def keep(result: Any = None) -> Any:
        copies.append(snapshot(model))
        return result

    if not model.acceleration_report()["optimizer"].startswith("Adam"):
        model.policy.optimizer.register_step_post_hook(lambda *_: keep())
    flat_step = FlatAdam.step

    def step(self: FlatAdam, limit: float, loss: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        norm, skipped = flat_step(self, limit, loss)
        return (norm, skipped) if skipped else keep((norm, skipped))

    monkeypatch.setattr(FlatAdam, "step", step)
    return copies


def check_on_device(acceleration: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let eager steps carry the check on the device, as on a GPU, instead of reading numbers, as on the CPU."""
    if acceleration.endswith("on the device"):
        make = FlatAdam.__init__

        def make_checking(self: FlatAdam, policy: Any) -> None:
            make(self, policy)
            self.checks_on_device = True

        monkeypatch.setattr(FlatAdam, "__init__", make_checking)


def snapshot(model: Any) -> dict[str, th.Tensor]:
    return {name: value.clone() for name, value in model.policy.state_dict().items()}


def assert_usable(model: Any, path: Path) -> None:
    """Parameters and optimiser state are finite; the model saves, loads and predicts."""
    assert all(bool(th.isfinite(value).all()) for value in model.policy.state_dict().values())
    for state in model.policy.optimizer.state_dict()["state"].values():
        assert all(bool(th.isfinite(value).all()) for value in state.values())
    model.save(path)
    loaded = type(model).load(path, device="cpu")
    observation = np.linspace(-1, 1, 4, dtype=np.float32)
    expected = model.predict(observation, deterministic=True)[0]
    np.testing.assert_array_equal(loaded.predict(observation, deterministic=True)[0], expected)


def one_trial(cls: type[Any], kind: str, seed: int, path: Path, monkeypatch: pytest.MonkeyPatch, **how: Any) -> str:
    """Inject one NaN or infinity at a random place of three updates and return the error's message."""
    rng = np.random.default_rng(seed)
    minus_infinity = () if kind == "logit" else (-math.inf,)  # as a logit it is legal: a choice that is ruled out
    value = float(rng.choice([math.nan, math.inf, *minus_infinity]))
    # At least one whole update before, and early enough in the third that something follows.
    at = int(rng.integers(N_STEPS + 1, 3 * N_STEPS - 5))
    n = int(rng.integers(STEPS_PER_UPDATE + 1, 2 * STEPS_PER_UPDATE))
    env = faulty(kind, at, env=int(rng.integers(N_ENVS)), value=value)
    model = build(cls, env=env, max_kl=None, **how)
    inject(kind, model, n, monkeypatch, value)
    copies = remember_steps(model, monkeypatch)
    with pytest.raises(NonFiniteUpdateError) as caught:
        model.learn(3 * ROLLOUT)
    assert all(th.equal(value, snapshot(model)[name]) for name, value in copies[-1].items())
    assert_usable(model, path)
    return str(caught.value)


@pytest.mark.parametrize("acceleration", ["off", "eager", "eager on the device"])
@pytest.mark.parametrize("kind", KINDS)
@all_classes
def test_found_before_a_parameter_is_harmed(
    cls: type[Any], kind: str, acceleration: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_on_device(acceleration, monkeypatch)
    for seed in range(2):
        with monkeypatch.context() as patch:
            message = one_trial(cls, kind, seed, tmp_path / "model", patch, acceleration=acceleration.split()[0])
        assert "Likely causes, in order: " in message
        assert "timestep" in message


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@all_classes
def test_found_in_twenty_trials(cls: type[Any], kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(20):
        with monkeypatch.context() as patch:
            one_trial(cls, kind, seed, tmp_path / "model", patch, acceleration=("eager", "off")[seed % 2])


@pytest.mark.parametrize("acceleration", ["off", "eager"])
@pytest.mark.parametrize("kind", ["reward", "observation"])
def test_the_message_names_timestep_and_environment(kind: str, acceleration: str) -> None:
    model = build(PPOPenalty, env=faulty(kind, at=30, env=1), acceleration=acceleration)
    with pytest.raises(NonFiniteUpdateError) as caught:
        model.learn(2 * ROLLOUT)
    # The 30th step of the second environment; what it observes is stored, and acted on, one step later.
    if kind == "observation":
        assert "nan in the last observation of environment 1 while collecting the rollout at timestep 60" in str(
            caught.value
        )
        assert isinstance(caught.value.__cause__, (ValueError, RuntimeError))  # of torch, validating or not
    else:
        assert "nan in the rewards of environment 1 at timestep 60 (step 4 of the rollout)" in str(caught.value)
    assert model._n_updates == 3  # epochs of the first update only


@pytest.mark.parametrize("networks", ["in numpy", "in torch"])
@pytest.mark.parametrize("action", ["box", "discrete"])
def test_no_action_is_drawn_from_nan(action: str, networks: str) -> None:
    """A robot gets none, as with stock PPO."""
    seen: list[Any] = []

    class Blind(TinyEnv):
        def step(self, action: Any) -> Any:
            seen.append(action)
            observation, *rest = super().step(action)
            return (observation * np.nan if len(seen) == 60 else observation, *rest)

    extractor = {} if networks == "in numpy" else {"activation_fn": th.nn.SiLU}
    env = DummyVecEnv([lambda: Blind(action, "vector")])
    model = build(PPOClip, action, env=env, policy_kwargs=extractor)
    with pytest.raises(NonFiniteUpdateError, match="last observation of environment 0 .* at timestep 60"):
        model.learn(4 * ROLLOUT)
    in_numpy = model.acceleration_report()["rollout"] == "numpy forward pass"
    assert in_numpy == (networks == "in numpy")
    assert len(seen) == 60


def test_of_several_nan_the_first_is_named() -> None:
    model = build(PPOClip)
    collect_rollout(model)
    buffer = model.rollout_buffer
    buffer.observations[7, 1] = buffer.rewards[7, 1] = buffer.rewards[9, 0] = buffer.advantages[:8, 1] = np.nan
    with pytest.raises(NonFiniteUpdateError, match=r"nan in the observations of environment 1 .*step 7"):
        model.train()


class Spoils(FlattenExtractor):
    """Is of one's own, and hands on what it gets."""


class ForgetsWhatIsMissing(FlattenExtractor):
    """Takes 0 for the value of a sensor that gives none."""

    def forward(self, observations: th.Tensor) -> th.Tensor:
        return th.nan_to_num(super().forward(observations))


@pytest.mark.parametrize("acceleration", ["off", "eager"])
def test_nan_that_an_extractor_makes_numbers_of_is_trained_on_as_by_stock(acceleration: str) -> None:
    class NoSensor(gym.ObservationWrapper[Any, Any, Any]):
        def observation(self, observation: Any) -> Any:
            return np.array([np.nan, *observation[1:]], dtype=np.float32)

    def env() -> DummyVecEnv:
        return DummyVecEnv([lambda: NoSensor(TinyEnv())])

    kwargs: dict[str, Any] = {
        "policy_kwargs": {"features_extractor_class": ForgetsWhatIsMissing},
        "n_steps": 32,
        "seed": 1,
    }
    stock = PPO("MlpPolicy", env(), batch_size=16, device="cpu", **kwargs).learn(64)
    own = PPOClip(
        "MlpPolicy", env(), batch_size=16, device="cpu", value_clipping="sb3", acceleration=acceleration, **kwargs
    ).learn(64)
    for name, value in stock.policy.state_dict().items():
        th.testing.assert_close(own.policy.state_dict()[name], value)
    kwargs["policy_kwargs"] = {"features_extractor_class": Spoils}
    with pytest.raises(NonFiniteUpdateError, match="observation"):
        PPOClip("MlpPolicy", env(), batch_size=16, acceleration=acceleration, **kwargs).learn(64)


class TensorBuffer(RolloutBuffer):
    """Keeps observations, as a tensor, under a name of the caller's."""

    def __init__(self, *args: Any, kept_as: str = "observations", **kwargs: Any):
        self.kept_as = kept_as
        super().__init__(*args, **kwargs)

    def reset(self) -> None:
        super().reset()
        del self.observations
        setattr(self, self.kept_as, th.zeros(self.buffer_size, self.n_envs, *self.obs_shape))

    def add(self, obs: Any, *args: Any) -> None:
        kept, self.observations = getattr(self, self.kept_as), np.zeros((self.buffer_size, self.n_envs, 4), np.float32)
        kept[self.pos] = th.as_tensor(obs)
        super().add(obs, *args)
        del self.observations
        setattr(self, self.kept_as, kept)

    def get(self, batch_size: int | None = None) -> Any:
        kept = getattr(self, self.kept_as)
        self.observations = kept.numpy()
        yield from super().get(batch_size)
        del self.observations
        setattr(self, self.kept_as, kept)
        for name in ("actions", "values", "log_probs", "advantages", "returns"):
            flat = getattr(self, name)
            setattr(self, name, flat.reshape(self.n_envs, self.buffer_size, *flat.shape[1:]).swapaxes(0, 1))
        self.generator_ready = False


@pytest.mark.parametrize("acceleration", ["off", "eager"])
@pytest.mark.parametrize("kept_as", ["observations", "states"])
def test_a_buffer_may_keep_tensors_or_other_names(kept_as: str, acceleration: str) -> None:
    own = {"rollout_buffer_class": TensorBuffer, "rollout_buffer_kwargs": {"kept_as": kept_as}}
    build(PPOClip, acceleration=acceleration, **own).learn(ROLLOUT)
    model = build(PPOClip, acceleration=acceleration, env=faulty("reward", at=30, env=1), **own)
    with pytest.raises(NonFiniteUpdateError, match=r"nan in the rewards of environment 1 at timestep 60 \(step 4"):
        model.learn(2 * ROLLOUT)


def test_a_nan_in_a_tensor_of_the_buffer_is_found() -> None:
    model = build(PPOClip)
    collect_rollout(model)
    model.rollout_buffer.observations = th.as_tensor(model.rollout_buffer.observations)
    model.rollout_buffer.observations[3, 1, 2] = -math.inf
    with pytest.raises(NonFiniteUpdateError, match="-inf in the observations of environment 1 at timestep 8"):
        nonfinite.check_rollout(model)


@pytest.mark.parametrize("acceleration", ["off", "eager"])
def test_the_message_names_minibatch_and_quantities(acceleration: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(PPOClip, acceleration=acceleration, clip_range_vf=0.2)
    inject("gradient", model, 7, monkeypatch)
    with pytest.raises(
        NonFiniteUpdateError, match=r"^grad_norm = nan in minibatch 2 of epoch 1 of the update at times"
    ):
        model.learn(ROLLOUT)


def test_a_learning_rate_below_zero_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(PPOClip, learning_rate=lambda progress: 0.1 * progress)
    inject("gradient", model, 7, monkeypatch)
    with pytest.raises(NonFiniteUpdateError, match=r"order: the learning rate is -[\d.]+: a rollout that goes beyond"):
        model.learn(ROLLOUT // 4)


def test_rewards_too_large_for_float32_are_named() -> None:
    model = build(PPOClip, env=DummyVecEnv([lambda: TinyEnv(reward_scale=1e30)] * 2))
    with pytest.raises(NonFiniteUpdateError, match=r"value_loss = inf, loss = .* in minibatch 0 of epoch 0"):
        model.learn(ROLLOUT)


def test_an_error_that_has_nothing_to_do_with_it_passes_unchanged() -> None:
    class Broken(TinyEnv):
        def step(self, action: Any) -> Any:
            raise RuntimeError("the simulator is gone")

    with pytest.raises(RuntimeError, match="the simulator is gone"):
        build(PPOClip, env=DummyVecEnv([Broken])).learn(ROLLOUT)


@pytest.mark.parametrize("base", [Exception, RuntimeError])
def test_an_error_of_a_class_of_its_own_passes_unchanged_beside_a_nan(base: type[Exception]) -> None:
    pruned = type("Pruned", (base,), {})  # as optuna.TrialPruned

    class Pruning(BaseCallback):
        def _on_step(self) -> bool:
            if np.isnan(self.locals["new_obs"]).any():
                self.model._last_obs = self.locals["new_obs"]
                raise pruned
            return True

    with pytest.raises(pruned):
        build(PPOClip, env=faulty("observation", at=10)).learn(ROLLOUT, Pruning())


@pytest.mark.parametrize("acceleration", ["off", "eager", "eager on the device"])
@all_classes
def test_skip_leaves_the_minibatch_out_and_counts_it(
    cls: type[Any], acceleration: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_on_device(acceleration, monkeypatch)
    model = build(cls, acceleration=acceleration.split()[0], on_nonfinite="skip", max_kl=None)
    inject("gradient", model, 7, monkeypatch)
    copies = remember_steps(model, monkeypatch)
    model.learn(ROLLOUT)

    assert len(copies) == 1 + STEPS_PER_UPDATE - 1
    assert model.logger.name_to_value["train/skipped_minibatches"] == 1
    assert [int(i) for i in np.flatnonzero(model.last_update.column("skipped"))] == [6]
    assert math.isfinite(model.last_update.mean("grad_norm"))
    assert all(math.isfinite(v) for k, v in model.logger.name_to_value.items() if k.startswith("train/"))
    steps = {int(state["step"]) for state in model.policy.optimizer.state_dict()["state"].values()}
    assert steps == {STEPS_PER_UPDATE - 1}
    assert_usable(model, tmp_path / "model")


@pytest.mark.parametrize("on_nonfinite", ["raise", "skip"])
@pytest.mark.parametrize("acceleration", ["off", "eager"])
def test_running_statistics_stay_finite(acceleration: str, on_nonfinite: str, tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "acceleration": acceleration,
        "on_nonfinite": on_nonfinite,
        "n_steps": 24,
        "max_kl": 1.0,
    }
    model = build(PPOClip, policy_kwargs={"features_extractor_class": ModeSensitiveExtractor}, **settings)
    norm = model.policy.features_extractor.layers[1]

    def spoil(module: Any, inputs: Any) -> Any:  # the output is masked, so that torch's distributions see no NaN
        return (with_nan(inputs[0], math.inf),) if module.training and module.num_batches_tracked == 12 else None

    norm.register_forward_pre_hook(spoil)
    norm.register_forward_hook(lambda _, __, output: output.nan_to_num())
    model.learn(48)
    before = snapshot(model)
    if on_nonfinite == "raise":
        with pytest.raises(NonFiniteUpdateError, match="minibatch 0 of epoch 1"):
            model.learn(48, reset_num_timesteps=False)
    else:
        model.learn(48, reset_num_timesteps=False)
        assert model.logger.name_to_value["train/skipped_minibatches"] == 1
        assert math.isfinite(model.last_update.kl_divergence)
    mean = "features_extractor.layers.1.running_mean"
    assert th.equal(snapshot(model)[mean], before[mean])
    assert_usable(model, tmp_path / "model")


@pytest.mark.parametrize("name", ["PPOClip", "RecurrentPPOClip"])
@pytest.mark.parametrize("acceleration", ["off", "eager"])
def test_skip_leaves_out_a_nan_output_only_where_the_form_is_closed(
    name: str, acceleration: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build(VARIANTS[name], acceleration=acceleration, on_nonfinite="skip")
    collect_rollout(model)
    inject("logit", model, 7, monkeypatch)
    if model.acceleration_report().get("evaluation") == "closed form":
        model.train()
        assert model.logger.name_to_value["train/skipped_minibatches"] == 1
    else:
        with pytest.raises(NonFiniteUpdateError, match="NaN in the policy's output while updating the policy"):
            model.train()


@pytest.mark.parametrize("acceleration", ["off", "eager"])
def test_skip_gives_up_when_more_than_half_of_an_update_is_bad(acceleration: str) -> None:
    # A NaN reward spoils the advantages of all earlier steps of its environment: at episode ends it is multiplied by 0.
    few, many = (faulty("reward", at=at) for at in (1, N_STEPS))
    some = build(PPOClip, env=few, acceleration=acceleration, on_nonfinite="skip")
    some.learn(ROLLOUT)
    assert some.logger.name_to_value["train/skipped_minibatches"] == 3  # one in each epoch

    much = build(PPOClip, env=many, acceleration=acceleration, on_nonfinite="skip")
    with pytest.raises(NonFiniteUpdateError, match=r"\d+ minibatches of this update were skipped"):
        much.learn(ROLLOUT)
    assert much._n_updates < 3
    assert all(bool(th.isfinite(value).all()) for value in much.policy.state_dict().values())


def test_training_goes_on_after_the_error() -> None:
    model = build(PPOPenalty, env=faulty("reward", at=30))
    with pytest.raises(NonFiniteUpdateError):
        model.learn(4 * ROLLOUT)
    model.learn(ROLLOUT, reset_num_timesteps=False)
    assert model.last_update.epochs_done > 0


@pytest.mark.parametrize("acceleration", ["off", "eager", "eager on the device"])
def test_training_goes_on_after_a_refused_step(acceleration: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check_on_device(acceleration, monkeypatch)
    model = build(PPOClip, acceleration=acceleration.split()[0])
    inject("gradient", model, 7, monkeypatch)
    with pytest.raises(NonFiniteUpdateError):
        model.learn(ROLLOUT)
    model.learn(2 * ROLLOUT, reset_num_timesteps=False)
    steps = {int(state["step"]) for state in model.policy.optimizer.state_dict()["state"].values()}
    assert steps == {6 + 2 * STEPS_PER_UPDATE}


def test_a_skipped_minibatch_with_a_nan_kl_counts_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    limits: dict[str, Any] = {"on_max_kl": "stop", "max_kl": 10.0, "target_kl": 10.0, "kl_tolerance": 1e9}
    model = build(PPOPenalty, on_nonfinite="skip", **limits)
    inject("logit", model, 4, monkeypatch)  # the last minibatch of the first epoch
    model.learn(ROLLOUT)
    trace = model.last_update
    assert math.isnan(trace.column("kl_divergence")[3])
    assert trace.column("skipped")[3] == 1
    assert (trace.epochs_done, trace.stopped, model.beta) == (3.0, False, 1.0)


@pytest.mark.slow
@pytest.mark.parametrize("on_nonfinite", ["raise", "skip"])
@pytest.mark.parametrize("name", ["PPOClip", "PPOPenalty"])
def test_compiled_steps_are_guarded(
    name: str, on_nonfinite: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The graph sees a NaN return in the data itself: one minibatch of an epoch is bad."""
    env = faulty("reward", at=1, env=0)
    settings = {"n_steps": 32, "batch_size": 16, "on_nonfinite": on_nonfinite, "max_kl": None}
    model = build(VARIANTS[name], env=env, acceleration="compile", **settings)
    if on_nonfinite == "raise":
        monkeypatch.setattr(nonfinite, "check_rollout", lambda model: None)  # so that the graph meets it
        with pytest.raises(NonFiniteUpdateError, match="minibatch"):
            model.learn(64)
        assert model.acceleration_report()["graph"] == "torch.compile"
        assert all(bool(th.isfinite(value).all()) for value in model.policy.state_dict().values())
        return
    model.learn(64)
    assert model.acceleration_report()["graph"] == "torch.compile"
    assert model.logger.name_to_value["train/skipped_minibatches"] == 3  # one in each epoch
    steps = {int(state["step"]) for state in model.policy.optimizer.state_dict()["state"].values()}
    assert steps == {9}
    assert_usable(model, tmp_path / "model")
