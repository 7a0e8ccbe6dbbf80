"""Pictures to begin with: drawn by the model itself from a few words, when somebody first asks for one."""

from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any

from vilex.app.desk import Stopped
from vilex.app.studio import Studio, in_one_line, owner_of
from vilex.app.widgets import DEVICE
from vilex.errors import InputError
from vilex.extras import needs
from vilex.guidance import Guidance
from vilex.pictures.png import to_png

with needs("app"):
    import gradio as gr

SENTENCES = {"cat": "a cat on grass", "dog": "a dog on grass", "heart": "a red heart on a yellow background"}
STEPS, CFG, SEED = 20, 5.0, 3


class Examples:
    """The pictures of `SENTENCES`, each made once for everybody; they are nobody's."""

    def __init__(self, studio: Studio):
        self.studio, self._made, self._lock = studio, dict[str, bytes](), Lock()

    def __call__(self, name: str, request: "gr.Request", progress: Any) -> str:
        """A copy of an example for a visitor. Raises InputError for a name that is none."""
        if name not in SENTENCES:
            raise InputError(f"example: expected one of {', '.join(SENTENCES)}, got {name[:60]!r}")
        if name not in self._made:
            with self.studio.desk.job(request.session_hash or "", progress, 1) as job, job.part(name) as on_step:
                self._made.setdefault(name, self._draw(SENTENCES[name], on_step))
        return str(self.studio.files.put(f"{name}.png", self._made[name], owner_of(request)))

    def _draw(self, sentence: str, on_step: Callable[[int, int], None]) -> bytes:
        settings = {"prompt": sentence, "cfg": CFG, "steps": STEPS, "seed": SEED}
        picture = self.studio.lexicon.generate(
            sentence, guidance=Guidance(CFG), seed=SEED, steps=STEPS, on_step=on_step
        )[0]
        return to_png(picture, {**self.studio.about, "command": "generate", **settings}, self.studio.scale)


def example_button(examples: Examples, label: str, names: Sequence[str], boxes: Sequence[Any], public: bool) -> Any:
    """A button that puts examples into boxes, in their order; `public`: programs may ask for one by its name."""

    def fill(request: gr.Request, progress: Any = gr.Progress()) -> Any:  # noqa: B008 (gradio finds it here)
        """Example pictures."""
        with in_one_line(request):
            try:
                paths: list[Any] = [examples(name, request, progress) for name in names]
            except Stopped:
                paths = [None] * len(names)
            return paths if len(paths) > 1 else paths[0]

    return gr.Button(label, size="sm", min_width=60).click(
        fill, None, list(boxes), api_name=f"example_{names[0]}" if public else None,
        api_visibility="public" if public else "private", **DEVICE,
    )  # fmt: skip
