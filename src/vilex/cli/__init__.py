"""The command line; `vilex --help` need not wait for torch."""

from vilex.cli.app import main

__all__ = ["main"]
