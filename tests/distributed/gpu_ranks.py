"""One of several ranks on a GPU: trains a model per acceleration, and prints what must be the same on every rank."""

import warnings

import torch as th
from hosts import build, flat

from sb3_ppo_variants import PPOPenalty
from sb3_ppo_variants.distributed import current_ranks

warnings.simplefilter("ignore")
current_ranks()  # before the first use of the device, which it chooses
for acceleration in ("off", "eager", "compile"):
    model = build(PPOPenalty, "box", device="cuda", acceleration=acceleration, learning_rate=0.01, target_kl=0.005)
    before = flat(model)
    model.learn(500)
    assert not th.equal(before, flat(model)), "nothing was learned"
    print(acceleration, model.ranks.size, model.last_update.kl_divergence, model.beta, flat(model).double().tolist())
