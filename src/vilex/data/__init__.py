"""Training images: from folders, tables and shards to batches, in an order that can be resumed."""

from vilex.data.loader import Batch, make_loader
from vilex.data.sources import open_sources

__all__ = ["Batch", "make_loader", "open_sources"]
