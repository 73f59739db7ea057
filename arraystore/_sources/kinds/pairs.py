"""Data sets that give pairs of an image and a label, as those of torchvision do, and lists of pairs."""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, TypeGuard

import numpy as np
import numpy.typing as npt

from arraystore._sources.given import is_pil_image, raw_paths
from arraystore._sources.kinds.found import Found, SourceList
from arraystore._sources.kinds.lists import are_paths, from_memory, from_paths
from arraystore._sources.targets.given import TargetColumns
from arraystore._sources.targets.held_masks import check_first, held_mask
from arraystore._sources.targets.mask_sources import MaskSource
from arraystore._sources.targets.masks import Masks
from arraystore._sources.text_list import TextList
from arraystore.errors import Kind, ManifestError, Option

_READ_TWICE = (
    "the data set has no targets that are the labels of its items, so every item is read twice: for its label, and for "
    "its image; pass labels to read each once"
)


class PairItems:
    """The items of a data set that gives pairs. The last one is kept, so that its image and its mask are read once."""

    def __init__(self, data: Any) -> None:
        self._data = data
        self._last: tuple[int, Any] = (-1, None)

    def __getstate__(self) -> dict[str, Any]:
        return {"_data": self._data, "_last": (-1, None)}

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, slot: int) -> tuple[Any, Any]:
        if self._last[0] != slot:
            self._last = (slot, _parts(self._data[slot]))
        pair: tuple[Any, Any] = self._last[1]
        return pair

    def identity(self) -> Iterator[tuple[list[Any], Sequence[npt.NDArray[Any]]]]:
        yield ["pairs", type(self._data).__qualname__, len(self)], ()


class PairMasks:
    """The masks of a data set that gives pairs of an image and its mask."""

    may_name_files = False
    is_fixed = False

    def __init__(self, items: PairItems) -> None:
        self._items = items

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, slot: int) -> MaskSource:
        return held_mask(self._items[slot][1])

    def name(self, slot: int) -> str:
        return f"item {slot}"

    def identity(self) -> Iterator[tuple[list[Any], Sequence[npt.NDArray[Any]]]]:
        return self._items.identity()


class PairImages(SourceList):
    """The images of a data set that gives pairs. Each pair's label must be the one that was listed.

    Args:
        items: of the data set.
        labels: of its pairs as listed before, or None if they are not to be looked at.
    """

    noun: ClassVar[str] = "items of a data set"

    def __init__(self, items: PairItems, labels: Sequence[Any] | None) -> None:
        self._items = items
        self._labels = labels

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, slot: Any) -> Any:
        image, label = self._items[slot]
        if self._labels is not None and not _same(label, self._labels[slot]):
            raise ManifestError(
                f"item {slot} of the data set has the label {label!r}, but the data set lists {self._labels[slot]!r}",
                slot=slot,
                kind=Kind.INVALID,
                advice="pass the ones that you mean as {0}",
                options=[Option("labels", ["…"])],
            )
        if is_pil_image(image):
            return image
        return image if isinstance(image, bytes | str) else np.asarray(image)

    @property
    def is_fixed(self) -> bool:
        return False

    def name(self, slot: int) -> str:
        return f"item {slot}"

    def identity(self) -> Iterator[tuple[list[Any], Sequence[npt.NDArray[Any]]]]:
        return self._items.identity()


def is_image_folder(source: Any) -> bool:
    """Return whether a source is an ``ImageFolder`` of torchvision, or a choice of one, that loads files as images."""
    data = source
    while hasattr(data, "dataset") and hasattr(data, "indices"):
        data = data.dataset
    samples = getattr(data, "samples", None)
    if not (isinstance(samples, list) and samples and hasattr(data, "classes") and hasattr(data, "loader")):
        return False
    # With a loader of the caller's own, only the data set itself can give the images.
    is_ours = getattr(data.loader, "__module__", "") == "torchvision.datasets.folder"
    return is_ours and all(isinstance(each, tuple) and len(each) == 2 for each in samples[:10])


def from_image_folder(source: Any, *, labels: Any = None) -> Found:
    """Return the files and classes of an ``ImageFolder``, undecoded and without its transforms; or of a choice of it.

    Raises:
        ManifestError: there are no images.
    """
    data, chosen = source, None
    while hasattr(data, "dataset") and hasattr(data, "indices"):
        indices = np.asarray(data.indices, np.int64)
        chosen = indices if chosen is None else indices[chosen]
        data = data.dataset
    samples = data.samples if chosen is None else [data.samples[i] for i in chosen.tolist()]
    if not samples:
        raise ManifestError("the data set has no images", kind=Kind.MISSING)
    root = str(Path(data.root).absolute())
    paths = [str(Path(path).absolute()) for path, _ in samples]
    prefix = root + os.sep
    found = Found(TextList.from_raw(raw_paths(path.removeprefix(prefix) for path in paths)), root)
    codes = [code for _, code in samples]
    target_transform = getattr(data, "target_transform", None)
    if labels is not None:
        pass
    elif target_transform is None:
        found.targets["labels"] = np.array(codes, np.int64)
        found.classes["labels"] = tuple(data.classes)
    else:
        columns = TargetColumns([target_transform(code) for code in codes], None)
        found.targets, found.classes, found.texts = columns.targets, columns.classes, columns.texts
    if getattr(data, "transform", None) is not None:
        found.notes.append("the transform of the data set is not applied: slots hold the images of its files")
    return found


