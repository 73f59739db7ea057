"""DALI: its own pipeline decodes and resizes (antialiased) on the CPU; then its NumPy reader reads an image a file.

Both pipelines run without a GPU. The reader maps the files, keeps their headers and shuffles all of them after each
epoch.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from nvidia.dali import fn, pipeline_def, types
from pixels import Read

BATCH = 32


def build(photos: list[str], labels: list[int], folder: Path, size: int, workers: int) -> None:
    @pipeline_def(batch_size=BATCH, num_threads=workers, device_id=None)
    def decoded() -> Any:
        data, label = fn.readers.file(files=photos, labels=labels, name="files", pad_last_batch=True)
        images = fn.decoders.image(data, output_type=types.RGB)
        images = fn.resize(images, size=(size, size), interp_type=types.INTERP_LINEAR, antialias=True)
        return fn.transpose(images, perm=[2, 0, 1]), label

    pipeline, left = decoded(), len(photos)
    while left > 0:
        images, numbers = pipeline.run()
        for image, number in list(zip(images.as_array(), numbers.as_array()[:, 0], strict=True))[:left]:
            np.save(folder / f"{number:09}.npy", image)
        left -= BATCH


def reader(folder: Path, batch: int, workers: int) -> Read:
    @pipeline_def(batch_size=batch, num_threads=workers, device_id=None, prefetch_queue_depth=2)
    def stored() -> Any:
        files = sorted(path.name for path in folder.glob("*.npy"))
        options = {"shuffle_after_epoch": True, "cache_header_information": True, "pad_last_batch": True}
        images = fn.readers.numpy(file_root=str(folder), files=files, name="files", **options)
        return images, fn.get_property(images, key="source_info")

    pipeline = stored()

    def read(_epoch: int) -> Iterator[tuple[Any, Any]]:
        left = pipeline.reader_meta("files")["epoch_size"]
        while left > 0:
            images, names = pipeline.run()
            some = range(min(batch, left))
            # The last batch is filled up with copies of the last image.
            yield images.as_array()[: some.stop], [int(Path(bytes(names.at(i)).decode()).stem) for i in some]
            left -= batch

    return read
