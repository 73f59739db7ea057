"""What do the first epochs of a training cost, and what does a frame save?

The same photographs, in batches, train a small network of Keras for some epochs: decoded and resized with Pillow in
each epoch, by threads of Keras; the same from a folder of presized JPEGs; from a store that fills itself meanwhile; and
from a store that was built before. Then epochs without a network, of a store whose images pass a slow function of the
user: in each epoch anew; and from frames, which are read for some epochs.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
from PIL import Image, ImageOps

import arraystore
from arraystore.adapters.keras import Dataset
from benchmarks import epochs
from benchmarks.common import CPUS, Pixels, Row, Rows, Table, many, middle, ratios, take_turns
from benchmarks.pictures import picture_at
from benchmarks.places import photos, scratch_folder, stretch

os.environ.setdefault("KERAS_BACKEND", "jax")  # threads of torch that wait would take the time of those that decode

ESTIMATE_S = 110
NEEDS = ("photos",)
OPTIONS = {
    "size": (128, 16, "side of a slot, in pixels"),
    "images": (1000, 24, "of an epoch: fewer photographs are repeated"),
    "batch": (32, 8, "images of a batch"),
    "threads": (CPUS, 2, "that decode"),
    "epochs": (3, 2, "of Keras"),
    "kept": (10, 2, "epochs that read a frame"),
    "rounds": (3, 1, "timed rounds"),
}
FLY, PRESIZED, FILLING, FILLED = "decoded in each epoch", "presized", "a store that fills itself", "a finished store"
RAW, EACH, FIRST, LATER = "no function", "in each epoch", "the first frame", "a later frame"


def measure(options: Namespace) -> Iterator[Row]:
    """Train, and read frames."""
    with scratch_folder(options.scratch, 7 * options.images * 3 * options.size**2) as folder:
        paths = stretch(photos(options, folder), options.images)
        once = take_turns(
            {
                PRESIZED: partial(epochs.presize, paths, folder, options),
                FILLED: partial(epochs.build, paths, folder, options),
            },
            1,
        )
        listed = {
            name: json.loads((folder / f"{name}.json").read_text("utf-8")) for name in ("photos", epochs.PRESIZED)
        }
        found: dict[str, list[list[float]]] = {}
        for turn in range(options.rounds):
            cases = trainings(listed["photos"], listed[epochs.PRESIZED], folder, options)
            for way, begin in list(cases.items())[:: -1 if turn % 2 else 1]:
                found.setdefault(way, []).append(epochs_of(begin, options))
        for way in (FLY, PRESIZED, FILLING, FILLED):
            row = {"section": "keras", "case": way, "images": len(paths), "once_s": once.get(way, [])}
            yield row | {"epoch_s": found[way]}
        yield from frames(arraystore.open(folder / "new.store"), options)


class Files(Dataset):
    """What most write for Keras: a batch opens, converts and resizes its files with Pillow, in threads of Keras."""

    def __init__(self, slots: Any, paths: list[str], options: Namespace) -> None:
        super().__init__(slots, options.batch)
        self.paths, self.size, self.batch = paths, options.size, options.batch
        self.order = np.random.default_rng(0).permutation(len(paths))
        self.workers = options.threads

    def on_epoch_end(self) -> None:
        """Shuffle."""
        self.order = np.random.default_rng(int(self.order[0])).permutation(len(self.paths))

    def __getitem__(self, number: int) -> Any:
        chosen = self.order[number * self.batch : (number + 1) * self.batch]
        return np.stack([self.image(self.paths[i]) for i in chosen]), chosen

    def image(self, path: str) -> Pixels:
        """Open one file."""
        with Image.open(path) as image:
            small = ImageOps.exif_transpose(image).convert("RGB")
            return np.asarray(small.resize((self.size, self.size), Image.Resampling.BILINEAR))


def trainings(
    paths: list[str], presized: list[str], folder: Path, options: Namespace
) -> dict[str, Callable[[], Dataset]]:
    """Return what begins each way to train."""
    built = arraystore.open(folder / "new.store")

    def filling() -> Dataset:
        how: dict[str, Any] = {"size": options.size, "workers": options.threads, "labels": np.arange(len(paths))}
        # Keras may still have the store of the round before.
        store = arraystore.build(paths, Path(mkdtemp(dir=folder)) / "new.store", wait=False, progress=False, **how)
        return Dataset(store, options.batch, workers=options.threads)

    return {
        FLY: lambda: Files(built, paths, options),
        PRESIZED: lambda: Files(built, presized, options),
        FILLING: filling,
        FILLED: lambda: Dataset(built, options.batch, workers=options.threads),
    }


def epochs_of(begin: Callable[[], Dataset], options: Namespace) -> list[float]:
    """Train for some epochs, and return the seconds of each; the first begins with listing or opening the data."""
    import keras

    layers = [keras.Input((options.size, options.size, 3)), keras.layers.Rescaling(1 / 255)]
    layers += [keras.layers.Conv2D(8, 8, strides=8, activation="relu"), keras.layers.GlobalAveragePooling2D()]
    network = keras.Sequential([*layers, keras.layers.Dense(options.images + 1000)])
    network.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    count = options.batch + options.images % options.batch  # a whole batch and the last one: both are compiled now
    images = np.zeros((count, options.size, options.size, 3), np.uint8)
    network.fit(images, np.zeros(count), batch_size=options.batch, verbose=0)
    ends = [time.perf_counter()]
    told = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: ends.append(time.perf_counter()))
    network.fit(begin(), epochs=options.epochs, verbose=0, shuffle=False, callbacks=[told])
    return np.diff(ends).tolist()


def slow(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Turn an image by some degrees and raise its contrast, with Pillow."""
    turned = Image.fromarray(image).rotate(float(rng.uniform(-20, 20)), Image.Resampling.BICUBIC)
    return np.asarray(ImageOps.autocontrast(turned, cutoff=float(rng.uniform(0, 5))))


