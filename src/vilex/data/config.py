"""Where training images are, and how they are read."""

from dataclasses import dataclass
from typing import Annotated

from vilex.settings import Names, Range


@dataclass(frozen=True)
class SourceConfig:
    """Where images are, with captions where there are some."""

    # A folder of images; Parquet tables; tar shards, local, http(s):// or pipe:, with globs and {000..127};
    # hf:NAME for a Hugging Face dataset, or a folder that its save_to_disk wrote.
    path: Annotated[str, Names.PICTURES] = ""
    split: str = "train"  # of a Hugging Face dataset
    image_column: str = "image"
    caption_column: str = "captions"  # text, or a list of texts of which one is drawn each time
    stream: bool = False  # read Parquet and hf: in order, by row group or shard; tar shards always are
    # in a mixture, this source's share of the images
    weight: Annotated[float, Range(1e-6, 1e6, "leave out a source that is not wanted")] = 1.0


@dataclass(frozen=True)
class DataConfig(SourceConfig):
    """One source, or a mixture of several, and how they are read."""

    sources: tuple[SourceConfig, ...] = ()  # [[data.sources]]: a mixture, instead of data.path
    flip: bool = False  # mirror half of the images; leave off where captions tell left from right
    workers: Annotated[int, Range(0, 1024, "0 reads in the training process")] = 0
    # samples of a stream that are held, encoded, and shuffled among themselves
    shuffle_chunk: Annotated[int, Range(1, 10**7, "1 does not shuffle")] = 1000
    max_bad_share: Annotated[float, Range(0, 1)] = 0.05  # more broken samples than this end the run
    # images for sample grids and scores, any source; the training images if empty
    validation: Annotated[str, Names.PICTURES] = ""

    @property
    def all_sources(self) -> tuple[SourceConfig, ...]:
        return self.sources or (self,)
