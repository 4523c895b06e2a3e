"""What the old policy said of a rollout's rows, once, is what it says in every minibatch; or it is asked again."""

from typing import Any

import numpy as np
import pytest
import torch as th
from hosts import VARIANTS, build, collect_rollout, flat

from sb3_ppo_variants.fast_path.remembered_distributions import RememberedDistributions
from sb3_ppo_variants.fast_path.whole_sequences import SequenceUpdate
from sb3_ppo_variants.update.reference_update import ReferenceUpdate

PENALTY, ADAPTIVE, CLIP = (VARIANTS[f"Recurrent{name}"] for name in ("PPOPenalty", "PPOAdaptiveClip", "PPOClip"))
MODELS: dict[str, dict[str, Any]] = {
    "discrete": {"action": "discrete"},
    "multi_discrete": {"action": "multi_discrete"},
    "multi_binary": {"action": "multi_binary"},
    "dictionaries": {"action": "box", "observation": "dict"},
    "gsde": {"action": "box", "use_sde": True},
    "two_layers": {"action": "box", "policy_kwargs": {"n_lstm_layers": 2}},
    "shared": {"action": "box", "policy_kwargs": {"shared_lstm": True, "enable_critic_lstm": False}},
}

pytestmark = pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")


class Compared(list[bool]):
    """Whether each answer was known, having compared those that were with the old policy's own."""

    def of(self, update: SequenceUpdate, minibatch: Any) -> Any:
        known = None if update._old is None else update._old.of(minibatch)
        asked = ReferenceUpdate._old_parameters(update, minibatch)
        self.append(known is not None)
        mask = minibatch.mask > 0
        for a, b in zip(known or asked, asked, strict=True):
            th.testing.assert_close(a[mask], b[mask], rtol=1e-4, atol=1e-5)
        return known or asked


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> Compared:
    answers = Compared()
    monkeypatch.setattr(SequenceUpdate, "_old_parameters", lambda update, minibatch: answers.of(update, minibatch))
    return answers


@pytest.mark.parametrize("settings", MODELS.values(), ids=MODELS.keys())
def test_it_is_what_the_old_policy_says_wherever_sequences_are_cut(settings: Any, compared: Compared) -> None:
    model = build(PENALTY, n_envs=3, **settings).learn(150)
    assert len(compared) > 2 * 3 * 5  # two updates of three epochs of five minibatches, and measurements
    assert all(compared)
    assert "_get_samples" not in vars(model.rollout_buffer)


@pytest.mark.parametrize("cls", [PENALTY, ADAPTIVE], ids=["penalty", "adaptive_clip"])
def test_the_update_is_the_reference_s_to_rounding(cls: Any) -> None:
    models = [build(cls, "box", n_envs=3, acceleration=acceleration).learn(75) for acceleration in ("off", "eager")]
    assert models[1].last_update.kl_divergence == pytest.approx(models[0].last_update.kl_divergence, rel=1e-3)
    th.testing.assert_close(flat(models[1]), flat(models[0]), rtol=1e-3, atol=1e-5)


def test_a_policy_that_did_not_collect_the_rollout_is_asked(compared: Compared) -> None:
    kls = []
    for acceleration in ("off", "eager"):
        model = build(PENALTY, "box", acceleration=acceleration)
        collect_rollout(model)
        with th.no_grad():  # as a callback might at the end of a rollout
            for parameter in model.policy.lstm_actor.parameters():
                parameter.mul_(3)
        np.random.seed(0)
        model.train()
        kls.append(model.last_update.kl_divergence)
    assert compared
    assert not any(compared)
    assert kls[1] == pytest.approx(kls[0], rel=1e-3)


def test_a_buffer_that_somebody_has_patched_is_left_alone(compared: Compared) -> None:
    model = build(PENALTY, "box")
    read = model.rollout_buffer._get_samples
    model.rollout_buffer._get_samples = lambda *args: read(*args)
    own = model.rollout_buffer._get_samples
    model.learn(50)
    assert compared
    assert not any(compared)
    assert model.rollout_buffer._get_samples is own


def test_only_the_latest_minibatch_is_known() -> None:
    model = build(PENALTY, "box")
    collect_rollout(model)
    remembered = RememberedDistributions(model.rollout_buffer, 16, lambda _: pytest.fail("asked in vain"))
    with remembered.following():
        first, _ = list(model.rollout_buffer.get(25))
    assert remembered.of(first) is None


def test_the_clip_alone_does_not_need_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RememberedDistributions, "__init__", lambda *_: pytest.fail("made in vain"))
    build(CLIP, "box").learn(50)


def test_the_buffer_is_itself_again_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(PENALTY, "box")
    collect_rollout(model)

    def failing(*_: Any) -> None:
        raise KeyError("in a step")

    monkeypatch.setattr(type(model), "kl_penalty", failing)
    with pytest.raises(KeyError, match="in a step"):
        model.train()
    assert "_get_samples" not in vars(model.rollout_buffer)
