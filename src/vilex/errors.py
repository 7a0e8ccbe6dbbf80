"""The one error that is a user's to mend: what was wrong, what was expected, what to do."""

from collections.abc import Iterator
from contextlib import contextmanager


def printable(text: object) -> str:
    """One line that every terminal and every UTF-8 file can hold.

    Names of files are bytes: those that are no UTF-8 come as lone surrogates, and are written as `\\udce9` here.
    """
    return " ".join(str(text).splitlines()).encode("utf-8", "backslashreplace").decode("utf-8")


class InputError(ValueError):
    """Bad input (file, value, model folder). The message is one line that names it and the remedy."""

    def __init__(self, message: object = ""):
        super().__init__(printable(message))


@contextmanager
def said_as(setting: str, name: str) -> Iterator[None]:
    """Errors about a setting begin with the name that this caller's user knows it by.

    >>> with said_as("data.path: ", "--data "):
    ...     open_source(SourceConfig("nowhere"))
    InputError: --data nowhere: no such folder, Parquet table or tar shard
    """
    try:
        yield
    except InputError as error:
        message = str(error)
        if not message.startswith(setting):
            raise
        raise InputError(name + message.removeprefix(setting)) from None
