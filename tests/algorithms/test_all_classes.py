"""What every class promises, on every host: one more class would be one more parameter (tests/hosts.py)."""

import copy
import inspect
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from environments import make_env, make_vec_env
from hosts import HOSTS, VARIANTS, all_classes, build, collect_rollout, host_of
from stable_baselines3.common.callbacks import CallbackList, CheckpointCallback, EvalCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import SubprocVecEnv, VecNormalize
from test_equivalence import UpdateLog, identical

import sb3_ppo_variants
from sb3_ppo_variants.update import policy_evaluation
from sb3_ppo_variants.update.distributions import kl_divergence

pytestmark = [
    pytest.mark.filterwarnings("ignore:You have specified a mini-batch size"),
    pytest.mark.filterwarnings("ignore:Evaluation environment is not wrapped"),
]
ROLLOUT = 50  # 25 steps of two environments: minibatches of 16, 16, 16 and 2
SPACES = [
    pytest.param(cls, action, id=f"{name}-{action}")
    for name, cls in VARIANTS.items()
    for action in [*host_of(cls).actions, *(["multi_binary"] if name.startswith("Recurrent") else [])]
]
STATE = {"PPOPenalty": "beta", "PPOAdaptiveClip": "clip_scale", "PPOAdaptiveLR": "lr_scale"}
ADAPTIVE = [
    pytest.param(VARIANTS[f"{prefix}{variant}"], name, id=f"{prefix}{variant}")
    for prefix in HOSTS
    for variant, name in STATE.items()
]
# A set point that every update passes, so that the state moves by one step of 2 at each.
ALWAYS_ABOVE: dict[str, Any] = {"target_kl": 1e-9, "adaptation_factor": 2.0, "adapt_after": "update", "max_kl": None}


def finite(model: Any) -> bool:
    return all(bool(th.isfinite(value).all()) for value in model.policy.state_dict().values())


def test_the_list_is_complete() -> None:
    assert set(VARIANTS) == set(sb3_ppo_variants.__all__) - {"NonFiniteUpdateError"}
    assert len(VARIANTS) == 12


@pytest.mark.parametrize("acceleration", ["off", "eager"])
@pytest.mark.parametrize(("cls", "action"), SPACES)
def test_trains_on_every_action_space(cls: type[Any], action: str, acceleration: str) -> None:
    log = UpdateLog()
    model = build(cls, action, acceleration=acceleration, max_kl=None)
    before = {name: value.clone() for name, value in model.policy.state_dict().items()}
    model.learn(2 * ROLLOUT, callback=log, log_interval=1000)

    after = model.policy.state_dict()
    assert finite(model)
    assert not th.equal(before["action_net.weight"], after["action_net.weight"])
    assert not th.equal(before["value_net.weight"], after["value_net.weight"])
    assert len(log.updates) == 2
    for logged in log.updates:
        assert logged["kl_divergence"] > 0
        assert logged["epochs_done"] == 3
        assert logged["grad_norm"] > 0
        assert all(math.isfinite(value) for value in logged.values())


@all_classes
@pytest.mark.parametrize("observation", ["image", "dict"])
def test_trains_on_images_and_dictionaries(cls: type[Any], observation: str) -> None:
    model = build(cls, "discrete", observation, n_epochs=2).learn(ROLLOUT)
    assert finite(model)
    assert model.last_update.kl_divergence > 0


@all_classes
@pytest.mark.parametrize("acceleration", ["off", "eager"])
def test_equal_seeds_give_equal_runs(cls: type[Any], acceleration: str) -> None:
    first, second, other = (build(cls, acceleration=acceleration, seed=seed).learn(2 * ROLLOUT) for seed in (3, 3, 4))
    assert identical(first, second)
    assert not identical(first, other)


@all_classes
def test_eager_equals_the_reference_path_on_the_same_rollout(cls: type[Any]) -> None:
    reference, eager = (build(cls, "multi_discrete", acceleration=how, max_kl=None) for how in ("off", "eager"))
    collect_rollout(reference)
    eager._setup_learn(ROLLOUT)
    eager.rollout_buffer = copy.deepcopy(reference.rollout_buffer)
    for model in (reference, eager):
        np.random.seed(0)
        model.train()
    for name, value in reference.policy.state_dict().items():
        th.testing.assert_close(eager.policy.state_dict()[name], value, rtol=1e-5, atol=1e-6)


