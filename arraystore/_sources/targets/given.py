"""Targets that a caller passes beside the sources: labels, scores, vectors, names."""

import os
import re
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from arraystore._common.ragged import Ragged, Target, offsets_of
from arraystore._common.wording import a
from arraystore._sources.entries import has_image_suffix
from arraystore._sources.formats import IMAGE_SUFFIXES
from arraystore._sources.scan import Scan
from arraystore._sources.targets.masks import Masks
from arraystore._sources.text_list import CATEGORY_LIMIT, TextList
from arraystore.errors import Kind, ManifestError, Option, SpecError

# Targets become files beside these. 200 letters leave room for suffixes.
_RESERVED = (
    *("images", "encoded", "offsets", "shapes", "sums", "status", "checksums", "samples", "store", "dropped"),
    *("ledger", "plan", "reasons", "lock", "moved"),
)

KNOWN_SUFFIXES = f"images are recognized by the suffixes {', '.join(sorted(IMAGE_SUFFIXES))}"

_CHECKED_NAMES = 1000
_TARGET_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")


class TargetColumns:
    """The targets that a caller passes beside the sources, sorted into arrays, classes and texts."""

    def __init__(self, labels: Any, targets: Any) -> None:
        self.targets: dict[str, Target] = {}
        self.classes: dict[str, tuple[str, ...]] = {}
        self.texts: dict[str, Sequence[str]] = {}
        self.masks: dict[str, Masks] = {}
        for name, values in given_targets(labels, targets).items():
            self.add(name, values)

    def add(self, name: str, values: Any) -> None:
        """Add one target.

        Raises:
            ManifestError: the values are not one number or text a row, or some are missing.
        """
        if isinstance(values, Masks):
            self.masks[name] = values
            return
        check_sized(f"target {name!r}", values)
        if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
            raise ManifestError(f"target {name!r} has masked values: pass a plain array, with NaN where one is missing")
        try:
            values = _without_objects(values)
            is_ragged = _is_ragged(values)
        except Exception as error:  # an object of the caller may raise anything
            raise ManifestError(f"target {name!r}: the rows make no array: {error}; give rows of one shape") from error
        if isinstance(values, Ragged):
            self.targets[name] = Ragged(_as_numbers(name, values.values), values.offsets)
        elif is_ragged:
            self._add_rows(name, values)
        elif (texts := _as_texts(name, values)) is None:
            self.targets[name] = _as_numbers(name, values)
        elif _are_images(texts):
            raise ManifestError(
                f"target {name!r} has the paths of images, such as {texts[0]!r}, which would become categories",
                kind=Kind.INVALID,
                advice="if they are masks, pass Masks([…]) of them in {0}",
                options=[Option("targets", {"mask": "…"})],
            )
        elif len(set(texts)) > CATEGORY_LIMIT and name != "labels":
            # The caller has said that labels are classes, so they have no limit.
            for each in set(texts):
                _check_text(name, each)
            self.texts[name] = TextList.from_texts(texts)
        else:
            self.targets[name] = self._codes(name, texts)

    def _add_rows(self, name: str, rows: Sequence[Any]) -> None:
        """Add a ragged target, given row by row: numbers, or names of categories."""
        are_names = isinstance(_first_item(rows), str) and all(
            isinstance(row, list | tuple | np.ndarray) for row in rows
        )
        items = list(chain.from_iterable(rows)) if are_names else []
        if items and all(isinstance(item, str) for item in items):
            lengths = np.fromiter(map(len, rows), np.int64, len(rows))
            self.targets[name] = Ragged(self._codes(name, list(map(str, items))), offsets_of(lengths))
            return
        try:
            ragged = Ragged.from_rows(rows)
        except SpecError as error:
            raise ManifestError(f"target {name!r}: {error.message}", slot=error.slot, reason=error.reason) from error
        self.targets[name] = Ragged(_as_numbers(name, ragged.values), ragged.offsets)

    def _codes(self, name: str, texts: Sequence[str]) -> npt.NDArray[np.int64]:
        """Return the codes of the names of categories, which become the classes of a target."""
        names = sorted(set(texts))
        for each in names:
            _check_text(name, each)
        codes = {text: code for code, text in enumerate(names)}
        self.classes[name] = tuple(names)
        return np.fromiter((codes[text] for text in texts), np.int64, len(texts))

    def add_classes(self, root: str, scan: Scan, *, allow_empty: bool) -> None:
        """Add the folders of a scan as the classes of its images.

        Raises:
            ManifestError: images lie beside the folders, or a folder has none.
        """
        if scan.loose is not None:
            image, folder = os.fsdecode(scan.loose), os.fsdecode(next(iter(scan.counts)))
            raise ManifestError(
                f"{root}: has images (such as {image!r}) beside class folders (such as {folder!r})",
                source=image,
                advice="move them into a class folder, or pass {0} or a list of paths",
                options=[Option("labels", ["…"])],
            )
        empty = [os.fsdecode(name) for name, count in scan.counts.items() if not count]
        # Without the class, later classes would get other codes than in a training folder that has it.
        if empty and not allow_empty:
            shown = ", ".join(map(repr, empty[:10])) + (f" and {len(empty) - 10} more" if len(empty) > 10 else "")
            raise ManifestError(
                f"{root}: no images in the class folders {shown}",
                source=root,
                kind=Kind.MISSING,
                advice=f"add some, delete the folders, or pass {{0}} to keep them as classes; {KNOWN_SUFFIXES}",
                options=[Option("allow_empty")],
            )
        self.classes["labels"] = tuple(os.fsdecode(name) for name in scan.counts)
        # The walk goes folder by folder, so the images of a class follow each other.
        self.targets["labels"] = np.repeat(np.arange(len(scan.counts)), list(scan.counts.values()))


