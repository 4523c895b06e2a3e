"""Register the gallery with rl-zoo3 and ``compare``: they import a module of this name from the working folder.

In this folder: ``sb3-ppo-variants train --algo spo --env CartPole-v1``. In another one, put this folder on the
PYTHONPATH, or copy the files that are wanted.
"""

from espo import ESPO, MaskableESPO, RecurrentESPO
from klip import KLipPPO, MaskableKLipPPO, RecurrentKLipPPO
from p3o import P3O, MaskableP3O, RecurrentP3O
from reference_kl import MaskablePPOReferenceKL, PPOReferenceKL, RecurrentPPOReferenceKL
from rollback import MaskablePPORollback, PPORollback, RecurrentPPORollback
from spo import SPO, MaskableSPO, RecurrentSPO
from trppo import TRPPO, MaskableTRPPO, RecurrentTRPPO

from sb3_ppo_variants.zoo import register_algorithm

GALLERY = {
    "ppo_rollback": (PPORollback, RecurrentPPORollback, MaskablePPORollback),
    "klip_ppo": (KLipPPO, RecurrentKLipPPO, MaskableKLipPPO),
    "spo": (SPO, RecurrentSPO, MaskableSPO),
    "trppo": (TRPPO, RecurrentTRPPO, MaskableTRPPO),
    "espo": (ESPO, RecurrentESPO, MaskableESPO),
    "p3o": (P3O, RecurrentP3O, MaskableP3O),
    "ppo_reference_kl": (PPOReferenceKL, RecurrentPPOReferenceKL, MaskablePPOReferenceKL),
}

for name, classes in GALLERY.items():
    for ending, cls in zip(("", "_lstm", "_mask"), classes):
        register_algorithm(name + ending, cls)  # no hyperparameters of its own: those of the host in rl-zoo3