@all_classes
def test_save_and_load_keep_policy_and_settings(cls: type[Any], tmp_path: Path) -> None:
    model = build(cls, value_clipping="sb3", clip_range_vf=0.3).learn(ROLLOUT)
    model.save(tmp_path / "model")
    loaded = cls.load(tmp_path / "model", env=make_vec_env(), device="cpu")

    assert identical(loaded, model)
    assert loaded.value_clipping == "sb3"
    observation = model.env.reset()
    expected = model.predict(observation, deterministic=True)[0]
    np.testing.assert_array_equal(loaded.predict(observation, deterministic=True)[0], expected)
    loaded.learn(ROLLOUT, reset_num_timesteps=False)
    assert loaded.num_timesteps == 2 * ROLLOUT
    assert not identical(loaded, model)


@pytest.mark.parametrize(("cls", "name"), ADAPTIVE)
def test_the_live_state_survives_load_set_parameters_and_resume(cls: type[Any], name: str, tmp_path: Path) -> None:
    expected = {"beta": 4.0, "clip_scale": 0.25, "lr_scale": 0.25}[name]
    model = build(cls, **ALWAYS_ABOVE).learn(2 * ROLLOUT)
    assert getattr(model, name) == expected
    model.save(tmp_path / "model")

    fresh = build(cls, **ALWAYS_ABOVE)
    fresh.set_parameters(tmp_path / "model", device="cpu")
    yaml_values = {**ALWAYS_ABOVE, **({"initial_beta": 1.0} if name == "beta" else {"clip_range": 0.2})}
    loaded = cls.load(tmp_path / "model", env=make_vec_env(), device="cpu", **yaml_values)
    for other in (fresh, loaded):
        assert getattr(other, name) == expected
        other.learn(ROLLOUT, reset_num_timesteps=False, log_interval=1000)
        assert other.logger.name_to_value[f"train/{name}"] == expected
        assert getattr(other, name) != expected


@all_classes
def test_callbacks_see_what_stock_shows_them(cls: type[Any], tmp_path: Path) -> None:
    seen: list[set[str]] = []
    locals_of: dict[str, list[set[str]]] = {}
    for kind in (cls, host_of(cls).stock):
        log = UpdateLog()
        log._on_step = lambda log=log: seen.append(set(log.locals)) or True  # type: ignore[method-assign]
        evaluation = EvalCallback(make_vec_env(n_envs=1), eval_freq=20, n_eval_episodes=2, verbose=0)
        checkpoints = CheckpointCallback(25, str(tmp_path / kind.__name__))
        build(kind).learn(2 * ROLLOUT, callback=CallbackList([log, evaluation, checkpoints]), log_interval=1000)
        assert len(log.updates) == 2
        assert evaluation.n_calls == 50
        assert len(list((tmp_path / kind.__name__).glob("*.zip"))) == 2
        locals_of[kind.__name__] = seen.copy()
        seen.clear()
    ours, stock = locals_of.values()
    assert len(ours) == len(stock) == 50
    assert all(one >= two for one, two in zip(ours, stock))


@all_classes
def test_wrapped_environments_and_progress(cls: type[Any]) -> None:
    env = VecNormalize(make_vec_env())
    model = build(cls, env=env).learn(ROLLOUT + 1)
    assert model.num_timesteps == 2 * ROLLOUT
    assert model._current_progress_remaining < 0
    assert env.obs_rms.count > ROLLOUT


@all_classes
def test_environments_in_processes_of_their_own(cls: type[Any]) -> None:
    env = SubprocVecEnv([make_env()] * 2, start_method="fork")
    try:
        remote = build(cls, env=env).learn(ROLLOUT)
    finally:
        env.close()
    assert identical(remote, build(cls).learn(ROLLOUT))


