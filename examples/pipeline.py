"""A lazy pipeline: load, resize, raise the contrast, make pairs with the turned image, and read ahead.

    arraystore sample photos && python examples/pipeline.py photos

PHOTOS is a folder of photographs. Prints what each step costs, and the seconds that all images take when they are
computed one by one, by threads, and by worker processes. Nothing is computed before the loops.
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from pathlib import Path

from PIL import Image, ImageOps

import arraystore


def load(path: Path) -> Image.Image:
    """Open a photograph."""
    with Image.open(path) as image:
        return image.convert("L")


def with_turned(image: Image.Image) -> tuple[Image.Image, Image.Image]:
    """Return an image and the same one, turned by a quarter."""
    return image, image.rotate(90)


def main() -> None:
    """Describe the pipeline, then read it in three ways."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()

    paths = sorted(options.photos.rglob("*.*"))
    small = arraystore.lazy(paths).map(load).map(partial(ImageOps.fit, size=(200, 200)))
    sharp = small.map(partial(ImageOps.autocontrast, cutoff=3)).memo(10)
    images = sharp.map(with_turned).flatten(2)
    images.time(20)
    ways = {
        "one by one": images,
        "threads": images.prefetch(options.workers),
        "processes": images.prefetch(options.workers, processes=True),
    }
    for name, way in ways.items():
        start_s = time.perf_counter()
        count = sum(1 for _ in way)
        print(f"{name}: {count} images in {time.perf_counter() - start_s:.2f} s")


if __name__ == "__main__":  # worker processes import this script for its functions
    main()
