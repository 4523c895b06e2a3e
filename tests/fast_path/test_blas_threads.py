"""numpy's matrix products run on one thread, and whoever else uses numpy keeps the threads it had."""

from contextlib import suppress
from threading import Event, Thread
from typing import Any

import pytest
from environments import make_vec_env
from threadpoolctl import ThreadpoolController, threadpool_limits

from sb3_ppo_variants import PPOPenalty
from sb3_ppo_variants.fast_path import lean_rollout
from sb3_ppo_variants.fast_path.blas_threads import _libraries, _set, has_one_thread, one_blas_thread
from sb3_ppo_variants.fast_path.numpy_trunk import NumpyMlp, NumpyMlpOfColumns
from sb3_ppo_variants.fast_path.numpy_update import NumpyUpdate


def blas_threads() -> set[int]:
    """Return the number of threads of numpy's BLAS; other libraries may bring one of their own, later."""
    libraries = ThreadpoolController().select(user_api="blas").lib_controllers
    found = {library.num_threads for library in libraries if "numpy" in str(library.filepath)}
    if not found:
        pytest.skip("numpy uses a BLAS whose threads cannot be set")
    return found


def test_threads_are_given_back_after_an_error_too() -> None:
    with threadpool_limits(2, user_api="blas"):
        with suppress(ZeroDivisionError), one_blas_thread():
            assert blas_threads() == {1}
            raise ZeroDivisionError
        assert blas_threads() == {2}


def test_rollout_and_update_use_one_thread_and_the_environments_keep_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    in_products, in_environments = [], []

    def watch(network: Any) -> None:
        forward = network.forward

        def watched(self: Any, inputs: Any) -> Any:
            in_products.append(blas_threads())
            return forward(self, inputs)

        monkeypatch.setattr(network, "forward", watched)

    watch(NumpyMlp)
    watch(NumpyMlpOfColumns)
    kwargs: dict[str, Any] = {"n_steps": 16, "batch_size": 16, "n_epochs": 1, "device": "cpu"}
    model = PPOPenalty("MlpPolicy", make_vec_env(n_envs=1), policy_kwargs={"net_arch": [128, 128]}, **kwargs)
    step = model.env.step_wait  # type: ignore[union-attr]  # it has one

    def step_wait() -> Any:
        in_environments.append(blas_threads())
        return step()

    monkeypatch.setattr(model.env, "step_wait", step_wait)
    with threadpool_limits(2, user_api="blas"):
        model.learn(16)
    assert model.acceleration_report()["arithmetic"] == "numpy"
    assert set(map(frozenset, in_environments)) == {frozenset({2})}
    checks = 4  # of the update on the first data, which are no part of training
    assert in_products.count({2}) <= checks < in_products.count({1})


@pytest.mark.parametrize("threads", [1, 2])
def test_a_rollout_sets_threads_only_if_there_are_several(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[set[int]] = []

    def holding() -> Any:
        held.append(blas_threads())
        return one_blas_thread()

    monkeypatch.setattr(lean_rollout, "one_blas_thread", holding)
    with threadpool_limits(threads, user_api="blas"):
        PPOPenalty(
            "MlpPolicy",
            make_vec_env(n_envs=1),
            policy_kwargs={"net_arch": [128, 128]},
            n_steps=16,
            batch_size=16,
            device="cpu",
        ).learn(16)
    steps, checks = 16, 1  # of the forward pass on the first data
    assert held == ([{1}] * checks if threads == 1 else [{2}] * (checks + steps))


def test_the_thread_of_another_model_is_not_taken_for_ones_own() -> None:
    with threadpool_limits(2, user_api="blas"):
        with one_blas_thread():
            assert blas_threads() == {1} and not has_one_thread()
        assert not has_one_thread()
    with threadpool_limits(1, user_api="blas"):
        assert has_one_thread()


def test_an_update_that_fails_gives_the_threads_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """While its exception is kept, the generator of its minibatches lives on."""
    model = PPOPenalty("MlpPolicy", make_vec_env(n_envs=1), n_steps=16, batch_size=16, device="cpu")
    model.learn(16)

    def fail(*args: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(NumpyUpdate, "step", fail)
    with threadpool_limits(2, user_api="blas"):
        with pytest.raises(ZeroDivisionError) as kept:
            model.train()
        assert kept.value is not None
        assert blas_threads() == {2}


def test_users_in_several_threads_leave_the_threads_as_they_were() -> None:
    """The second begins within the first, and ends when the first one's thread is gone."""
    first_is_in, second_is_in, seen = Event(), Event(), []

    def use_first() -> None:
        with one_blas_thread():
            first_is_in.set()
            second_is_in.wait(30)

    def use_second(first: Thread) -> None:
        first_is_in.wait(30)
        with one_blas_thread():
            second_is_in.set()
            first.join(30)
            seen.append(blas_threads())

    # threadpool_limits would own the number while it lasts: what other threads then want is ignored.
    before = tuple(library.num_threads for library in _libraries())
    _set((2,) * len(before))
    try:
        first = Thread(target=use_first)
        second = Thread(target=use_second, args=(first,))
        for thread in (first, second):
            thread.start()
        second.join(60)
        assert seen == [{1}]
        assert blas_threads() == {2}
        with threadpool_limits(1, user_api="blas"):  # nobody owns it any more
            assert blas_threads() == {1}
    finally:
        _set(before)
