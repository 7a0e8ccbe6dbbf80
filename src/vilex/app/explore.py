"""The tab Explore: what each token of a picture says."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vilex.app.examples import Examples, example_button
from vilex.app.nearest import nearest_words
from vilex.app.studio import Drawn, OnStep, Part, Shown, Studio, Upload, in_one_line
from vilex.app.widgets import DEVICE, Results, Settings, buttons, picture_box, slider, wire, wire_stop
from vilex.errors import InputError
from vilex.extras import needs
from vilex.guidance import Guidance
from vilex.tokens import counted

with needs("app"):
    import gradio as gr

WORDS = 3  # nearest to each token
MOST = 16  # tokens that are left out in turn


def explore_tab(studio: Studio, examples: Examples) -> None:
    """Lay the tab out."""
    most = studio.lexicon.num_tokens
    with gr.Row():
        with gr.Column(scale=1, min_width=300):
            picture = picture_box("Picture")
            sample = example_button(examples, "e.g. heart", ["heart"], [picture], False)
            tokens = slider(1, most, min(8, most), "Tokens", info="The first so many of the picture's.")
            left_out = slider(0, most, 0, "Leave out", info=f"This one token; 0: each of {MOST} in turn.")
            settings = Settings(studio, seeds=False)
            draw, stop = buttons("Leave out")
            words = gr.Button("Nearest words")
        with gr.Column(scale=2, min_width=300):
            results = Results(studio, 4, "Choose a picture; its tokens are left out one by one.")
            table = gr.Dataframe(
                headers=["token", "nearest words (cosine)"], datatype=["number", "str"], wrap=True,
                label="What the tokens say", interactive=False, column_widths=["18%", "82%"], buttons=[],
            )  # fmt: skip
    inputs = [picture, tokens, left_out, settings.cfg, settings.steps, settings.scale, settings.seed]
    job = wire(
        draw, _leave_out(studio), inputs, results.outputs, "leave_one_out",
        "The picture of the first `tokens` tokens, and without one of them.",
    )  # fmt: skip
    wire_stop(studio, stop, results.status, [job, sample], public=False)
    words.click(
        _words(studio), [picture, tokens], table, api_name="nearest_words", show_progress="minimal",
        api_description="The words of the vocabulary that are nearest to each token.", **DEVICE,
    )  # fmt: skip


def _words(studio: Studio) -> Any:
    def words(picture: Upload | None, tokens: int, request: gr.Request) -> list[list[Any]]:
        """Nearest words."""
        with in_one_line(request):
            if picture is None:
                raise InputError("no picture; drop one, or take the example")
            with studio.desk.device:
                found = nearest_words(studio.lexicon, studio.lexicon.encode([picture.picture()], tokens)[0], WORDS)
            return [
                [i, ", ".join(f"{word.text} ({word.cosine:.2f})" for word in near)] for i, near in enumerate(found, 1)
            ]

    return words


def _leave_out(studio: Studio) -> Any:
    def leave_out(
        picture: Upload | None, tokens: int, left_out: int, cfg: float, steps: int, scale: int, seed: int,
        request: gr.Request, progress: Any = gr.Progress(),  # noqa: B008 (gradio finds it here)
    ) -> Iterator[tuple[Shown, str]]:  # fmt: skip
        """Pictures without one of their tokens."""
        with in_one_line(request):
            if picture is None:
                raise InputError("no picture; drop one, or take the example")
            if left_out > tokens:
                raise InputError(f"token {left_out} is not among the first {tokens}; leave out 1 to {tokens}")
            if tokens < 2:
                raise InputError("1 token: nothing would be left; take 2 or more")

            def drawn(on_step: OnStep) -> list[Drawn]:
                code = studio.lexicon.encode([picture.picture()], tokens)[0]
                gone = [left_out] if left_out else list(range(1, min(tokens, MOST) + 1))
                named = {"whole": code, **{f"without{i}": without(code, i) for i in gone}}
                pictures = studio.lexicon.generate(
                    [f"<{name}>" for name in named], named, seed=[seed] * len(named), steps=steps,
                    guidance=Guidance(cfg), on_step=on_step,
                )  # fmt: skip
                settings = {
                    "command": "leave out", "source": picture.name, "source_sha256": picture.sha256, "tokens": tokens,
                    "cfg": cfg, "steps": steps, "scheduler": "dpm++", "scale": scale, "seed": seed,
                }  # fmt: skip
                whole = Drawn(pictures[0], counted(tokens), "whole.png", settings)
                return [whole] + [
                    Drawn(one, f"without {i}: {difference(pictures[0], one):.1%} differs", f"without-{i:02d}.png",
                          {**settings, "left_out": i})
                    for i, one in zip(gone, pictures[1:], strict=True)
                ]  # fmt: skip

            yield from studio.draw([Part("without each", drawn)], scale, request, progress)

    return leave_out


def without(tokens: Tensor, number: int) -> Tensor:
    """Tokens [n, d] without the one of a number, counted from 1: [n - 1, d]."""
    return torch.cat([tokens[: number - 1], tokens[number:]])


def difference(one: Image.Image, other: Image.Image) -> float:
    """The mean absolute difference of two pictures' values, of the whole range."""
    return float(np.abs(np.asarray(one, np.float32) - np.asarray(other, np.float32)).mean() / 255)
