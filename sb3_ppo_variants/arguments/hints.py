"""What a user may have meant by a name that does not exist."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


def did_you_mean(name: str, known: Iterable[str], quote: str = "'", otherwise: str = "") -> str:
    """Return the end of a message about an unknown name: the closest known one as a question.

    :param name: as given
    :param known: what exists
    :param quote: put around the name: a backtick for arguments, as in all messages about them
    :param otherwise: what to say if no known name is close
    :return: ``"; did you mean 'x'?"``, or ``otherwise`` after a semicolon, or nothing
    """
    by_lower_case = {str(one).lower(): one for one in known}
    close = difflib.get_close_matches(name.lower(), by_lower_case, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {quote}{by_lower_case[close[0]]}{quote}?"
    return f"; {otherwise}" if otherwise else ""


def closest(name: str, known: Sequence[str]) -> str:
    """Return the known name that is most like another, however unlike that is.

    :param name: as given
    :param known: what exists, at least one
    """
    return difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]


__all__ = ["closest", "did_you_mean"]
