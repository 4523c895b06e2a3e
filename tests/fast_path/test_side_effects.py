"""What the fast path leaves to others: policies that can be copied and sent, and models in threads of their own."""

import copy
import pickle
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch as th
from environments import make_vec_env
from hosts import VARIANTS, build, flat
from stable_baselines3 import PPO

from sb3_ppo_variants import PPOAdaptiveClip, PPOAdaptiveLR, PPOClip, PPOPenalty
from sb3_ppo_variants.fast_path.check_conditions import failure_or

KWARGS: dict[str, Any] = {"n_steps": 16, "batch_size": 16, "n_epochs": 2, "seed": 0, "device": "cpu"}


def weights(policy: Any) -> th.Tensor:
    return th.nn.utils.parameters_to_vector(policy.parameters())


@pytest.mark.parametrize("action", ["discrete", "box"])
@pytest.mark.parametrize("cls", [PPOClip, PPOPenalty, PPOAdaptiveClip, PPOAdaptiveLR])
def test_a_callback_can_copy_the_policy_after_an_update(cls: type[Any], action: str) -> None:
    model = cls("MlpPolicy", make_vec_env(action), **KWARGS)
    copies: list[Any] = []

    def copy_it(*_: Any) -> bool:
        copies.append(copy.deepcopy(model.policy))
        return True

    model.learn(3 * 32, callback=copy_it)
    assert len(copies) == 3 * 16
    assert not th.equal(weights(copies[0]), weights(copies[-1]))


@pytest.mark.parametrize("policy", ["MlpPolicy", "CnnPolicy"])
def test_a_policy_that_is_sent_carries_its_parameters_once(policy: str) -> None:
    sizes = []
    classes: list[Any] = [PPO, PPOClip]
    for cls in classes:
        kind = "image" if policy == "CnnPolicy" else "vector"
        model = cls(policy, make_vec_env("discrete", kind), **KWARGS).learn(32)
        model.predict(model.env.reset())  # stock PPO's policy holds a graph until then
        sent = [model.policy, model.get_parameters(), model.policy.value_net.state_dict()]
        assert th.equal(weights(pickle.loads(pickle.dumps(model.policy))), weights(model.policy))
        sizes.append([len(pickle.dumps(one)) for one in sent])
    assert all(abs(ours - stock) < 100 for stock, ours in zip(*sizes))


def test_a_policy_that_somebody_compiles_samples_by_itself() -> None:
    """Torch traces the method that it finds on the policy."""

    def trained(cls: type[Any]) -> Any:
        model = cls("MlpPolicy", make_vec_env(), **KWARGS).learn(32)
        model.policy.compile(backend="eager")
        return model.learn(64, reset_num_timesteps=False)

    model, stock = trained(PPOClip), trained(PPO)
    assert "the policy is compiled" in model.acceleration_report()["sampling"]
    th.testing.assert_close(weights(model.policy), weights(stock.policy), rtol=1e-5, atol=1e-5)


@pytest.fixture
def _double_precision() -> Iterator[None]:
    yield
    th.set_default_dtype(th.float32)


@pytest.mark.usefixtures("_double_precision")
@pytest.mark.parametrize("action", ["discrete", "box"])
@pytest.mark.parametrize("cls", [PPOClip, PPOPenalty, PPOAdaptiveLR])
def test_another_default_type_changes_nothing(cls: type[Any], action: str) -> None:
    found = []
    for default in (th.float32, th.float64):
        model = cls("MlpPolicy", make_vec_env(action), **KWARGS)
        th.set_default_dtype(default)
        found.append(flat(model.learn(64)))
        assert model.acceleration_report()["arithmetic"] == "numpy"
        th.set_default_dtype(th.float32)
    assert found[1].dtype == th.float32
    assert th.allclose(found[0], found[1], atol=1e-6)


def test_a_check_is_made_again_where_other_threads_draw() -> None:
    answers = iter(["differs", None])
    end = threading.Event()
    other = threading.Thread(target=end.wait)
    other.start()
    found = failure_or(lambda: next(answers))
    end.set()
    other.join()
    assert found is None


def test_a_check_that_always_fails_is_believed() -> None:
    assert failure_or(lambda: "differs") == "differs"
    assert failure_or(lambda: str(1 / 0)) == "a check on the first data failed: ZeroDivisionError: division by zero"


@pytest.mark.parametrize("action", ["box", "discrete"])
@pytest.mark.parametrize("prefix", ["", "Maskable", "Recurrent"])
def test_numpy_may_be_told_to_raise(prefix: str, action: str) -> None:
    """As SB3's guide does to find NaN: what underflows in between is nothing to raise for, as in torch."""
    if prefix == "Maskable" and action == "box":
        pytest.skip("contrib masks no Box actions")
    reports = []
    for setting in ("warn", "raise"):
        with np.errstate(all=setting):  # type: ignore[call-overload]  # of str
            model = build(VARIANTS[f"{prefix}PPOPenalty"], action, max_kl=0.02)
            with th.no_grad():  # logits that far apart that probabilities underflow
                model.policy.action_net.weight.mul_(1e5)
            reports.append(model.learn(150).acceleration_report())
    assert reports[0] == reports[1]
