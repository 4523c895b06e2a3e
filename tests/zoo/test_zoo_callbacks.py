"""The callbacks out of rl-zoo3's YAML files, for a class of this package and for a stock one."""

from pathlib import Path

import numpy as np
import pytest
from test_zoo import train, zoo

from sb3_ppo_variants.trust_region_log import read_trust_region

YAML = """
CartPole-v1:
  n_timesteps: 10000
  policy: MlpPolicy
  n_envs: 2
  n_steps: 32
  n_epochs: 4
  learning_rate: 0.01
  callback:
    - sb3_ppo_variants.callbacks.ClipFractionCallback: {low: 0.05, high: 0.5, patience: 1}
    - sb3_ppo_variants.callbacks.ClipRangeFromClipFraction: {target: 0.3, clip_range_bounds: [0.001, 0.5]}
    - sb3_ppo_variants.callbacks.TrustRegionRecorder: {path: run.csv, minibatches: true}
    - sb3_ppo_variants.callbacks.TrustRegionFigure: {every: 2, path: run.png}
    - sb3_ppo_variants.callbacks.StopTrainingOnClipFraction: {threshold: 0.0, patience: 3}
    - sb3_ppo_variants.callbacks.StopTrainingOnKL: {max_kl: 10.0, patience: 1}
"""


@pytest.mark.parametrize("algo", ["ppo_clip", "ppo"])
def test_a_yaml_file_names_the_callbacks(algo: str, tmp_path: Path) -> None:
    (tmp_path / "conf.yml").write_text(YAML)
    output = train(tmp_path, algo, "CartPole-v1", "-conf", str(tmp_path / "conf.yml"), steps=10_000)
    log = read_trust_region(tmp_path / "run.csv")
    updates = len(log.updates["update"])
    assert "Stopping training: the clip fraction was above 0 in 3 updates in a row" in output
    assert 3 <= updates < 100
    assert list(log.updates["timesteps"]) == [64 * (i + 1) for i in range(updates)]
    assert len(set(log.updates["clip_range"])) > 1  # it was steered
    assert len(log.epochs["update"]) == (4 * updates if algo == "ppo_clip" else 0)
    assert np.isfinite(log.updates["ep_rew_mean"]).any()
    assert (tmp_path / "run.png").read_bytes().startswith(b"\x89PNG")


def test_the_command_line_can_name_them_too_and_bad_values_are_refused(tmp_path: Path) -> None:
    callback = "callback:[{'sb3_ppo_variants.callbacks.TrustRegionRecorder': {'path': 'seed1.csv'}}]"
    train(tmp_path, "ppo_penalty", "CartPole-v1", "-params", callback)
    assert len(read_trust_region(tmp_path / "seed1.csv").updates["update"]) >= 1

    wrong = "callback:[{'sb3_ppo_variants.callbacks.ClipFractionCallback': {'low': 0.7}}]"
    arguments = ["--algo", "ppo_clip", "--env", "CartPole-v1", "-n", "64", "-f", "logs", "-params", wrong]
    assert "`low` must be < `high`, got (0.7, 0.6)" in zoo(tmp_path, "train", *arguments, status=2).stderr
