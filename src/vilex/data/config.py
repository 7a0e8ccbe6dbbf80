"""Where training images are, and how they are read."""

from dataclasses import dataclass, fields, replace
from typing import Annotated, Literal

from vilex.errors import InputError
from vilex.settings import Names, Range

CAPTIONS = "captions"  # the column, or whichever of the usual names is there
SMALLEST_SHARE = 1e-6  # of a mixture's images


@dataclass(frozen=True)
class SourceConfig:
    """Where images are, with captions where there are some."""

    # A folder of images; Parquet tables; tar shards, local, http(s):// or pipe:, with globs and {000..127};
    # hf:NAME for a Hugging Face dataset, or a folder that its save_to_disk wrote.
    path: Annotated[str, Names.PICTURES] = ""
    split: str = "train"  # of a Hugging Face dataset
    image_column: str = "image"  # of a table or a Hugging Face dataset
    # text, or a list of texts of which one is drawn each time; empty: no captions are read
    caption_column: str = CAPTIONS
    stream: bool = False  # read Parquet and hf: in order, by row group or shard; tar shards always are
    # in a mixture, this source's share of the images
    weight: Annotated[float, Range(1e-6, 1e6, "leave out a source that is not wanted")] = 1.0
    allow_pipe: bool = False  # let `pipe:` run its shell command


@dataclass(frozen=True)
class DataConfig(SourceConfig):
    """One source, or a mixture of several, and how they are read."""

    sources: tuple[SourceConfig, ...] = ()  # [[data.sources]]: a mixture, instead of data.path
    # how images that are not square are brought to both models: cut to the middle, padded with white, or squashed;
    # empty is the way of model.encoder, crop for a new one
    fit: Literal["", "crop", "pad", "squash"] = ""
    # in which pictures are drawn, as "768x512", multiples of what the base model takes; several are aspect buckets, of
    # which each picture gets the one of the nearest shape; empty is the base model's own size
    sizes: tuple[str, ...] = ()
    flip: bool = False  # mirror half of the images; leave off where captions tell left from right
    workers: Annotated[int, Range(0, 1024, "0 reads in the training process")] = 0  # readers a process
    # samples of a stream that are held, encoded, and shuffled among themselves
    shuffle_chunk: Annotated[int, Range(1, 10**7, "1 does not shuffle")] = 1000
    max_bad_share: Annotated[float, Range(0, 1)] = 0.05  # more broken samples than this end the run
    # images for sample grids and scores, any source; the training images if empty
    validation: Annotated[str, Names.PICTURES] = ""

    def __post_init__(self) -> None:
        """Raise InputError for what would be left out without a word."""
        if not self.sources:
            return
        for field in fields(SourceConfig):
            if field.name not in ("path", "allow_pipe") and getattr(self, field.name) != field.default:
                raise InputError(f"data.{field.name}: has no effect beside [[data.sources]]; give it to each source")
        total = sum(source.weight for source in self.sources if source.weight > 0)
        for source in self.sources:
            share = source.weight / total if total else 0.0
            if not share >= SMALLEST_SHARE:
                raise InputError(
                    f"data.sources: {source.path}: weight {source.weight:g} is a share of {share:.1g}, under "
                    f"{SMALLEST_SHARE:g}; leave the source out, or raise its weight"
                )

    @property
    def all_sources(self) -> tuple[SourceConfig, ...]:
        """The sources, one or several; what is allowed to all is allowed to each."""
        if not self.sources:
            return (self,)
        return tuple(replace(source, allow_pipe=source.allow_pipe or self.allow_pipe) for source in self.sources)
