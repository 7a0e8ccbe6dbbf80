"""The tab Re-create: a picture, and what 1, 4, 16 and all of its tokens give back."""

from collections.abc import Iterator
from functools import cache
from typing import Any

from torch import Tensor

from vilex.app.examples import SENTENCES, Examples, example_button
from vilex.app.studio import SOURCE, Drawn, OnStep, Part, Shown, Studio, Upload, in_one_line
from vilex.app.widgets import Results, Settings, buttons, picture_box, slider, wire, wire_stop
from vilex.errors import InputError
from vilex.extras import needs
from vilex.guidance import Guidance
from vilex.pictures.fit import square
from vilex.tokens import counted

with needs("app"):
    import gradio as gr

COUNTS = (1, 4, 16)


def recreate_tab(studio: Studio, examples: Examples) -> None:
    """Lay the tab out."""
    most = studio.lexicon.num_tokens
    with gr.Row():
        with gr.Column(scale=1, min_width=300):
            picture = picture_box("Picture")
            with gr.Row():
                drawn = [example_button(examples, f"e.g. {name}", [name], [picture], True) for name in SENTENCES]
            extra = slider(0, most, 0, "One more number of tokens", info="Beside 1, 4, 16 and all; 0 for none.")
            settings = Settings(studio)
            draw, stop = buttons("Re-create")
        with gr.Column(scale=2, min_width=300):
            results = Results(studio, 5, "Choose a picture, then Re-create.")
    inputs = [picture, extra, settings.seeds, settings.cfg, settings.steps, settings.scale, settings.seed]
    job = wire(
        draw, _recreate(studio), inputs, results.outputs, "recreate",
        "A picture from 1, 4, 16, all and `extra` of its tokens, from several seeds.",
    )  # fmt: skip
    extra.change(
        lambda extra: gr.Gallery(columns=1 + len(counts_of(most, extra))), extra, results.gallery, queue=False,
        show_progress="hidden", api_visibility="private",
    )  # fmt: skip
    wire_stop(studio, stop, results.status, [job, *drawn], public=True)


def counts_of(most: int, extra: int) -> list[int]:
    """The numbers of tokens that are shown side by side."""
    return sorted({count for count in (*COUNTS, most, extra) if 0 < count <= most})


def _recreate(studio: Studio) -> Any:
    def recreate(
        picture: Upload | None,
        extra: int,
        seeds: int,
        cfg: float,
        steps: int,
        scale: int,
        seed: int,
        request: gr.Request,
        progress: Any = gr.Progress(),  # noqa: B008 (gradio finds it here)
    ) -> Iterator[tuple[Shown, str]]:
        """Re-create a picture from its tokens alone."""
        with in_one_line(request):
            if picture is None:
                raise InputError("no picture; drop one, or take an example")
            source, sha256 = picture.picture(), picture.sha256
            counts = counts_of(studio.lexicon.num_tokens, extra)
            own = square(source, studio.lexicon.t2i.image_size, studio.lexicon.fit)

            @cache
            def tokens() -> Tensor:
                return studio.lexicon.encode([source])[0]

            def row(of: int) -> Part:
                def drawn(on_step: OnStep) -> list[Drawn]:
                    pictures = studio.lexicon.generate(
                        [f"<image:{count}>" for count in counts], {"image": tokens()}, seed=[of] * len(counts),
                        steps=steps, guidance=Guidance(cfg), on_step=on_step,
                    )  # fmt: skip
                    settings = {
                        "command": "reconstruct", "source": picture.name, "source_sha256": sha256, "cfg": cfg,
                        "steps": steps, "scheduler": "dpm++", "scale": scale, "seed": of,
                    }  # fmt: skip
                    return [Drawn(own, SOURCE, "source.png")] + [
                        Drawn(one, f"{counted(count)}, seed {of}", f"{count:02d}-tokens-seed-{of}.png",
                              {**settings, "tokens": count})
                        for count, one in zip(counts, pictures, strict=True)
                    ]  # fmt: skip

                return Part(f"seed {of}", drawn)

            rows = [row(seed + k) for k in range(seeds)]
            yield from studio.draw(rows, scale, request, progress)

    return recreate
