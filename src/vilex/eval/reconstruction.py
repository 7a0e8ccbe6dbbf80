"""The reconstruction protocol: pictures to tokens and back, and what is lost at each number of tokens.

Every source is cropped to its middle square and resized (bicubic) to the frozen model's size: that crop is the
reference, and of the very same square the encoder sees its own size (padded or squashed to one where the encoder was
trained so, or `fit` says so). Rows are ways to draw the picture again:

    caption        the text-to-image model from the picture's caption, if there is one
    N tokens       from its first N tokens
    auto-encoder   the frozen model's own auto-encoder there and back: nothing can come closer

A picture of seed s begins from the same noise in every row. Pictures are known by their content, not by their
place: one pass over the data draws what is missing, so an interrupted evaluation goes on, and data that grew or
moved about is drawn where it is new; then everything is measured, a batch at a time, and written to results.json
and results.md.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from vilex.data.example import CaptionedImage
from vilex.data.indexed import refuse_among
from vilex.data.reading import read_all
from vilex.data.sources import Indexed, Source, open_source
from vilex.errors import InputError
from vilex.eval.distances import Moments
from vilex.eval.features import Extractor, features_of, load_extractor
from vilex.eval.measures import RowMeasures, SetFeatures, check_measures, check_sets, source_features
from vilex.eval.picture_store import (
    SOURCES,
    PictureStore,
    folder_name,
    identity_of,
    noise_seed,
    picture_key,
)
from vilex.eval.rows import ExampleBatch, Reconstruction, Row, rows_of
from vilex.eval.tables import to_markdown, write_curves
from vilex.lexicon import VisualLexicon
from vilex.paths import replacing, write_keeping, write_text
from vilex.pictures.fit import FITS, check_fit, much_cut, square, warn_of_cuts
from vilex.pictures.grid import grid

GRID_ROWS = 10


Keys = dict[str, list[str]]  # by a row's place, each picture's key in the data's order


def evaluate_reconstruction(
    lexicon: VisualLexicon,
    settings: Reconstruction,
    more: dict[str, Row] | None = None,
    on_picture: Callable[[int, int], None] | None = None,
) -> tuple[dict[str, Any], list[str]]:
    """Draw what is missing, measure, and write results.json, results.md, grid.png and curves.svg.

    Args:
        more: further rows by title, say baselines.
        on_picture: called with (drawn, expected) pictures.
    Returns:
        The results, and a line for each picture of the source that was refused.
    Raises:
        InputError: settings do not fit, too few pictures for a measure, ...
    """
    check_measures(settings.measures)
    fit = lexicon.fit if settings.fit is None else check_fit(settings.fit)
    settings = replace(settings, fit=fit)
    source = open_source(settings.source)
    refuse_among([source], settings.out, "-o")
    reference = Moments.load(settings.reference) if settings.reference else None
    extractors = {name: load_extractor(name, lexicon.t2i.device) for name in settings.features}
    ends = [len(source)] if isinstance(source, Indexed) else []  # a stream's end is not known beforehand
    if ends := [*ends, *([settings.images] if settings.images else [])]:
        check_sets(settings.measures, extractors, min(ends), reference)
    rows = {**rows_of(lexicon, settings), **(more or {})}
    identity = {"data": settings.source.path, "pixels": lexicon.t2i.image_size, **identity_of(lexicon, settings)}
    identity |= {} if fit == FITS[0] else {"fit": fit}
    store = PictureStore(settings.out, identity)
    keys, refused = draw_all(lexicon, settings, source, rows, store, on_picture)
    places = {title: row.place(title) for title, row in rows.items()}
    seen = measure_sources(settings, store, keys, extractors)
    results: dict[str, Any] = {
        "images": len(keys[SOURCES]),
        "refused": len(refused),
        "seeds": list(settings.seeds),
        "settings": identity,
        "rows": {
            title: measure_row(settings, store, keys, place, extractors, seen, reference)
            for title, place in places.items()
        },
    }
    write_results(settings, store, keys, places, results)
    return results, refused


def measure_sources(
    settings: Reconstruction, store: PictureStore, keys: Keys, extractors: dict[str, Extractor]
) -> dict[str, SetFeatures]:
    """The sources' features by extractor, a batch of pictures in memory at a time."""
    seen = {name: source_features(settings.measures, extractor.name) for name, extractor in extractors.items()}
    for batch in _batches(keys[SOURCES], settings.batch_size) if extractors else ():
        pictures = store.read(SOURCES, 0, keys[SOURCES][batch])
        for name, extractor in extractors.items():
            seen[name].add(features_of(pictures, extractor))
    return seen


