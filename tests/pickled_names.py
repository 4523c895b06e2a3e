"""Which of our modules a saved file names in its pickles."""

import base64
import io
import json
import pickletools
import re
import zipfile
from collections.abc import Iterator
from typing import Any

OURS = re.compile(r"sb3_ppo_variants(\.\w+)*")


def named_in(content: bytes) -> set[str]:
    """Return our modules that pickles name: this one, or those in a zip file, SB3's JSON and the bytes of pickles."""
    return {name for stream in pickles(content) for name in modules_of(stream)}


def pickles(content: bytes) -> Iterator[bytes]:
    if content[:2] == b"PK":
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for member in archive.namelist():
                yield from pickles(archive.read(member))
    elif content[:1] == b"{":
        try:
            data = json.loads(content)
        except ValueError:  # bytes of an array that happen to begin like JSON
            return
        for value in data.values():
            if isinstance(value, dict) and ":serialized:" in value:
                yield from pickles(base64.b64decode(value[":serialized:"]))
    elif content[:1] == b"\x80":
        yield content
        for value in arguments_of(content):
            if isinstance(value, bytes):
                yield from pickles(value)


def arguments_of(stream: bytes) -> Iterator[Any]:
    try:
        yield from (argument for _, argument, _ in pickletools.genops(stream))
    except ValueError:  # bytes of an array that happen to begin like a pickle
        return


def modules_of(stream: bytes) -> Iterator[str]:
    """Yield every text of a pickle that is the name of a module of ours: more than what it imports, never less."""
    for argument in arguments_of(stream):
        if isinstance(argument, str):
            name = argument.partition(" ")[0]  # older protocols write "module class"
            if OURS.fullmatch(name):
                yield name
