"""FFCV: a .beton file of raw images, read from the page cache in random order by its compiled loader.

`write_mode="raw"` and `os_cache=True` are what its documentation has for data that fit in memory. Its own resize keeps
the aspect ratio, so the photographs are stretched by Pillow before, in its writer's workers.
"""

from pathlib import Path
from typing import Any

from ffcv.fields import IntField, RGBImageField
from ffcv.fields.decoders import IntDecoder, SimpleRGBImageDecoder
from ffcv.loader import Loader, OrderOption
from ffcv.writer import DatasetWriter
from pixels import Read, resized


class Photos:
    """What its writer indexes: a resized photograph and its label."""

    def __init__(self, photos: list[str], labels: list[int], size: int) -> None:
        self.photos, self.labels, self.size = photos, labels, size

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, i: int) -> tuple[Any, int]:
        return resized(self.photos[i], self.size), self.labels[i]


def build(photos: list[str], labels: list[int], folder: Path, size: int, workers: int) -> None:
    fields = {"image": RGBImageField(write_mode="raw"), "label": IntField()}
    writer = DatasetWriter(str(folder / "photos.beton"), fields, num_workers=workers)
    writer.from_indexed_dataset(Photos(photos, labels, size))


def reader(folder: Path, batch: int, workers: int) -> Read:
    pipelines = {"image": [SimpleRGBImageDecoder()], "label": [IntDecoder()]}
    options: dict[str, Any] = {"order": OrderOption.RANDOM, "os_cache": True, "drop_last": False, "seed": 1}
    path = str(folder / "photos.beton")
    loader = Loader(path, batch_size=batch, num_workers=workers, pipelines=pipelines, **options)
    return lambda _epoch: ((images, labels.reshape(-1)) for images, labels in loader)
