"""Going on with other settings than a run began with: which are free, which must be said, which never change."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from vilex.errors import InputError
from vilex.train.toml import to_dict


@dataclass(frozen=True)
class SettingRules:
    """What of a run's settings may differ when it goes on.

    Attributes:
        free: names of settings that may change without a word: they are about this machine, or about what is written
            when. fixed: those that never change: the checkpoint's tensors depend on them.
        meanings: what it means to go on with another value, by name.
        rows: the defaults of what lists of tables hold, by the list's name.
        growing: a number that may become larger without a word.
        accepted: what else may be accepted, though it is free.
    """

    free: Collection[str]
    fixed: Collection[str]
    meanings: Mapping[str, str]
    rows: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    growing: str = ""
    accepted: Collection[str] = ()

    def check(self, before: Mapping[str, Any], config: Any, accept: Collection[str], where: str) -> list[str]:
        """Compare the settings a run was saved with to those it goes on with.

        Args:
            before: as `to_dict` gave them; what it lacks did not exist then, and counts as its default.
            config: now. accept: names of settings that may differ, as `data.path`. where: the run, for errors.
        Returns:
            A line for each accepted change: from what to what, and what that means.
        Raises:
            InputError: another setting differs, or one is accepted that does not exist or never can change.
        """
        now, defaults = (json.loads(json.dumps(to_dict(one))) for one in (config, type(config)()))
        values = {f"{section}.{key}": value for section, inside in now.items() for key, value in inside.items()}
        self._check_accepted(accept, values)
        lines = []
        for name, value in values.items():
            section, key = name.split(".", 1)
            was = before.get(section, {}).get(key, defaults[section][key])
            if name in self.rows:
                was = [{**self.rows[name], **row} for row in was]
            if name in self.free or was == value:
                continue
            grown = name == self.growing and value > was
            if not grown and (name in self.fixed or name not in accept):
                raise InputError(f"{where}: holds a run with {name} = {was!r}, not {value!r}; {self._remedy(name)}")
            lines.append(f"{name} {was!r} -> {value!r}: {self.meanings.get(name, 'from here on')}")
        return lines

    def _check_accepted(self, accept: Collection[str], known: Collection[str]) -> None:
        possible = sorted(({*known} - {*self.free} - {*self.fixed}) | {*self.accepted})
        for name in accept:
            if name not in possible:
                raise InputError(f"--accept {name}: expected one of {', '.join(possible)}")

    def _remedy(self, name: str) -> str:
        if name in self.fixed:
            return "give another run.out, or the same settings to go on"
        return f"give another run.out, the same settings to go on, or --accept {name} to go on with the new value"
