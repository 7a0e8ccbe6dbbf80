"""The tab Mix: what lies between pictures, and their tokens as files."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from vilex.app.examples import Examples, example_button
from vilex.app.limits import PICTURES, STRIP
from vilex.app.studio import Drawn, OnStep, Part, Shown, Studio, Upload, in_one_line, inert, owner_of
from vilex.app.uploads import TOKENS, read_tokens
from vilex.app.widgets import (
    DEVICE,
    Results,
    Settings,
    buttons,
    file_box,
    parse_weights,
    picture_box,
    slider,
    wire,
    wire_stop,
)
from vilex.errors import InputError
from vilex.extras import needs
from vilex.guidance import Guidance
from vilex.paths import unique_names
from vilex.tokens import average, fitting_tokens, slerp

with needs("app"):
    import gradio as gr


def mix_tab(studio: Studio, examples: Examples) -> None:
    """Lay the tab out."""
    most = studio.lexicon.num_tokens
    with gr.Row():
        with gr.Column(scale=1, min_width=300):
            with gr.Row():
                first, second = picture_box("First", 160, min_width=120), picture_box("Second", 160, min_width=120)
            sample = example_button(examples, "e.g. dog and cat", ["dog", "cat"], [first, second], False)
            more = file_box("More pictures, or saved tokens", ["image", TOKENS], height=150)
            with gr.Row():
                tokens = slider(1, most, most, "Tokens")
                between = slider(2, STRIP, 5, "Pictures")
            weights = gr.Textbox("", label="Weights of the average", placeholder="1, 1, ... in the order given")
            settings = Settings(studio, seeds=False)
            draw, stop = buttons("Mix")
            with gr.Row():
                mean = gr.Button("Average", min_width=120)
                save = gr.Button("Save tokens", min_width=120)
            saved = gr.File(label="Saved tokens", visible=False, interactive=False)
        with gr.Column(scale=2, min_width=300):
            results = Results(studio, 5, "Choose two pictures; Mix draws what lies between them.")
    how = [tokens, settings.cfg, settings.steps, settings.scale, settings.seed]
    jobs = [
        wire(draw, _strip(studio), [first, second, between, *how, more], results.outputs, "mix",
             "From a first picture to a second one, token by token on the sphere."),
        wire(mean, _average(studio), [first, second, weights, *how, more], results.outputs, "average",
             "The weighted mean of all pictures' tokens."),
    ]  # fmt: skip
    wire_stop(studio, stop, results.status, [*jobs, sample], public=False)
    save.click(
        _save(studio), [first, second, tokens, more], saved, api_name="save_tokens", show_progress="minimal",
        api_description="The pictures' tokens as a file.", **DEVICE,
    ).success(lambda: gr.update(visible=True), None, saved, queue=False, api_visibility="private")  # fmt: skip


def codes(studio: Studio, request: gr.Request, *uploads: Upload | None) -> dict[str, tuple[Tensor, Upload]]:
    """The tokens of everything that was given, [n, d] by name, in the order it was given.

    Tokens that do not say which encoder made them are used, and the page says so.

    Raises:
        InputError: a file is neither a picture nor tokens of this model's encoder, or there are too many.
    """
    lexicon, found, unknown = studio.lexicon, list[tuple[str, Tensor, Upload]](), list[str]()
    for upload in [one for one in uploads if one is not None]:
        if upload.name.endswith(TOKENS):
            file = read_tokens(upload.content, upload.name)
            given = fitting_tokens(file, upload.name, lexicon.t2i.width, lexicon.encoder_sha256, unknown.append)
        else:
            given = {upload.name.rpartition(".")[0] or upload.name: lexicon.encode([upload.picture()])[0]}
        found += [(name, tokens.to(lexicon.t2i.device, torch.float32), upload) for name, tokens in given.items()]
    if len(found) > PICTURES:
        raise InputError(f"{len(found)} pictures; at most {PICTURES}")
    for line in unknown:
        gr.Warning(inert(line, request), title="Tokens of unknown origin")
    names = unique_names([name for name, _, _ in found])
    return {name: (tokens, upload) for name, (_, tokens, upload) in zip(names, found, strict=True)}


def _strip(studio: Studio) -> Any:
    def mix(
        request: gr.Request, first: Upload | None, second: Upload | None, between: int, tokens: int, cfg: float,
        steps: int, scale: int, seed: int, more: list[Upload] | None = None,
        progress: Any = gr.Progress(),  # noqa: B008 (gradio finds it here)
    ) -> Iterator[tuple[Shown, str]]:  # fmt: skip
        """A strip from one picture to another."""
        with in_one_line(request):

            def drawn(on_step: OnStep) -> list[Drawn]:
                found = codes(studio, request, first, second, *(more or []))
                if len(found) < 2:
                    raise InputError("fewer than two pictures; give two, or a file with the tokens of two")
                (name_a, (a, of_a)), (name_b, (b, of_b)) = list(found.items())[:2]
                shares = [i / (between - 1) for i in range(between)]
                mixed = {f"mix{i}": slerp(a[:tokens], b[:tokens], share) for i, share in enumerate(shares)}
                pictures = studio.lexicon.generate(
                    [f"<{name}>" for name in mixed], mixed, seed=[seed] * between, steps=steps,
                    guidance=Guidance(cfg), on_step=on_step,
                )  # fmt: skip
                settings = {
                    "command": "mix", "images": {name_a: of_a.name, name_b: of_b.name},
                    "image_sha256": {name_a: of_a.sha256, name_b: of_b.sha256}, "tokens": tokens, "cfg": cfg,
                    "steps": steps, "scheduler": "dpm++", "scale": scale, "seed": seed,
                }  # fmt: skip
                return [
                    Drawn(
                        one,
                        f"{share:.0%} of the second",
                        f"mix-{round(100 * share):03d}.png",
                        {**settings, "slerp": share},
                    )
                    for one, share in zip(pictures, shares, strict=True)
                ]

            yield from studio.draw([Part("between", drawn)], scale, request, progress)

    return mix


def _average(studio: Studio) -> Any:
    def mean(
        request: gr.Request, first: Upload | None, second: Upload | None, weights: str, tokens: int, cfg: float,
        steps: int, scale: int, seed: int, more: list[Upload] | None = None,
        progress: Any = gr.Progress(),  # noqa: B008 (gradio finds it here)
    ) -> Iterator[tuple[Shown, str]]:  # fmt: skip
        """The average of pictures."""
        with in_one_line(request):

            def drawn(on_step: OnStep) -> list[Drawn]:
                found = codes(studio, request, first, second, *(more or []))
                if not found:
                    raise InputError("no pictures; give two or more, or a file with their tokens")
                shares = parse_weights(weights, len(found))
                mixed = average([code[:tokens] for code, _ in found.values()], shares)
                picture = studio.lexicon.generate(
                    "<mean>", {"mean": mixed}, seed=seed, steps=steps, guidance=Guidance(cfg), on_step=on_step
                )[0]
                settings = {
                    "command": "average", "images": {name: upload.name for name, (_, upload) in found.items()},
                    "image_sha256": {name: upload.sha256 for name, (_, upload) in found.items()},
                    "weights": dict(zip(found, shares, strict=True)), "tokens": tokens, "cfg": cfg, "steps": steps,
                    "scheduler": "dpm++", "scale": scale, "seed": seed,
                }  # fmt: skip
                return [Drawn(picture, f"average of {len(found)}", "average.png", settings)]

            yield from studio.draw([Part("average", drawn)], scale, request, progress)

    return mean


def _save(studio: Studio) -> Any:
    def save(
        request: gr.Request,
        first: Upload | None,
        second: Upload | None,
        tokens: int,
        more: list[Upload] | None = None,
    ) -> str:
        """Tokens as a file."""
        with in_one_line(request), studio.desk.device:
            found = codes(studio, request, first, second, *(more or []))
            if not found:
                raise InputError("no pictures; their tokens are what is saved")
            about = {
                name: {
                    "model": studio.about.get("model"), "encoder_sha256": studio.lexicon.encoder_sha256,
                    "file": upload.name, "sha256": upload.sha256,
                }
                for name, (_, upload) in found.items()
            }  # fmt: skip
            return str(
                studio.files.put_tokens(
                    {name: code[:tokens] for name, (code, _) in found.items()}, about, owner_of(request)
                )
            )

    return save