def given_targets(labels: Any, targets: Any) -> dict[str, Any]:
    """Return the labels and the other targets as one mapping, labels first.

    Raises:
        ManifestError: the labels are given twice, or the targets are no mapping.
    """
    if targets is not None and not isinstance(targets, Mapping):
        raise ManifestError(
            f"targets must be a mapping of names to arrays, not {a(type(targets).__name__)}",
            advice="pass {0}; names of columns are for tables",
            options=[Option("targets", {"score": ["…"]})],
        )
    if labels is not None and "labels" in (targets or {}):
        raise ManifestError("labels are given twice: by labels= and in targets; leave one out")
    return ({} if labels is None else {"labels": labels}) | dict(targets or {})


def _without_objects(values: Any) -> Any:
    """Return a column of Python objects, such as the lists in a data frame, as a list; other values as they are."""
    if isinstance(values, list | tuple | Ragged):
        return values
    column = np.asarray(values)
    return column.tolist() if column.dtype == object and column.ndim == 1 else values


def _is_ragged(values: Any) -> bool:
    """Return whether a target is given as lists or arrays of different lengths, or as lists of names of categories.

    If only some rows are lists, it is meant so too, and the first of the others is named as a fault.
    """
    if not isinstance(values, list | tuple):
        return False
    are_lists = {hasattr(row, "__len__") and not isinstance(row, str | bytes) for row in values}
    if are_lists != {True}:
        return True in are_lists
    try:
        lengths = set(map(len, values))
    except TypeError:  # arrays of a single number
        return False
    return len(lengths) > 1 or isinstance(_first_item(values), str)


def _first_item(rows: Sequence[Any]) -> Any:
    """Return the first item of the rows that are lists or arrays; None if there is none."""
    return next((row[0] for row in rows if isinstance(row, list | tuple | np.ndarray) and len(row)), None)


def check_sized(what: str, value: Any) -> None:
    """Refuse a value without rows, or without an order of rows.

    Raises:
        ManifestError: the value is a single one, is unordered, or has no length.
    """
    kind = type(value).__name__
    if isinstance(value, str | bytes | bytearray | memoryview | os.PathLike):
        raise ManifestError(f"{what} must have a row for each image, but is one {kind}: pass a list")
    if isinstance(value, AbstractSet | Mapping):
        raise ManifestError(f"{what} is {a(kind)}, whose order does not say which row is which: pass a list")
    try:
        len(value)
    except Exception as error:  # an object of the caller may raise anything
        message = f"{what} is {a(kind)}, which has no length: pass a list, such as list(…) of it"
        raise ManifestError(message) from error


