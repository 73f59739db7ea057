"""A contact sheet of a store: a PNG with chosen or random slots, each above its number and its label."""

import os
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from arraystore._common.checks import expanded
from arraystore._format.specification import EMPTY, FAILED, STORED
from arraystore._reading.store import Store
from arraystore._sources.targets.multi_label import names_in
from arraystore.errors import SpecError

_Pixels: TypeAlias = npt.NDArray[np.uint8]
_Ink: TypeAlias = tuple[int, int, int]

_CELL_PX = 192  # the longer side of a drawn slot
_CAPTION_PX = 42  # two lines of text under it
_GAP_PX = 12
_COLUMNS = 6
_NARROWEST_PX = 128  # of a cell, so that a caption fits under a tall thin slot

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_FONT_SCALE = 0.46  # about 10 px capitals, the smallest that stays legible without zooming

# Colors as OpenCV has them: blue, green, red.
_PAPER: _Ink = (250, 250, 250)
_BLANK: _Ink = (232, 232, 232)
_TEXT: _Ink = (40, 40, 40)
_FAINT: _Ink = (105, 105, 105)
_RED: _Ink = (40, 40, 215)


def draw_preview(
    store: Store,
    path: str | os.PathLike[str],
    *,
    slots: Sequence[int] | None = None,
    count: int = 24,
    seed: int = 0,
) -> None:
    """Draw a contact sheet of a store as a PNG.

    Slots of up to 192 pixels on the longer side are enlarged by a whole factor, so that all their pixels can be seen.
    Larger slots are shrunk to 192 pixels. Below each slot are its number and the name of its class. A slot that failed
    has a red cross.

    Args:
        store: any open store.
        path: the file, which must end in ``.png``; an existing one is replaced atomically.
        slots: the slots to draw, in this order. None draws ``count`` random slots, in ascending order.
        count: how many random slots; all of them if the store has fewer.
        seed: of the random choice, 0 or more.

    Raises:
        SpecError: an option is invalid.
        OSError: the file cannot be written.
    """
    target = expanded(path)
    if target.suffix.lower() != ".png":
        raise SpecError(f"a preview is a PNG, so its name must end in .png, not {target.name!r}")
    labels = store.labels
    chosen = _choose(len(store), slots, count, seed)
    cells = [
        Cell(_pixels_of(store, slot), str(slot), None if labels is None else labels[slot], int(store.status[slot]))
        for slot in chosen
    ]
    draw_sheet(target, cells, store.classes)


@dataclass(frozen=True, slots=True)
class Cell:
    """One image of a contact sheet.

    Attributes:
        pixels: uint8, (H, W, 3) or (H, W, 1).
        number: is written below it.
        label: or the labels of the image; None where there are none.
        status: of its slot.
    """

    pixels: _Pixels
    number: str
    label: Any = None
    status: int = STORED


def draw_sheet(target: Path, cells: Sequence[Cell], classes: Sequence[str]) -> None:
    """Draw images, each above its number and the names of its labels; see `draw_preview`."""
    _write_png(target, _arrange([_draw_cell(cell, classes) for cell in cells]))


def _choose(total: int, slots: Sequence[int] | None, count: int, seed: int) -> list[int]:
    """Return the slots to draw.

    Raises:
        SpecError: a slot is not in the store, there is none to draw, or an option is invalid.
    """
    if total == 0:
        raise SpecError("this store has no slots to draw")
    if slots is None:
        if count < 1 or seed < 0:
            raise SpecError(f"count must be 1 or more and seed 0 or more, not {count} and {seed}")
        picked = np.random.default_rng(seed).choice(total, min(count, total), replace=False)
        return sorted(int(slot) for slot in picked)
    if len(slots) == 0:
        raise SpecError("no slots were chosen; give at least one, or leave slots out for random ones")
    for slot in slots:
        if not 0 <= slot < total:
            raise SpecError(f"slot {slot} is not in this store; valid slots are 0 to {total - 1}", slot=slot)
    return [int(slot) for slot in slots]


def _draw_cell(cell: Cell, classes: Sequence[str]) -> _Pixels:
    """Return an image and its caption, (H, W, 3) in BGR."""
    pixels = cell.pixels[..., ::-1] if cell.pixels.shape[2] == 3 else np.repeat(cell.pixels, 3, axis=2)
    image = _scaled(np.array(pixels, order="C")) if pixels.size else np.full((_CELL_PX, _CELL_PX, 3), _BLANK, np.uint8)
    height, width = image.shape[:2]
    if cell.status != STORED:
        # An empty slot may hold any bytes.
        image[:] = _BLANK
    cell_width = max(width, _NARROWEST_PX)
    drawn = np.full((height + _CAPTION_PX, cell_width, 3), _PAPER, np.uint8)
    if cell.status == FAILED:
        _cross(image)
    drawn[:height, :width] = image
    mark, mark_ink = {EMPTY: ("empty", _FAINT), FAILED: ("failed", _RED)}.get(cell.status, ("", _FAINT))
    used = _write(drawn, cell.number, (0, height + 16), cell_width, _TEXT)
    _write(drawn, mark, (used + 8, height + 16), cell_width - used - 8, mark_ink)
    _write(drawn, _label(cell.label, classes), (0, height + 35), cell_width, _FAINT)
    return drawn


