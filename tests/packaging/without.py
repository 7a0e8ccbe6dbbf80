"""`python -m tests.packaging.without`: commands as they are where packages are not installed.

Reads {"packages": [...], "commands": [[...], ...]} as JSON and writes [[exit status, stdout, stderr], ...].
"""

import contextlib
import io
import json
import sys
from importlib.machinery import PathFinder


def hide(packages):
    """Nothing finds these packages any more; libraries that ask whether they are there hear no."""

    class Finder(PathFinder):
        @classmethod
        def find_spec(cls, name, path=None, target=None):
            return None if name.partition(".")[0] in packages else super().find_spec(name, path, target)

    sys.meta_path = [Finder if finder is PathFinder else finder for finder in sys.meta_path]


def run(words):
    """The exit status of `vilex words...`, and what it printed."""
    from vilex.cli.app import main
    from vilex.cli.options import errors

    out, err = io.StringIO(), io.StringIO()
    sys.argv, errors.file = ["vilex", *words], err
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
        status = 0
    except SystemExit as stop:
        status = stop.code
    return status, out.getvalue(), err.getvalue()


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    hide(asked["packages"])
    answers = [run(words) for words in asked["commands"]]
    print(json.dumps(answers))