def check_name(name: object, names: Sequence[object]) -> None:
    """Refuse a target's name that is no file name, or that clashes with another of ``names``.

    Raises:
        ManifestError: the name is refused.
    """
    if not isinstance(name, str) or not _TARGET_NAME.fullmatch(name):
        raise ManifestError(
            f"a target cannot be named {name!r}, because its name becomes a file's",
            advice="use up to 200 of A to Z, a to z, 0 to 9, '_', '.' and '-', the first no '.' or '-'; rename it, or "
            "leave a column out with {0}",
            options=[Option("targets", ["…"])],
        )
    if name.lower() in _RESERVED:
        own = f"a store's own files are {', '.join(_RESERVED)}"
        raise ManifestError(f"a target cannot be named {name!r}, because {own}: rename it")
    # Some file systems do not distinguish case.
    alike = [other for other in names if isinstance(other, str) and other.lower() == name.lower()]
    if len(alike) > 1:
        raise ManifestError(f"the targets {alike[0]!r} and {alike[1]!r} differ only in case: rename one")


def check_files(name: str, names: Sequence[str]) -> None:
    """Refuse a ragged target, which becomes two files, beside one of ``names`` whose file has the name of one of these.

    Raises:
        ManifestError: there is such a name.
    """
    own = {f"{name}.values".lower(), f"{name}.offsets".lower()}
    clash = next((other for other in names if other.lower() in own), None)
    if clash is not None:
        raise ManifestError(f"a target cannot be named {clash!r} beside {name!r}, whose file has that name: rename one")


def _as_texts(name: str, values: Any) -> list[str] | None:
    """Return values that are texts as a list, or None if the first is no text.

    Each item is checked, because np.asarray turns [1, "a"] into texts.
    """
    if not isinstance(values, list | tuple):
        values = _as_array(name, values)
        if values.dtype.kind not in "OUT" or values.ndim != 1:
            return None
        values = values.tolist()
    kinds = {isinstance(value, str) for value in values}
    if kinds == {True}:
        return list(map(str, values))
    if kinds == {True, False}:
        first = isinstance(values[0], str)
        row = next(row for row, value in enumerate(values) if isinstance(value, str) is not first)
        reason = f"expected {'text' if first else 'a number'} as in row 0, found a {type(values[row]).__name__}"
        raise ManifestError(f"target {name!r}: row {row} (counted from 0): {reason}", slot=row, reason=reason)
    return None


def _are_images(texts: Sequence[str]) -> bool:
    """Return whether most of different texts are the names of images."""
    some = sorted(set(texts))[:_CHECKED_NAMES]
    return len(some) > 1 and 2 * sum(has_image_suffix(os.fsencode(text)) for text in some) > len(some)


def _check_text(name: str, text: str) -> None:
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        message = f"target {name!r} holds the text {text!a}, which cannot be written as UTF-8: correct it"
        raise ManifestError(message, kind=Kind.INVALID) from error


def _as_array(name: str, values: Any) -> npt.NDArray[Any]:
    try:
        return np.asarray(values)
    except Exception as error:  # an object of the caller may raise anything
        raise ManifestError(f"target {name!r}: the rows make no array: {error}; give rows of one shape") from error


def _as_numbers(name: str, values: Any) -> npt.NDArray[Any]:
    numbers = _as_array(name, values)
    if numbers.dtype.kind not in "biuf":
        raise ManifestError(f"target {name!r} has dtype {numbers.dtype}: give numbers or texts, without missing values")
    if name == "labels" and numbers.dtype.kind in "iu":
        if numbers.dtype == np.uint64 and numbers.size and int(numbers.max()) > np.iinfo(np.int64).max:
            raise ManifestError(f"target {name!r} holds {numbers.max()}, which does not fit int64")
        numbers = numbers.astype(np.int64, copy=False)
    return numbers


def whole_numbers(values: Sequence[Any]) -> Any:
    """Return labels as int64 if all of them are whole numbers written as text, else as they are."""
    if all(isinstance(value, str) and value.lstrip("+-").isdecimal() and len(value) < 19 for value in values):
        return np.array([int(value) for value in values], np.int64)
    return values


def count_classes(codes: Target, names: Sequence[str]) -> dict[str, int]:
    """Return the number of ``codes`` of each class, name → number; a negative code has no class."""
    if not names:
        return {}
    codes = codes.values if isinstance(codes, Ragged) else codes
    if codes.ndim == 2:  # a column for each name
        return {name: int(count) for name, count in zip(names, codes.sum(axis=0, dtype=np.int64), strict=True)}
    counts = np.bincount(codes[codes >= 0], minlength=len(names))
    return {name: int(count) for name, count in zip(names, counts, strict=True)}
