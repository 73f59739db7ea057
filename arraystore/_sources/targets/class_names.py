"""Class names that folders give: the ones that were hardly meant as classes, and orders that surprise."""

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from arraystore._common.ragged import Ragged, Target
from arraystore._common.wording import flat
from arraystore._sources.targets.multi_label import not_given, reordered
from arraystore.errors import Kind, ManifestError, Option

_PARTS = r"(?:[ _.-]?(?:set|split|data|dataset|images?|imgs?|photos|\d+))*"
_TRAIN = re.compile(rf"(?:train|training|trn|labell?ed){_PARTS}", re.IGNORECASE)
_HELD_OUT = re.compile(
    rf"(?:val|valid|validation|validate|test|testing|tst|dev|eval|evaluation|hold[ _-]?out|unlabell?ed|extra){_PARTS}",
    re.IGNORECASE,
)
_FOLD = re.compile(r"(?:fold|split|part|shard)[ _.-]?\d+", re.IGNORECASE)
_KIND = re.compile(
    r"(?:jpe?g|png)?_?(?:images?|imgs?|pictures|photos|masks?|labels?|annotations?|segmentations?|segmaps?|gt|"
    r"ground[ _-]?truth)(?:[ _-]?(?:dir|files|data|\d+))*",
    re.IGNORECASE,
)
_MASKS = re.compile(r"(?:jpe?g|png)?_?(?:masks?|labels?|annotations?|segm|gt|ground)", re.IGNORECASE)
_NUMBER = re.compile(r"(\d+)")


def check_meant(root: str, names: Sequence[str], *, is_archive: bool = False) -> None:
    """Refuse folders that are splits of a data set, or kinds of files, where each would become a class.

    Args:
        root: the folder or the archive that has them.
        names: of the folders.
        is_archive: whether it is an archive, of which a folder cannot be built alone.

    Raises:
        ManifestError: they are.
    """
    train = [name for name in names if _TRAIN.fullmatch(name)]
    held_out = [name for name in names if _HELD_OUT.fullmatch(name)]
    folds = [name for name in names if _FOLD.fullmatch(name)]
    kinds = [name for name in names if _KIND.fullmatch(name)]
    if (train and held_out) or len(train) + len(held_out) == len(names) or len(folds) == len(names):
        found, what = train + held_out or folds, "splits of a data set"
    elif len(kinds) == len(names):
        found, what = kinds, "kinds of files"
    else:
        return
    shown = ", ".join(repr(flat(name)) for name in found[:4])
    if is_archive:
        advice = _in_archive(kinds if found is kinds else [])
    else:
        folder = _with_masks(root, kinds) if found is kinds else f"{root}/{flat(found[0])}"
        advice = f"build each folder of its own, such as {folder}"
    raise ManifestError(
        f"{root}: the folders {shown} look like {what}, and each would become a class",
        source=root,
        reason=f"folders look like {what}",
        kind=Kind.INVALID,
        advice=f"{advice}; if they are classes, pass {{0}}",
        options=[Option("classes", sorted(names)[:10])],
    )


def _in_archive(names: Sequence[str]) -> str:
    """Return what to do about folders of an archive, where some seem to have the masks of others."""
    masks, images = _masks_and_images(names)
    unpacked = "unpack it, and build each folder of its own"
    if not (masks and images):
        return unpacked
    return f"pass targets={{'mask': Masks({masks[0]!r})}} if those are the masks of its images, or {unpacked}"


def _masks_and_images(names: Sequence[str]) -> tuple[list[str], list[str]]:
    masks = [name for name in names if _MASKS.match(name)]
    return masks, [name for name in names if name not in masks]


def _with_masks(root: str, names: Sequence[str]) -> str:
    """Return the folder to build, and where others seem to have its masks, how they are given."""
    masks, images = _masks_and_images(names)
    if not (masks and images):
        return f"{root}/{flat(names[0])}"
    folder = f"{root}/{flat(masks[0])}"
    return f"{root}/{flat(images[0])}, with targets={{'mask': Masks({folder!r})}} if those are its masks"


def recoded(target: str, codes: Target, names: Sequence[str], classes: Sequence[str]) -> Target:
    """Return codes of ``names`` as codes of ``classes``, which may have more names.

    Raises:
        ManifestError: a name that has rows is not among the classes.
    """
    if not isinstance(codes, Ragged) and codes.ndim == 2:
        return reordered(target, codes, names, classes)
    every = codes.values if isinstance(codes, Ragged) else codes
    code_of = {name: code for code, name in enumerate(classes)}
    used = np.bincount(every[every >= 0], minlength=len(names)) > 0  # a negative code has no class
    for code, name in enumerate(names):
        if used[code] and name not in code_of:
            first = int(np.argmax(every == code))
            row = codes.row_of(first) if isinstance(codes, Ragged) else first
            raise not_given(target, row, "class", name, len(classes))
    table: npt.NDArray[np.int64] = np.array([code_of.get(name, -1) for name in names] or [-1], np.int64)
    found = np.where(every < 0, every, np.take(table, np.maximum(every, 0)))
    return Ragged(found, codes.offsets) if isinstance(codes, Ragged) else found


def mask_classes(categories: Sequence[str]) -> tuple[str, ...]:
    """Return what the numbers of a mask mean that has the code of a category and 1, and 0 where there is none."""
    nothing = "background"
    while nothing in categories:
        nothing += " of all"
    return (nothing, *categories)


def order_note(names: Sequence[str]) -> str | None:
    """Return a note where names with numbers are sorted as texts, so that class 10 comes before class 2."""
    by_number = sorted(names, key=_natural)
    if by_number == list(names):
        return None
    at = next(code for code, (name, other) in enumerate(zip(names, by_number, strict=True)) if name != other)
    name, other = names[at], by_number[at]
    return (
        f"classes are sorted as texts, not as numbers: code {at} is {flat(name)!r}, and {flat(other)!r} has code "
        f"{list(names).index(other)}; pass classes to fix another order"
    )


def _natural(name: str) -> list[tuple[int, int, str]]:
    parts = _NUMBER.split(name)
    return [(0, int(part[:300]), part) if part.isdecimal() else (1, 0, part) for part in parts]
