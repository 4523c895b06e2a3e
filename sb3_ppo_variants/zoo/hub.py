"""The zoo's commands for the Hugging Face hub, with what rl_zoo3 2.9.2 has missed of its libraries' changes."""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import huggingface_sb3
from huggingface_hub.errors import EntryNotFoundError
from requests.exceptions import HTTPError

from sb3_ppo_variants.zoo.replacing import replaced
from sb3_ppo_variants.zoo.scripts import run_script


def push_to_hub() -> None:
    """Run the zoo's script.

    It imports a function under a name that version 3.2 of the library has made private, and expects a dictionary of it.
    """
    library: Any = importlib.import_module("huggingface_sb3.push_to_hub")  # the package has a function of that name
    if not hasattr(library, "generate_metadata"):
        library.generate_metadata = lambda *args: library._generate_metadata(*args).to_dict()
    run_script("push_to_hub")


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


__all__ = ["enjoy", "load_from_hub", "push_to_hub"]