@all_classes
def test_the_signature_is_the_host_s_and_then_ours(cls: type[Any]) -> None:
    ours = [p for name, p in inspect.signature(cls).parameters.items() if name != "_init_setup_model"]
    host = [n for n in inspect.signature(host_of(cls).stock).parameters if n != "_init_setup_model"]
    assert [p.name for p in ours[: len(host)]] == host
    assert all(p.kind is inspect.Parameter.KEYWORD_ONLY for p in ours[len(host) :])
    assert {"value_clipping", "value_loss", "max_kl", "acceleration"} <= {p.name for p in ours}


@all_classes
def test_bad_arguments_are_refused_on_every_host(cls: type[Any]) -> None:
    with pytest.raises(ValueError, match="`value_clipping` must be one of"):
        build(cls, value_clipping="both")
    with pytest.raises(ValueError, match="`batch_size` must be an integer >= 1"):
        build(cls, batch_size=None)
    with pytest.raises(TypeError, match="did you mean `clip_range`"):
        build(cls, clip_rnge=0.1)


@all_classes
def test_the_measured_kl_is_that_of_the_whole_rollout(cls: type[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(np.random, "randint", lambda *args: 0)  # where recurrent buffers cut their sequences
    old, model = trained_with_old(cls, "multi_discrete")
    batch = next(model.rollout_buffer.get(None))
    mask = policy_evaluation.valid_steps(batch)
    with th.no_grad():
        before, after = (policy_evaluation.evaluate_minibatch(policy, batch) for policy in (old, model.policy))
        kl = before.distribution.directed_kl(before.parameters, after.parameters, model.kl_direction)
    kl = kl if mask is None else kl[mask]
    assert len(kl) == ROLLOUT
    assert kl.mean().item() > 1e-4
    assert model.last_update.kl_divergence == pytest.approx(kl.mean().item(), rel=1e-5)


@pytest.mark.parametrize("variant", ["RecurrentPPOClip", "RecurrentPPOPenalty", "RecurrentPPOAdaptiveClip"])
@pytest.mark.parametrize("action", ["box", "discrete", "multi_discrete"])
def test_the_recurrent_kl_equals_stepping_both_policies_through_the_rollout(
    variant: str, action: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One step at a time, from the hidden state at the rollout's first step and from zero at each episode's first."""
    monkeypatch.setattr(np.random, "randint", lambda *args: 0)
    old, model = trained_with_old(VARIANTS[variant], action)
    buffer = model.rollout_buffer  # its arrays now hold one environment after the other
    kls = []
    for env in range(2):
        first = env * 25
        start = tuple(th.as_tensor(a[first])[:, None] for a in (buffer.hidden_states_pi, buffer.cell_states_pi))
        states = {policy: start for policy in (old, model.policy)}
        for step in range(first, first + 25):
            distributions = []
            for policy in (old, model.policy):
                observation = th.as_tensor(buffer.observations[step])[None]
                begins = th.as_tensor(buffer.episode_starts[step])
                with th.no_grad():
                    distribution, states[policy] = policy.get_distribution(observation, states[policy], begins)
                distributions.append(copy.copy(distribution))
            kls.append(kl_divergence(*distributions, model.kl_direction).item())

    assert 2 < buffer.episode_starts.sum() < ROLLOUT
    assert np.mean(kls) > 1e-4
    assert model.last_update.kl_divergence == pytest.approx(np.mean(kls), rel=1e-4)


def trained_with_old(cls: type[Any], action: str) -> tuple[Any, Any]:
    """Train for one update and return the policy before it, too."""
    model = build(cls, action, acceleration="off", max_kl=None, learning_rate=0.01)
    old = build(cls, action, acceleration="off").policy
    old.load_state_dict(model.policy.state_dict())
    old.set_training_mode(False)
    return old, model.learn(ROLLOUT)


def test_every_host_is_an_on_policy_algorithm_of_its_own() -> None:
    assert all(issubclass(host.stock, OnPolicyAlgorithm) for host in HOSTS.values())
    assert [host_of(cls).stock for cls in VARIANTS.values()] == [h.stock for h in HOSTS.values() for _ in range(4)]
