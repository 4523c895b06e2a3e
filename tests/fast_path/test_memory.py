"""A run does not take more and more memory."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, warnings
from sb3_ppo_variants import PPOPenalty
warnings.simplefilter("ignore")
model = PPOPenalty("MlpPolicy", "LunarLander-v3", seed=0, device="cpu")
sizes = []
for _ in range(2):
    model.learn(40_000 if sizes else 10_000, reset_num_timesteps=False)
    sizes.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
print(sizes[1] - sizes[0])
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.system() != "Linux", reason="the size of a process is asked of Linux")
def test_lunar_lander_s_small_objects_do_not_scatter_the_memory_of_updates() -> None:
    """With memory that torch took, this was 10 to 18 MB and went on: see ``mlp_trunk._memory``."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 8
