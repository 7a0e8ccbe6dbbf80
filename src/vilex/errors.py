"""The one error that is a user's to mend: what was wrong, what was expected, what to do."""


class InputError(ValueError):
    """Bad input (file, value, model folder). The message is one line that names it and the remedy."""
