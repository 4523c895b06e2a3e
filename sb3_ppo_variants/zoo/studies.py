"""Studies of Optuna on disk: what is missing is named, and nothing is made by looking for it."""

import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import optuna
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from sb3_ppo_variants.arguments.hints import did_you_mean


def check_storage(storage: str) -> Path | None:
    """Refuse an address that is of no storage.

    :param storage: as given to ``--storage``
    :return: the file that it names; None for a database on a server
    :raises ValueError: if it is neither a journal nor the address of a database
    """
    if storage.endswith(".log"):
        return Path(storage)
    try:
        url = make_url(storage)
    except ArgumentError:
        raise ValueError(
            f"--storage must be a journal, a name that ends in .log, or a database such as sqlite:///study.db, "
            f"got {storage!r}; for a new study write 'sqlite:///{storage}'"
        ) from None
    return Path(url.database) if url.drivername.startswith("sqlite") and url.database else None


_OWNER = "sb3_ppo_variants: tuned"


def claim_study(study: optuna.Study, owner: str) -> None:
    """Make a study that does not say what it is of one of this; refuse one of something else.

    :param study: to go on with
    :param owner: algorithm and environment
    :raises ValueError: naming what it is a study of
    """
    _check_owner(study, owner)
    if _OWNER not in study.user_attrs:
        study.set_user_attr(_OWNER, owner)


def _check_owner(study: optuna.Study, owner: str) -> None:
    """Refuse a study of something else; an algorithm alone owns those on all environments."""
    known = study.user_attrs.get(_OWNER)
    if known is not None and owner not in (known, known.partition(" on ")[0]):
        raise ValueError(f"--study-name {study.study_name} is a study of {known}, not of {owner}; choose another name")


def check_study(storage: str, name: str, trial_id: int | None, algo: str) -> None:
    """Refuse a study or a trial that does not exist, or is of another algorithm; another environment may take it.

    :param storage: as given to ``--storage``
    :param name: as given to ``--study-name``
    :param trial_id: number of a trial; None for the best
    :param algo: that is to be trained
    :raises ValueError: naming what there is
    """
    file = check_storage(storage)
    if file is not None and not file.is_file():
        raise ValueError(f"--storage {storage}: there is no file {file}; a study is made with -optimize")
    opened = _opened(storage)
    try:
        study = optuna.load_study(storage=opened, study_name=name)
    except KeyError:
        names = optuna.get_all_study_names(opened)
        known = f"it has {', '.join(names)}" if names else "it has none"
        raise ValueError(
            f"there is no study {name!r} in {storage}{did_you_mean(name, names, otherwise=known)}"
        ) from None
    except SQLAlchemyError as error:
        raise ValueError(f"--storage {storage} cannot be read: {_reason(error)}") from error
    _check_owner(study, algo)
    trials = study.get_trials(deepcopy=False)
    states = [trial.state for trial in trials]
    if trial_id is None and optuna.trial.TrialState.COMPLETE not in states:
        raise ValueError(f"no trial of the study {name} was completed, so that none is the best; go on with -optimize")
    if trial_id is not None and not 0 <= trial_id < len(states):
        there_are = f"0 to {len(states) - 1}" if states else "none"
        raise ValueError(f"--trial-id must be the number of a trial of {name}, got {trial_id}; there are {there_are}")
    if trial_id is not None and not trials[trial_id].params:
        state = states[trial_id].name.lower()
        raise ValueError(f"--trial-id {trial_id}: this trial of {name} has no hyperparameters, its state is {state}")


def check_study_to_go_on_with(storage: str, name: str | None, owner: str) -> None:
    """Refuse to add trials to a study of something else, before a trial is made for it.

    :param storage: that can be read; a file that does not exist will be made
    :param name: of the study; None for a new one
    :param owner: algorithm and environment
    :raises ValueError: naming what it is a study of
    """
    file = check_storage(storage)
    if name is None or (file is not None and not file.is_file()):
        return
    with suppress(KeyError):  # it will be made
        _check_owner(optuna.load_study(storage=_opened(storage), study_name=name), owner)


def _opened(storage: str) -> Any:
    if not storage.endswith(".log"):
        return storage
    return optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(storage))  # type: ignore[attr-defined]


def create_tables(storage: str) -> None:
    """Let a database be made ready for a study while other workers do the same.

    Optuna looks for its tables and then creates them, so that of two workers that start at once one can fail.

    :param storage: address of the database
    :raises ValueError: if it is of no use, after three attempts
    """
    for attempt in range(3):
        try:
            optuna.storages.RDBStorage(storage).remove_session()
            return
        except SQLAlchemyError as error:
            if attempt == 2:
                raise ValueError(f"--storage {storage} cannot be used: {_reason(error)}") from error
            time.sleep(1)


def _reason(error: SQLAlchemyError) -> str:
    """Return what the database said, without the statement that it was asked."""
    return str(getattr(error, "orig", None) or error)


__all__ = ["check_storage", "check_study", "check_study_to_go_on_with", "claim_study", "create_tables"]
