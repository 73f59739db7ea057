"""The cases of `encoded`: loaders of both kinds of stores, and what one would write by hand over the same JPEGs."""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
import simplejpeg

from arraystore import Augment, CenterCrop, RandomResizedCrop, Store
from benchmarks.common import Pixels
from benchmarks.read_cases import APART_LEVELS, SEED, Expected, close_to, consume

WHOLE, CENTER, RESIZED = "whole slots", "center crop", "random resized crop, flip"
VIEWS = (WHOLE, CENTER, RESIZED)
AREA, ASPECT = (0.08, 1.0), (3 / 4, 4 / 3)  # of a random resized crop, as RandomResizedCrop draws it
_PART_IMAGES = 16  # of a batch that one thread fills at a time
_AHEAD = 2  # batches that are filled while another is used

Epoch = Callable[[int], int]
"""Reads the epoch of that number and returns how many images it had; in epoch 0 it compares them with the raw slots."""


def by_opencv(data: Pixels) -> Pixels:
    """Decode a JPEG to (H, W, 3), red first."""
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR_RGB))


def by_simplejpeg(data: Pixels) -> Pixels:
    """Decode a JPEG to (H, W, 3), red first."""
    image: Pixels = simplejpeg.decode_jpeg(data)
    return image


DECODERS = {"simplejpeg": by_simplejpeg, "OpenCV": by_opencv}


def augmented(view: str, side: int) -> Augment | None:
    """Return what the loader of a view does with each slot."""
    if view == WHOLE:
        return None
    return Augment(crop=CenterCrop(side)) if view == CENTER else Augment(crop=RandomResizedCrop(side), hflip=0.5)


def middle_of(sides: tuple[int, ...], side: int) -> tuple[slice, slice]:
    """Return the rows and columns of a square in the middle."""
    top, left = (sides[0] - side) // 2, (sides[1] - side) // 2
    return slice(top, top + side), slice(left, left + side)


def loader(store: Store, raw: Store, view: str, side: int, batch: int, threads: int) -> Epoch:
    """The loader of a store."""
    augment = augmented(view, side)
    made = store.loader(batch, seed=SEED, augment=augment, workers=threads)

    def run(epoch: int) -> int:
        made.set_epoch(epoch)
        right = looks_like(raw, view, side) if epoch == 0 else None
        if epoch == 0 and view == RESIZED:
            # Seed, epoch and slot alone decide the windows, so both stores give the same ones.
            expected = np.concatenate([images for images, _ in raw.loader(batch, seed=SEED, augment=augment)])
            got = np.concatenate([images for images, _ in made])
            assert np.abs(got.astype(np.int16) - expected).mean() < APART_LEVELS
            made.set_epoch(epoch)
        return consume(made, right, len(store))

    return run


def looks_like(raw: Store, view: str, side: int) -> Expected:
    """Return the check that a batch looks like the raw slots in that view; of random windows, anything does."""
    if view == RESIZED:
        return lambda _images, _slots: True
    return close_to(raw.images[:, :, *middle_of(raw.images.shape[2:], side)] if view == CENTER else raw.images)


@dataclass
class ByHand:
    """Threads that decode whole JPEGs, then crop, shrink and flip with OpenCV, into batches that are there already.

    Attributes:
        jpegs: of all slots.
        decode: from a JPEG to its pixels.
        shape: of an image that is handed over, (3, H, W).
        view: one of `VIEWS`.
        batch: images of a batch.
        threads: how many decode.
    """

    jpegs: list[Pixels]
    decode: Callable[[Pixels], Pixels]
    shape: tuple[int, ...]
    view: str
    batch: int
    threads: int

    def __post_init__(self) -> None:
        self._pool = ThreadPoolExecutor(self.threads)
        self._buffers = [np.zeros((self.batch, *self.shape), np.uint8) for _ in range(_AHEAD + 1)]

    def run(self, raw: Store) -> Epoch:
        """Return what reads an epoch."""
        right = looks_like(raw, self.view, self.shape[-1])
        return lambda epoch: consume(self.batches(epoch), None if epoch else right, len(self.jpegs))

    def batches(self, epoch: int) -> Iterator[tuple[Pixels, Pixels]]:
        """Yield shuffled batches and their slots; others are filled meanwhile."""
        order = np.random.default_rng((SEED, epoch)).permutation(len(self.jpegs))
        waiting: deque[tuple[list[Future[None]], Pixels, Pixels]] = deque()
        for number, start in enumerate(range(0, len(order), self.batch)):
            slots = order[start : start + self.batch]
            room = self._buffers[number % len(self._buffers)][: len(slots)]
            parts = [slice(at, at + _PART_IMAGES) for at in range(0, len(slots), _PART_IMAGES)]
            begun = [self._pool.submit(self._fill, slots[part].tolist(), room[part]) for part in parts]
            waiting.append((begun, room, slots))
            if len(waiting) > _AHEAD:
                yield _filled(*waiting.popleft())
        while waiting:
            yield _filled(*waiting.popleft())

    def _fill(self, slots: list[int], room: Pixels) -> None:
        draws = random.Random(slots[0])  # noqa: S311 - windows are no secret
        for slot, planes in zip(slots, room, strict=True):
            image = self.decode(self.jpegs[slot])
            if self.view == CENTER:
                image = image[middle_of(image.shape, self.shape[-1])]
            elif self.view == RESIZED:
                image = image[window(draws, *image.shape[:2])]
                image = np.asarray(cv2.resize(image, self.shape[:0:-1], interpolation=cv2.INTER_AREA))
                if draws.random() < 0.5:
                    image = np.asarray(cv2.flip(image, 1))
            cv2.split(image, list(planes))


def _filled(begun: list[Future[None]], room: Pixels, slots: Pixels) -> tuple[Pixels, Pixels]:
    for part in begun:
        part.result()
    return room, slots


def window(draws: random.Random, height: int, width: int) -> tuple[slice, slice]:
    """Draw the rows and columns of a window, as torchvision's RandomResizedCrop does."""
    for _ in range(10):
        area = height * width * draws.uniform(*AREA)
        aspect = math.exp(draws.uniform(*map(math.log, ASPECT)))
        across, down = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < across <= width and 0 < down <= height:
            top, left = draws.randint(0, height - down), draws.randint(0, width - across)
            return slice(top, top + down), slice(left, left + across)
    return slice(height), slice(width)
