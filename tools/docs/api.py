"""The API reference: a page for each room of the package, written by mkdocstrings from its docstrings."""

import pkgutil

import vilex

NO_LIBRARY = {"cli", "__main__"}  # the command line is described by `tools.docs.commands`


def rooms() -> list[str]:
    """Files and folders of the package, as a user imports them."""
    return sorted(found.name for found in pkgutil.iter_modules(vilex.__path__) if found.name not in NO_LIBRARY)


def api_pages() -> dict[str, str]:
    """Text of each page by its path in the site; the first lists what `vilex` itself exports."""
    exported = "\n".join(f"- [`{name}`][{vilex._HOMES[name]}.{name}]" for name in vilex.__all__)
    index = (
        f"# API\n\n```python\nfrom vilex import VisualLexicon\n```\n\nimports, and so of the others:\n\n{exported}\n"
    )
    return {"api/index.md": index} | {
        f"api/{room}.md": f"# vilex.{room}\n\n::: vilex.{room}\n    options:\n      show_root_heading: false\n"
        for room in rooms()
    }
