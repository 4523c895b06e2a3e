"""Running LSTM sequences as wholes gives what contrib's steps give, and is left alone where it might not."""

from typing import Any

import numpy as np
import pytest
import torch as th
from hosts import VARIANTS, build, collect_rollout
from sb3_contrib.common.recurrent.buffers import RecurrentRolloutBuffer
from sb3_contrib.ppo_recurrent.policies import MlpLstmPolicy

from sb3_ppo_variants.fast_path.whole_sequences import whole_sequences, whole_sequences_obstacle
from sb3_ppo_variants.update.policy_evaluation import evaluate_minibatch

PENALTY = VARIANTS["RecurrentPPOPenalty"]
KINDS: dict[str, dict[str, Any]] = {
    "separate": {},
    "shared": {"shared_lstm": True, "enable_critic_lstm": False},
    "actor_only": {"enable_critic_lstm": False},
    "two_layers": {"n_lstm_layers": 2},
}

pytestmark = pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")


class SteppingPolicy(MlpLstmPolicy):
    @staticmethod
    def _process_sequence(features: Any, lstm_states: Any, episode_starts: Any, lstm: Any) -> Any:
        return MlpLstmPolicy._process_sequence(features, lstm_states, episode_starts, lstm)


class OwnBuffer(RecurrentRolloutBuffer):
    pass


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
@pytest.mark.parametrize("action", ["box", "discrete", "multi_binary"])
def test_equal_to_stepping_in_values_and_gradients(action: str, kind: dict[str, Any]) -> None:
    model = build(PENALTY, action, n_envs=3, policy_kwargs=kind).learn(75)
    parameters = list(model.policy.parameters())
    np.random.seed(1)
    batches = list(model.rollout_buffer.get(20))
    assert any((batch.mask == 0).any() for batch in batches)
    assert any(batch.lstm_states.pi[0].abs().sum() > 0 for batch in batches)
    for batch in batches:
        results = []
        for policies in ([], [model.policy]):
            with whole_sequences(policies):
                evaluation = evaluate_minibatch(model.policy, batch)
            valid = batch.mask > 0
            total = (evaluation.log_prob + evaluation.values**2 + evaluation.entropy)[valid].sum()
            gradients = [g for g in th.autograd.grad(total, parameters, allow_unused=True) if g is not None]
            results.append([evaluation.values[valid], evaluation.log_prob[valid], *gradients])
        for stepped, whole in zip(*results, strict=True):
            th.testing.assert_close(whole, stepped, rtol=1e-4, atol=1e-6)


def test_the_policy_is_itself_again_afterwards() -> None:
    policy = build(PENALTY).policy
    with pytest.raises(KeyError), whole_sequences([policy]):  # noqa: PT012  (the block is the point)
        assert "_process_sequence" in vars(policy)
        raise KeyError
    assert "_process_sequence" not in vars(policy)
    assert policy._process_sequence is MlpLstmPolicy._process_sequence


def test_what_might_cut_or_step_in_its_own_way_is_left_alone() -> None:
    model = build(PENALTY)
    own_buffer = OwnBuffer(4, model.observation_space, model.action_space, (4, 1, 2, 6))
    own_policy = PENALTY(SteppingPolicy, model.env, n_steps=25, batch_size=16, device="cpu")
    plain = build(VARIANTS["PPOPenalty"])
    assert whole_sequences_obstacle(model.policy, model.rollout_buffer) is None
    assert "cut sequences" in str(whole_sequences_obstacle(model.policy, own_buffer))
    assert "steps through" in str(whole_sequences_obstacle(own_policy.policy, own_policy.rollout_buffer))
    assert "no LSTM" in str(whole_sequences_obstacle(plain.policy, plain.rollout_buffer))
    assert model.acceleration_report()["sequences"] == "run as wholes"
    assert "in its own way" in own_policy.acceleration_report()["sequences"]
    assert "'off'" in build(PENALTY, acceleration="off").acceleration_report()["sequences"]
    assert "sequences" not in plain.acceleration_report()
    own_policy.learn(50)
    assert own_policy.last_update.kl_divergence > 0


@pytest.mark.parametrize("optimizer", [th.optim.Adam, th.optim.RMSprop])
def test_the_optimiser_s_state_is_kept_for_other_code(optimizer: type[th.optim.Optimizer]) -> None:
    model = build(PENALTY, policy_kwargs={"optimizer_class": optimizer}, max_kl=None).learn(50)
    expected = "Adam on one flat tensor" if optimizer is th.optim.Adam else "policy.optimizer"
    assert model.acceleration_report()["optimizer"].startswith(expected)
    states = model.policy.optimizer.state_dict()["state"]
    assert {int(state["step"]) for state in states.values()} == {12}
    assert len(states) == len(list(model.policy.parameters()))


def test_measurements_do_without_the_critic(monkeypatch: pytest.MonkeyPatch) -> None:
    """The old policy's distribution, and the KL of the update, are the actor's business."""
    run, kls = th.nn.LSTM.forward, []
    for acceleration in ("off", "eager"):
        model = build(VARIANTS["RecurrentPPOPenalty"], "box", acceleration=acceleration)
        collect_rollout(model)
        model.policy.lstm_critic.is_critic = True
        calls = {"actor": 0, "critic": 0}

        def counted(self: Any, *args: Any, calls: dict[str, int] = calls) -> Any:
            calls["critic" if hasattr(self, "is_critic") else "actor"] += 1
            return run(self, *args)

        np.random.seed(0)
        model.train()  # the checks on the first data are done
        collect_rollout(model)
        with monkeypatch.context() as patch:
            patch.setattr(th.nn.LSTM, "forward", counted)
            model.train()
        kls.append(model.last_update.kl_divergence)
    steps = len(model.last_update.minibatches)
    assert calls["critic"] == steps
    assert steps < calls["actor"] < 2 * steps  # the old policy is asked once per row
    assert kls[1] == pytest.approx(kls[0], rel=1e-4)
