"""The pieces that tabs are made of."""

import json
from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

from PIL import Image

from vilex.app.limits import SEED, SEEDS, STEPS, WEIGHT, Brought, side_within, within
from vilex.app.studio import Studio, Upload, owner_of, short
from vilex.errors import InputError
from vilex.extras import needs
from vilex.pictures.png import CHUNK

with needs("app"):
    import gradio as gr

DEVICE = {"concurrency_id": "device", "concurrency_limit": 1}  # of all that draws
EXAMPLE = {"path": "cat.png", "meta": {"_type": "gradio.FileData"}}  # what stands in the API's pages


def slider(low: float, high: float, value: float, label: str, step: float = 1, info: str | None = None) -> gr.Slider:
    """A number from `low` to `high`; what is out of it is brought back."""
    made = gr.Slider(low, high, value, label=label, step=step, info=info)
    made.preprocess = lambda payload: _held(payload, label, low, high)
    return made


def seed_box() -> gr.Number:
    """The seed of a first picture."""
    made = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=SEED, min_width=100)
    made.preprocess = lambda payload: _held(payload, "Seed", 0, SEED)
    return made


def side_box(studio: Studio, label: str) -> gr.Number:
    """Pixels a side of what is drawn; hidden where the model draws one size."""
    (low, high), step = studio.sides, studio.lexicon.t2i.size_step
    made = gr.Number(
        studio.lexicon.t2i.image_size, label=label, precision=0, minimum=low, maximum=high, step=step, min_width=100,
        visible=low < high,
    )  # fmt: skip
    made.preprocess = lambda payload: _said(side_within, payload, label, low, high, step)
    return made


def _held(payload: Any, label: str, low: float, high: float) -> float:
    return _said(within, payload, label, low, high)


def _said(check: Callable[..., Any], *given: Any) -> Any:
    """What a check gives; what it refuses is a line in the page."""
    try:
        return check(*given)
    except InputError as error:
        raise gr.Error(str(error), print_exception=False, title="Not drawn") from None


def picture_box(label: str, height: int = 240, **more: Any) -> gr.Image:
    """A picture of the visitor's; functions get an `Upload`, and nothing has opened it by then."""
    made = gr.Image(
        label=label, type="filepath", image_mode=None, height=height, sources=["upload", "webcam", "clipboard"],
        buttons=[], format="png", **more,
    )  # fmt: skip
    made.preprocess = _upload
    made.example_payload = made.example_value = lambda: dict(EXAMPLE)
    return made


def file_box(label: str, kinds: Sequence[str], **more: Any) -> gr.File:
    """Several files of the visitor's, as `Upload`s."""
    made = gr.File(label=label, file_count="multiple", file_types=list(kinds), **more)
    made.preprocess = lambda payload: [_upload(one) for one in getattr(payload, "root", payload) or []]
    made.example_payload = made.example_value = lambda: [dict(EXAMPLE)]
    return made


def _upload(payload: Any) -> Upload | None:
    if payload is None or not payload.path:
        return None
    return Upload(Path(payload.path), short(payload.orig_name or Path(payload.path).name))


class Settings:
    """How pictures are drawn: guidance, steps, enlargement, seeds, `sizes` if wanted; folded away."""

    def __init__(self, studio: Studio, cfg: float = 3.0, seeds: bool = True, sizes: bool = False):
        with gr.Accordion("Settings", open=False):
            self.cfg = slider(0.0, WEIGHT, cfg, "CFG", 0.5, "Picture against nothing; 1 is none.")
            with gr.Row():
                self.steps = slider(1, STEPS, 20, "Steps")
                self.scale = slider(1, studio.most_scale, studio.scale, "Scale")
            if sizes:
                with gr.Row():
                    self.width, self.height = side_box(studio, "Width"), side_box(studio, "Height")
            with gr.Row():
                self.seed = seed_box()
                self.seeds = slider(1, SEEDS, 1, "Seeds") if seeds else None