def _pixels_of(store: Store, slot: int) -> _Pixels:
    """Return a slot as (H, W, C)."""
    pixels = np.asarray(store.images[slot])
    return pixels.transpose(1, 2, 0) if store.spec.layout == "NCHW" else pixels


def _scaled(pixels: _Pixels) -> _Pixels:
    height, width = pixels.shape[:2]
    longer = max(height, width)
    if longer > _CELL_PX:
        size = (max(1, round(width * _CELL_PX / longer)), max(1, round(height * _CELL_PX / longer)))
        return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
    factor = _CELL_PX // longer
    return pixels.repeat(factor, axis=0).repeat(factor, axis=1)


def _cross(image: _Pixels) -> None:
    height, width = image.shape[:2]
    inset = max(1, min(width, height) // 5)
    right, bottom = width - 1 - inset, height - 1 - inset
    cv2.line(image, (inset, inset), (right, bottom), _RED, 3, cv2.LINE_AA)
    cv2.line(image, (right, inset), (inset, bottom), _RED, 3, cv2.LINE_AA)


def _label(label: Any, classes: Sequence[str]) -> str:
    if label is None:
        return ""
    if isinstance(label, np.ndarray) and label.ndim and not (classes and label.dtype == np.uint8):
        return ", ".join(_named(each, classes) for each in dict.fromkeys(label.tolist()))
    return _named(label, classes)


def _named(label: Any, classes: Sequence[str]) -> str:
    if classes and np.ndim(label):
        return ", ".join(names_in(label, classes))
    if not (classes and 0 <= label < len(classes)):
        return f"{label:.6g}" if isinstance(label, np.floating | float) else str(label)
    name = classes[label]
    # A name that the font cannot show gets its code, so that classes can still be told apart.
    return name if _plain(name).count("?") == name.count("?") else f"{label}: {name}"


def _write(cell: _Pixels, text: str, at: tuple[int, int], room: int, ink: _Ink) -> int:
    """Write one line with its baseline at ``at``, shortened to ``room`` pixels, and return the pixels it takes."""
    shown = _shortened(_plain(text), room)
    cv2.putText(cell, shown, at, _FONT, _FONT_SCALE, ink, 1, cv2.LINE_AA)
    return _width(shown)


def _plain(text: str) -> str:
    """Return the text in printable ASCII, because OpenCV's fonts have no other characters.

    An accented letter loses its accent (café becomes cafe); every other character becomes a question mark.
    """
    letters = (part for part in unicodedata.normalize("NFKD", text) if not unicodedata.combining(part))
    return "".join(letter if " " <= letter <= "~" else "?" for letter in letters)


def _shortened(text: str, room: int) -> str:
    # Cut first: a character is at least a pixel wide, and a name of thousands of characters would take long to measure.
    text, whole = text[:room], text
    kept = len(text)
    while kept and _width(text) > room:
        kept -= 1
        text = whole[:kept].rstrip() + "..."
    return text


def _width(text: str) -> int:
    return int(cv2.getTextSize(text, _FONT, _FONT_SCALE, 1)[0][0])


def _arrange(cells: Sequence[_Pixels]) -> _Pixels:
    """Return the sheet: the cells row by row, with a gap around each."""
    height, width = np.max([cell.shape[:2] for cell in cells], axis=0).tolist()
    columns = min(_COLUMNS, len(cells))
    rows = -(-len(cells) // columns)
    shape = (rows * (height + _GAP_PX) + _GAP_PX, columns * (width + _GAP_PX) + _GAP_PX, 3)
    sheet = np.full(shape, _PAPER, np.uint8)
    for position, cell in enumerate(cells):
        row, column = divmod(position, columns)
        top, left = _GAP_PX + row * (height + _GAP_PX), _GAP_PX + column * (width + _GAP_PX)
        sheet[top : top + len(cell), left : left + cell.shape[1]] = cell
    return sheet


def _write_png(target: Path, sheet: _Pixels) -> None:
    """Write the sheet under a temporary name, then rename it.

    Raises:
        FileNotFoundError: the folder does not exist.
    """
    if not target.parent.is_dir():
        raise FileNotFoundError(f"cannot write {target}: the folder {target.parent} does not exist")
    _, encoded = cv2.imencode(".png", sheet)
    work = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        with work.open("wb") as file:
            file.write(encoded.tobytes())
            file.flush()
            os.fsync(file.fileno())
        work.replace(target)
    finally:
        work.unlink(missing_ok=True)