def gives_pairs(source: Any) -> bool:
    """Return whether the first item of a source is a pair of an image and something; an array is not asked for it."""
    if hasattr(source, "dtype") or not hasattr(source, "__getitem__") or isinstance(source, str | bytes | dict):
        return False
    if not len(source):
        return False
    try:
        first = _loaded(source[0])
    except Exception:  # the build says what is wrong, of the slot that it concerns
        return False
    return isinstance(first, tuple) and len(first) == 2 and not isinstance(first[0], int | float)


def from_pairs(source: Any, *, labels: Any = None) -> Found:
    """Return the images and labels of a data set that gives pairs, or of a list of pairs.

    Where the first label is a mask, all are masks, which become the target ``"masks"``. Other labels of a data set are
    its ``targets``, and each item's label is compared with them as it is read. Without ``targets``, every item is read
    once for its label, before the build reads it again, and a note says so: the labels are part of what tells one build
    from another, so they must be known before the first slot is filled, and the images of all items would not fit in
    memory meanwhile.

    Raises:
        ManifestError: an item is no pair, or the first label is an image and no mask.
    """
    if isinstance(source, list | tuple):
        pairs = list(map(_parts, source))
        firsts, given = [image for image, _ in pairs], [label for _, label in pairs]
        found = from_paths(firsts) if are_paths(firsts) else from_memory(firsts)
        if is_mask(*pairs[0]):
            found.masks["masks"] = Masks(given)
            return found
    elif is_mask(*_parts(_loaded(source[0]))):
        items = PairItems(source)
        _loaded(items[0])
        check_first(PairMasks(items)[0])
        return Found(PairImages(items, None), masks={"masks": Masks(PairMasks(items))})
    else:
        listed = _listed(source) if labels is None else []
        given = [_parts(_item(source, slot))[1] for slot in range(len(source))] if listed is None else listed
        found = Found(PairImages(PairItems(source), given if labels is None else None))
        found.notes += [_READ_TWICE] if listed is None else []
    if labels is None:
        columns = TargetColumns(_labels(given), None)
        found.targets, found.classes, found.texts = columns.targets, columns.classes, columns.texts
        names = getattr(source, "classes", None)
        codes = found.targets.get("labels")
        if isinstance(codes, np.ndarray) and "labels" not in found.classes and _are_names(names, codes):
            found.classes["labels"] = tuple(names)
    return found


def is_mask(image: Any, label: Any) -> bool:
    """Return whether the label of an image is its mask: an image of Pillow, or whole numbers of the image's shape.

    Raises:
        ManifestError: the label has several parts, of which one is a mask.
    """
    if isinstance(label, tuple | list) and any(is_mask(image, part) for part in label):
        raise ManifestError(
            "the label of the first image has several parts, of which one is a mask",
            slot=0,
            kind=Kind.INVALID,
            advice="pass a data set whose label is the mask alone, and other labels as {0}",
            options=[Option("labels", ["…"])],
        )
    if is_pil_image(label):
        return True
    if is_pil_image(image):
        size: tuple[int, ...] = image.size[::-1]
    else:
        size = tuple(getattr(image, "shape", ()))
    shape = tuple(getattr(label, "shape", ()))
    is_whole = not str(getattr(label, "dtype", "")).rpartition(".")[2].startswith(("float", "complex", "bfloat"))
    return is_whole and len(shape) == 2 and shape in (size[:2], size[-2:])


def _loaded(item: Any) -> Any:
    """Return an item that is only looked at. Its images of Pillow are loaded, so that none leaves its file open."""
    pair = item if isinstance(item, tuple | list) else ()
    parts = [part for each in pair for part in (each if isinstance(each, tuple | list) else (each,))]
    for image in filter(is_pil_image, parts):
        with suppress(Exception):  # the build says what is wrong
            image.load()
    return item


def _listed(source: Any) -> list[Any] | None:
    """Return the labels in the ``targets`` of a data set; None if it has none, or other ones than its items."""
    listed = getattr(source, "targets", None)
    if listed is None or not hasattr(listed, "__len__") or len(listed) != len(source):
        return None
    values = listed.tolist() if hasattr(listed, "tolist") else list(listed)
    return values if values and _same(_parts(source[0])[1], values[0]) else None


def _item(source: Any, slot: int) -> Any:
    try:
        return source[slot]
    except Exception as error:
        reason = f"the data set gave {type(error).__name__}: {error}"
        raise ManifestError(
            f"item {slot}: {reason}, so its label is not known",
            slot=slot,
            reason=reason,
            kind=Kind.UNREADABLE,
            advice="leave the item out, or pass all labels as {0}",
            options=[Option("labels", ["…"])],
        ) from error


def _labels(values: Any) -> Any:
    """Return labels as texts or plain numbers; tensors of one number are numbers."""
    return [value.item() if hasattr(value, "item") and getattr(value, "ndim", 1) == 0 else value for value in values]


def _are_names(names: Any, codes: npt.NDArray[Any]) -> TypeGuard[Sequence[str]]:
    """Return whether these are the names of classes that have these codes."""
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        return False
    return codes.dtype.kind == "i" and codes.ndim == 1 and bool(codes.min() >= 0) and bool(codes.max() < len(names))


def _parts(item: Any) -> tuple[Any, Any]:
    if not isinstance(item, tuple | list) or len(item) != 2:
        raise ManifestError(f"an item of the data set is a {type(item).__name__}, not a pair of an image and a label")
    return item[0], item[1]


def _same(one: Any, other: Any) -> bool:
    return bool(np.array_equal(np.asarray(one), np.asarray(other)))