class Results:
    """Pictures as they come, a line on them, and the settings of the one that is chosen."""

    def __init__(self, studio: Studio, columns: int, empty: str):
        self.status = gr.Textbox(
            empty,
            show_label=False,
            container=False,
            interactive=False,
            lines=1,
            max_lines=3,
            elem_classes="said",
            label="status",
        )
        self.gallery = gr.Gallery(
            label="Pictures", show_label=False, columns=columns, object_fit="contain", height="auto",
            fit_columns=False, interactive=False, buttons=["download", "fullscreen"], elem_classes="pictures",
        )  # fmt: skip
        with gr.Accordion("Settings of the chosen picture", open=False, visible=False) as self.about:
            self.settings = gr.JSON(show_label=False, container=False, show_indices=False)
            self.download = gr.DownloadButton("Download this PNG", size="sm")
        self.gallery.select(
            _chosen(studio), None, [self.about, self.settings, self.download], queue=False, show_progress="hidden",
            api_visibility="private",
        )  # fmt: skip

    @property
    def outputs(self) -> list[Any]:
        """The components that an event fills."""
        return [self.gallery, self.status]


def _chosen(studio: Studio) -> Callable[..., Any]:
    def chosen(event: gr.SelectData, request: gr.Request) -> tuple[Any, Any, Any]:
        """The settings that a picture of the gallery carries."""
        path = event.value["image"]["path"]
        if not studio.files.readable(path, owner_of(request)):
            raise gr.Error("this picture is not kept any longer", print_exception=False)
        with Image.open(path) as picture:
            settings = json.loads(picture.info[CHUNK])
        return gr.update(visible=True, open=True), settings, path

    return chosen


def buttons(draw: str) -> tuple[gr.Button, gr.Button]:
    """What draws and what stops it."""
    with gr.Row():
        return gr.Button(draw, variant="primary", min_width=140), gr.Button("Stop", min_width=80)


def wire(
    trigger: Any,
    function: Callable[..., Any],
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    name: str,
    description: str,
) -> Any:
    """Let a button draw, on the one device, under a name that programs call it by."""
    return trigger.click(
        _telling(function), list(inputs), list(outputs), api_name=name, api_description=description,
        show_progress="full", show_progress_on=[outputs[0]], **DEVICE,
    )  # fmt: skip


def _telling(function: Callable[..., Any]) -> Callable[..., Any]:
    """A job that says beside everything else which numbers were brought into their range."""

    @wraps(function)
    def told(*given: Any) -> Iterator[tuple[Any, str]]:
        lines = [one.line for one in given if isinstance(one, Brought)]
        for shown, said in function(*given):
            yield shown, " ".join([said, *lines])

    return told


def wire_stop(studio: Studio, button: gr.Button, status: Any, jobs: Sequence[Any], public: bool) -> None:
    """Let a button end what is drawn for its page, or waits to be."""

    def stop(request: gr.Request) -> str:
        """Stop what is being drawn for this session."""
        return studio.stop(request)

    button.click(
        stop, None, status, queue=False, cancels=list(jobs), show_progress="hidden",
        api_name="stop" if public else None, api_visibility="public" if public else "private",
    )  # fmt: skip


def parse_weights(text: str, count: int) -> list[float]:
    """A number for each picture, comma-separated; all 1 if nothing is written.

    Raises:
        InputError: it is something else.
    """
    try:
        weights = [float(part) for part in text.split(",")] if text.strip() else [1.0] * count
    except ValueError:
        raise InputError(f"weights: expected numbers, as in 1, 1, 2, got {text[:60]!r}") from None
    if len(weights) != count or not all(abs(weight) <= WEIGHT for weight in weights) or not any(weights):
        raise InputError(f"weights: expected {count} numbers within {WEIGHT:g}, not all 0, got {text[:60]!r}")
    return weights
