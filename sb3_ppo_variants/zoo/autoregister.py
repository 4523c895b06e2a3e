"""Importing this module registers our algorithms with rl-zoo3.

It is for the one line of a ``custom_envs.py`` in the working folder: the zoo tries ``import custom_envs`` before its
commands build their parsers, so that ``python -m rl_zoo3.train --algo ppo_penalty`` works there.
"""

from sb3_ppo_variants.zoo import register

register()
