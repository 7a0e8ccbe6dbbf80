"""What a command leaves behind: pictures that carry their settings, and a manifest."""

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

import vilex
from vilex.errors import InputError

MANIFEST = "manifest.json"


@dataclass
class Output:
    """A folder that fills with pictures, then gets its `manifest.json`.

    Args:
        folder: made if it does not exist.
        command: the vilex command's name.
        settings: everything that determines the pictures, as plain values.
    """

    folder: Path
    command: str
    settings: dict[str, Any]
    files: list[dict[str, Any]] = field(default_factory=list)
    started: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{self.folder}: cannot be made ({error.strerror}); give another folder with -o") from None

    def picture(self, name: str, image: Image.Image, scale: int = 1, **settings: Any) -> Path:
        """Save a PNG, `scale` times larger (Lanczos), with its settings as text metadata."""
        if scale > 1:
            image = image.resize((image.width * scale, image.height * scale), Image.Resampling.LANCZOS)
        text = PngInfo()
        text.add_text("Software", f"vilex {vilex.__version__}")
        text.add_itxt("vilex", json.dumps({"command": self.command, **self.settings, **settings}, ensure_ascii=False))
        path = self.folder / name
        image.save(path, pnginfo=text)
        self.files.append({"file": name, **settings})
        return path

    def manifest(self, bad: list[str] | None = None) -> dict[str, Any]:
        """Write and return the manifest; `bad` lists inputs that were refused."""
        content = {
            "vilex": vilex.__version__,
            "command": self.command,
            **self.settings,
            "files": self.files,
            "refused": bad or [],
            "seconds": round(time.perf_counter() - self.started, 3),
        }
        (self.folder / MANIFEST).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
        return content


def unique_names(paths: list[Path]) -> list[str]:
    """A name for each file: its own without the suffix, numbered where several have the same."""
    names: list[str] = []
    for path in paths:
        taken = sum(name == path.stem or name.startswith(f"{path.stem}~") for name in names)
        names.append(f"{path.stem}~{taken + 1}" if taken else path.stem)
    return names
