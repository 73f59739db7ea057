"""Grain: ArrayRecord files of raw images, in its MapDataset, read by its threads.

`group_size:1`, as its tutorial on ArrayRecord has it for random access; a file a process; resized by Pillow, for it has
no resize. Batches are made before the threads, as in its tutorials, so that each thread makes whole ones.
"""

from pathlib import Path
from typing import Any

import grain
import numpy as np
from array_record.python.array_record_module import ArrayRecordWriter
from pixels import Read, in_parts, planes

NUMBER_BYTES, AHEAD = 8, 2


def build(photos: list[str], labels: list[int], folder: Path, size: int, workers: int) -> None:
    def write(rows: range) -> None:
        writer = ArrayRecordWriter(str(folder / f"{rows.start:09}.array_record"), "group_size:1")
        for i in rows:
            writer.write(labels[i].to_bytes(NUMBER_BYTES, "little") + planes(photos[i], size).tobytes())
        writer.close()

    in_parts(write, len(photos), workers)


def parsed(record: bytes) -> tuple[Any, Any]:
    """Return an image and its label, without a copy."""
    pixels = np.frombuffer(record, np.uint8, offset=NUMBER_BYTES)
    side = round((pixels.size / 3) ** 0.5)
    return pixels.reshape(3, side, side), np.frombuffer(record, np.int64, 1)[0]


def reader(folder: Path, batch: int, workers: int) -> Read:
    source = grain.sources.ArrayRecordDataSource(sorted(map(str, folder.glob("*.array_record"))))
    options = grain.ReadOptions(num_threads=workers, prefetch_buffer_size=AHEAD * workers)
    images = grain.MapDataset.source(source)
    return lambda epoch: images.shuffle(seed=epoch).map(parsed).batch(batch).to_iter_dataset(options)
