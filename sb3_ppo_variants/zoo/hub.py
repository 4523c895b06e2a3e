"""The zoo's commands for the Hugging Face hub, with what rl_zoo3 2.9.2 has missed of its libraries' changes."""

import importlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import huggingface_sb3
from huggingface_hub.errors import EntryNotFoundError
from requests.exceptions import HTTPError

from sb3_ppo_variants.zoo import ADDED, ALGORITHMS
from sb3_ppo_variants.zoo.replacing import replaced
from sb3_ppo_variants.zoo.scripts import run_script


def push_to_hub() -> None:
    """Run the zoo's script.

    It imports a function under a name that version 3.2 of the library has made private, and expects a dictionary of it.
    """
    library: Any = importlib.import_module("huggingface_sb3.push_to_hub")  # the package has a function of that name
    if not hasattr(library, "generate_metadata"):
        library.generate_metadata = lambda *args: library._generate_metadata(*args).to_dict()
    cards: Any = importlib.import_module("huggingface_hub.repocard")
    save = cards.metadata_save

    def save_own(path: Path, metadata: dict[str, Any]) -> None:  # called once the card is written
        path.write_text(own_card(path.read_text(encoding="utf-8")), encoding="utf-8")
        save(path, metadata)

    with replaced(cards, metadata_save=save_own):  # the script is read anew, and takes its function from there
        run_script("push_to_hub")


def own_card(card: str) -> str:
    """Return the zoo's model card of an agent with commands that know its algorithm, where it is one of ours.

    :param card: as the zoo writes it
    """
    algo = re.search(r"--algo (\S+)", card)
    if algo is None or algo[1] not in ALGORITHMS:
        return card
    more = f", and put the custom_envs.py that registers {algo[1]} into the working folder" if algo[1] in ADDED else ""
    install = f"Install sb3_ppo_variants, which brings the RL Zoo{more}."
    card = re.sub(r"Install the RL Zoo .*?```bash\n.*?```\n", f"{install}\n", card, count=1, flags=re.DOTALL)
    card = re.sub(r"If you installed the RL Zoo3 via pip.*?```\n.*?```\n\n", "", card, count=1, flags=re.DOTALL)
    card = card.replace("python -m rl_zoo3.", "sb3-ppo-variants ")
    # The zoo's library downloads no pickle without it.
    return card.replace("sb3-ppo-variants load_from_hub", "TRUST_REMOTE_CODE=True sb3-ppo-variants load_from_hub")


def load_from_hub() -> None:
    """Run the zoo's script."""
    with _errors_of_requests(huggingface_sb3):  # the script is read anew, and takes its function from there
        run_script("load_from_hub")


def enjoy() -> None:
    """Run the zoo's function, which gets an agent that is not here from the hub."""
    zoo = importlib.import_module("rl_zoo3.enjoy")
    with _errors_of_requests(importlib.import_module("rl_zoo3.load_from_hub")):
        zoo.enjoy()


@contextmanager
def _errors_of_requests(module: Any) -> Iterator[None]:
    """Raise what the zoo takes for "this agent has no normalisation", requests' error; huggingface_hub has left it.

    :param module: whose ``load_from_hub`` is called
    """
    load = huggingface_sb3.load_from_hub

    def load_or_http_error(repo_id: str, filename: str) -> str:
        try:
            return str(load(repo_id, filename))
        except EntryNotFoundError as error:
            raise HTTPError(str(error)) from error

    with replaced(module, load_from_hub=load_or_http_error):
        yield


__all__ = ["enjoy", "load_from_hub", "own_card", "push_to_hub"]