def measure_row(
    settings: Reconstruction,
    store: PictureStore,
    keys: Keys,
    place: str,
    extractors: dict[str, Extractor],
    seen: dict[str, SetFeatures],
    reference: Moments | None,
) -> dict[str, dict[str, Any]]:
    """All measures of the row in `place`, a batch of pictures in memory at a time; see `RowMeasures`."""
    measured = RowMeasures(settings.measures, seen, len(settings.seeds), reference)
    for which, seed in enumerate(settings.seeds):
        for batch in _batches(keys[SOURCES], settings.batch_size):
            sources = store.read(SOURCES, 0, keys[SOURCES][batch])
            drawn = store.read(place, seed, keys[place][batch])
            features = {name: features_of(drawn, extractor) for name, extractor in extractors.items()}
            measured.add(which, batch.start, sources, drawn, features)
    return measured.results()


def write_results(
    settings: Reconstruction, store: PictureStore, keys: Keys, places: dict[str, str], results: dict[str, Any]
) -> None:
    """Write results.json, results.md, grid.png and curves.svg, each whole or not at all."""
    columns = [(SOURCES, 0), *((place, settings.seeds[0]) for place in places.values())]
    shown = [store.read(place, seed, keys[place][:GRID_ROWS]) for place, seed in columns]
    with replacing(settings.out / "grid.png") as aside:
        grid([list(line) for line in zip(*shown, strict=True)], [SOURCES, *places]).save(aside, "PNG")
    write_keeping(settings.out / "results.json", json.dumps(results, indent=2) + "\n")
    write_text(settings.out / "results.md", to_markdown(results["rows"]))
    with replacing(settings.out / "curves.svg") as aside:
        write_curves(results["rows"], aside)


def draw_all(
    lexicon: VisualLexicon,
    settings: Reconstruction,
    source: Source,
    rows: dict[str, Row],
    store: PictureStore,
    on_picture: Callable[[int, int], None] | None = None,
) -> tuple[Keys, list[str]]:
    """Draw every missing picture in one pass over the source; returns every picture's keys, and refusals.

    Raises:
        InputError: no picture can be read, a row has no words for one, or two rows would share a folder.
    """
    places = {row.place(title): row for title, row in rows.items()}
    if len({folder_name(place) for place in (SOURCES, *places)}) <= len(rows):
        raise InputError(f"rows: {', '.join(places)}: two of them have the same folder; give each its own title")
    refused: list[str] = []
    keys: Keys = {place: [] for place in (SOURCES, *places)}
    examples, cut = islice(read_all(source, refused), settings.images), list[str]()
    while part := list(islice(examples, settings.batch_size)):
        own = [picture_key(example.image) for example in part]
        cut += [example.name for example in part if much_cut(example.image.size, settings.fit or lexicon.fit)]
        named = {place: [row.key(*pair) for pair in zip(part, own, strict=True)] for place, row in places.items()}
        _draw_batch(lexicon, settings, part, own, named, places, store)
        for place, some in ((SOURCES, own), *named.items()):
            keys[place] += some
        if on_picture:
            on_picture(len(keys[SOURCES]), _expected(settings, source, len(keys[SOURCES])))
    if not keys[SOURCES]:
        raise InputError(f"{settings.source.path}: no readable image; " + "; ".join(refused[:3]))
    store.keep_order(keys)
    warn_of_cuts(cut, len(keys[SOURCES]))
    return keys, refused


def _draw_batch(
    lexicon: VisualLexicon,
    settings: Reconstruction,
    part: list[CaptionedImage],
    own: list[str],
    named: Keys,
    places: dict[str, Row],
    store: PictureStore,
) -> None:
    """Draw and save what the store lacks of some examples; own: their keys, named: their keys in each row."""
    fit = settings.fit or lexicon.fit
    if not store.has(SOURCES, 0, own):
        store.save(SOURCES, 0, own, [square(example.image, lexicon.t2i.image_size, fit) for example in part])
    missing = [(place, seed) for place in places for seed in settings.seeds if not store.has(place, seed, named[place])]
    if not missing:
        return
    batch = ExampleBatch(part, lexicon.encoder.encode([example.image for example in part], fit=fit), [])
    for place, seed in missing:
        seeds = [noise_seed(key, seed) for key in own]
        store.save(place, seed, named[place], places[place].draw(replace(batch, seeds=seeds)))


def _expected(settings: Reconstruction, source: Source, count: int) -> int:
    """How many pictures there will be, as far as that is known after `count` of them."""
    known = len(source) if isinstance(source, Indexed) else count + 1
    return min(known, settings.images or known)


def _batches(keys: Sequence[str], size: int) -> Iterator[slice]:
    return (slice(start, start + size) for start in range(0, len(keys), size))
