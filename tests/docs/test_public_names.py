"""Which names must have a docstring, and which are excused."""

from pathlib import Path

from tools.docs.public_names import undocumented

ROOM = '''"""A room."""

from typing import Protocol


class Speaker(Protocol):
    """Speaks.

    Attributes:
        loud: whether one hears it.
    """

    @property
    def loud(self) -> bool: ...

    def speak(self) -> str:
        """Says something."""


class Dog:
    """Has all of a speaker, so need not repeat what that says."""

    @property
    def loud(self):
        return True

    def speak(self):
        return "woof"

    def bite(self):
        return None


class Puppy(Dog):
    """A base class's words are enough, too."""

    def speak(self):
        return "wif"

    def _hide(self):
        return None


class Stone:
    """No speaker, for it does not speak."""

    @property
    def loud(self):
        return False


def silent():
    return None


class Silent:
    pass
'''


def test_what_says_nothing_of_itself_is_named(tmp_path):
    package = tmp_path / "house"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "room.py").write_text(ROOM)
    names = [line.partition(" ")[0] for line in undocumented("house", tmp_path)]
    bare = ["house.room.Dog.bite", "house.room.Stone.loud", "house.room.silent", "house.room.Silent"]
    assert names == ["house", *bare]
    line = ROOM.splitlines().index("class Silent:") + 1
    assert undocumented("house", tmp_path)[-1] == f"house.room.Silent ({Path('house', 'room.py')}:{line})"


def test_of_this_package_none_is_left():
    assert undocumented() == []
