"""The table of schedulers, as `vilex.sample` has them."""

from vilex.sample import FLOW, OTHERS, SCHEDULERS, VARIANTS


def schedulers() -> str:
    """A row a short name: diffusers' class, and its class for flow models where that is another one."""
    rows = ["| name | diffusers | for flow models |", "| --- | --- | --- |"]
    for name, kind in SCHEDULERS.items():
        variant = ", ".join(f"`{key}={value}`" for key, value in VARIANTS.get(name, {}).items())
        rows.append(f"| `{name}` | {kind}{f' with {variant}' if variant else ''} | {_of_flow(name, kind)} |")
    others = ", ".join(f"`{one}`" for one in sorted(OTHERS))
    return "\n".join(rows) + f"\n\nBy the name of their class also: {others}."


def _of_flow(name: str, kind: str) -> str:
    """Which class a name means for a flow model; none where it follows none."""
    from vilex.errors import InputError
    from vilex.sample import scheduler_class

    try:
        found = scheduler_class(name, {"_class_name": FLOW["euler"]}).__name__
    except InputError:
        return ""
    return "the same" if found == kind else found
