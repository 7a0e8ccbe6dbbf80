"""How the recipe's commands end."""

import sys
from collections.abc import Callable

from vilex.errors import InputError


def run_main(main: Callable[[], object]) -> None:
    """Run a command; a user's error is one line and exit status 2."""
    try:
        main()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
