"""The one error that is a user's to mend: what was wrong, what was expected, what to do."""


def printable(text: object) -> str:
    """One line that every terminal and every UTF-8 file can hold.

    Names of files are bytes: those that are no UTF-8 come as lone surrogates, and are written as `\\udce9` here.
    """
    return " ".join(str(text).splitlines()).encode("utf-8", "backslashreplace").decode("utf-8")


class InputError(ValueError):
    """Bad input (file, value, model folder). The message is one line that names it and the remedy."""

    def __init__(self, message: object = ""):
        super().__init__(printable(message))
