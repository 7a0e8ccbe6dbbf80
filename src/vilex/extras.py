"""What `pip install vilex` leaves out: packages that only some rooms need, by the extra that brings them."""

from collections.abc import Iterator
from contextlib import contextmanager

from vilex.errors import InputError


class MissingPackage(InputError, ModuleNotFoundError):
    """A package that is not installed. The message is one line that names the extra."""


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Imports in here name the extra that brings what is missing; of several around each other, the outermost.

    >>> with needs("train"):
    ...     from torch.utils.tensorboard import SummaryWriter

    Raises:
        MissingPackage: a package is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or str(error)).partition(".")[0]
        if package == "vilex":
            raise
        missing = MissingPackage(f'{package} is not installed; pip install "vilex[{extra}]"')
        missing.name = package
        raise missing from None
