"""Silence while models load and save: what matters is raised, the rest (shard bars, config advice) is noise."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_loading() -> Iterator[None]:
    """No progress bars and only errors from transformers and diffusers, then as it was before."""
    import diffusers.utils.logging
    import transformers.utils.logging

    libraries = (diffusers.utils.logging, transformers.utils.logging)
    before = [(library, library.get_verbosity()) for library in libraries]
    bars = transformers.utils.logging.is_progress_bar_enabled()
    for library in libraries:
        library.set_verbosity_error()
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library, level in before:
            library.set_verbosity(level)
            if bars:
                library.enable_progress_bar()
