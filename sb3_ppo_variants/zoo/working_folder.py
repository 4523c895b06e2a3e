"""Prepare a working folder so that rl-zoo3's own train, enjoy and record_video know our algorithms there."""

import argparse
from pathlib import Path

FILE = "custom_envs.py"
LINE = "import sb3_ppo_variants.zoo.autoregister"
CONTENT = f'''\
"""Imported by rl-zoo3's commands when they are run in this folder: they then know sb3_ppo_variants' algorithms."""

{LINE}  # noqa: F401
'''


def init() -> None:
    """Run the command: write ``custom_envs.py`` into the working folder.

    :raises SystemExit: if there is such a file without our line; it is left alone
    """
    argparse.ArgumentParser(
        description=f"Write {FILE}, by which `python -m rl_zoo3.train`, `rl_zoo3.enjoy` and `rl_zoo3.record_video` "
        "know the algorithms of this package when they are run in this folder. The others do not read it: use those "
        "of sb3-ppo-variants. The program `rl_zoo3` needs PYTHONPATH=. to find it."
    ).parse_args()
    path = Path(FILE)
    if path.exists():
        if LINE not in path.read_text():
            raise SystemExit(f"{path} exists and is left as it is; add this line to it:\n{LINE}")
        print(f"{path} registers the algorithms already")
        return
    path.write_text(CONTENT)
    print(f"{path} written: python -m rl_zoo3.train --algo ppo_penalty --env CartPole-v1 works in this folder")