def frames(store: arraystore.Store, options: Namespace) -> Iterator[Row]:
    """Time epochs of a store whose images pass a slow function."""

    def first() -> float:
        loader = store.loader(options.batch, transform=slow, frame=arraystore.Frame(epochs=options.kept))
        return seconds(loader, options.kept) / options.kept

    def later() -> float:
        frame = arraystore.Frame(epochs=options.kept)
        loader = store.loader(options.batch, transform=slow, frame=frame, workers=options.threads)
        made = store.loader(options.batch, transform=slow, workers=options.threads)
        seconds(loader, options.kept)
        seconds(made, 2)  # as long as a training may take, in which the next frame is made
        return seconds(loader, options.kept) / options.kept

    plain = store.loader(options.batch, workers=options.threads)
    anew = store.loader(options.batch, transform=slow, workers=options.threads)
    cases: dict[str, Callable[[], object]] = {
        RAW: partial(seconds, plain, 1),
        EACH: partial(seconds, anew, 1),
        FIRST: first,
        LATER: later,
    }
    for case, wall_s in take_turns(cases, options.rounds).items():
        yield {"section": "frames", "case": case, "images": len(store), "kept": options.kept, "epoch_s": wall_s}


def seconds(loader: arraystore.Loader[Any], count: int) -> float:
    """Read some epochs, and return how long that took."""
    start = time.perf_counter()
    for _ in range(count):
        for _ in loader:
            pass
    return time.perf_counter() - start


def tables(rows: Rows) -> dict[str, Table]:
    """The seconds of each epoch of Keras; and of an epoch with a slow function, beside one without."""
    trained = rows.where(section="keras")
    count = len(trained[0]["epoch_s"][0])
    keras = [["images are", "once, s", *(f"epoch {number + 1}, s" for number in range(count)), "img/s in the last"]]
    for row in trained:
        times = [statistics.median(round_s[number] for round_s in row["epoch_s"]) for number in range(count)]
        once = f"{row['once_s'][0]:.2f}" if row["once_s"] else ""
        keras.append([row["case"], once, *(f"{each:.2f}" for each in times), f"{row['images'] / times[-1]:,.0f}"])
    raw = rows.one(section="frames", case=RAW)
    frame = [["a slow function is called", "an epoch, s", "least–most", "× no function"]]
    for row in rows.where(section="frames"):
        times = middle(ratios(row["epoch_s"], raw["epoch_s"]), 1)[0]
        frame.append([row["case"], *middle(row["epoch_s"], 3), times])
    return {"keras": keras, "frames": frame}


def figures(rows: Rows) -> dict[str, str]:
    """How much is read, and what the function costs."""
    (raw, anew) = (rows.one(section="frames", case=case) for case in (RAW, EACH))
    cost_s = statistics.median(anew["epoch_s"]) - statistics.median(raw["epoch_s"])
    first = rows.one(section="frames", case=FIRST)
    bound = [(1.1 * r + a / raw["kept"]) for r, a in zip(raw["epoch_s"], anew["epoch_s"], strict=True)]
    return {
        "images": f"{raw['images']:,}",
        "kept": str(raw["kept"]),
        "function_ms": f"{1000 * cost_s / raw['images']:.1f}",
        "first_to_bound": f"{statistics.median(ratios(first['epoch_s'], bound)):.2f}",
    }


def picture(rows: Rows, path: Path) -> None:
    """Draw the seconds of each epoch of Keras."""
    trained = rows.where(section="keras")
    count = len(trained[0]["epoch_s"][0])
    with picture_at(path, (8, 3.2)) as figure:
        axes = figure.subplots()
        height = 0.8 / count
        for number in range(count):
            times = [statistics.median(round_s[number] for round_s in row["epoch_s"]) for row in trained]
            places = [at + (number - (count - 1) / 2) * height for at in range(len(trained))]
            drawn = axes.barh(places, times, height * 0.92, color=("#2f6db5", "#7fa8d6", "#bcd2ea")[number % 3])
            axes.bar_label(drawn, [f"{each:.2f}" for each in times], padding=3, fontsize=8)
            drawn.set_label(f"epoch {number + 1}")
        axes.set(xticks=[], yticks=range(len(trained)))
        axes.set_yticklabels([row["case"] for row in trained])
        axes.invert_yaxis()
        axes.legend(loc="lower right", frameon=False)
        axes.set_xlabel(f"seconds an epoch of {many(trained[0]['images'], 'photograph')}, Keras, a small network")
