"""A stage's result is a folder that is whole or not there, for `--skip-finished` asks for nothing else."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """A folder to fill beside `folder`, whose place it takes when all went well."""
    aside = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(aside, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    yield aside
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(aside, folder)
