"""The contact sheet: the right slots in the right cells, whatever their shape, and a file that is whole or absent."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from arraystore._viewing import preview
from arraystore._viewing.preview import draw_preview
from arraystore.errors import SpecError
from arraystore.spec import Color, ImageSpec, Layout

GAP, CAPTION, CELL = 12, 42, 192
PAPER = 250
COLORS = [(255, 0, 0), (0, 200, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255), (255, 0, 255), (20, 20, 20), (99, 0, 9)]


@dataclass
class Slots:
    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[Any] | None
    classes: tuple[str, ...]
    status: npt.NDArray[np.uint8]
    spec: ImageSpec

    def __len__(self) -> int:
        return len(self.images)


def make(
    size: int | tuple[int, int] = 32,
    *,
    total: int = 8,
    color: Color = "rgb",
    layout: Layout = "NCHW",
    classes: tuple[str, ...] = ("ant", "bee"),
) -> Any:
    """Slot i is plain, in the i-th color."""
    spec = ImageSpec(size=size, color=color, layout=layout)
    images = np.zeros((total, spec.height, spec.width, spec.channels), np.uint8)
    for slot in range(total):
        images[slot] = COLORS[slot % 8] if color == "rgb" else 20 * slot
    if layout == "NCHW":
        images = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    labels = np.arange(total, dtype=np.int64) % 2
    return Slots(images, labels, classes, np.ones(total, np.uint8), spec)


def read(path: Path) -> npt.NDArray[np.uint8]:
    """Return the sheet in RGB."""
    pixels = cv2.imread(str(path))
    assert pixels is not None
    return np.ascontiguousarray(pixels[..., ::-1])


def cell(
    sheet: npt.NDArray[np.uint8], row: int, column: int, height: int = CELL, width: int = CELL
) -> npt.NDArray[np.uint8]:
    top, left = GAP + row * (height + CAPTION + GAP), GAP + column * (width + GAP)
    return sheet[top : top + height + CAPTION, left : left + width]


def caption_inks(drawn: npt.NDArray[np.uint8]) -> tuple[int, int]:
    """Return how many pixels of the first and the second line of a caption are not paper."""
    lines = drawn[-CAPTION:-20], drawn[-20:]
    return int((lines[0] != PAPER).any(axis=2).sum()), int((lines[1] != PAPER).any(axis=2).sum())


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_each_slot_is_drawn_in_its_cell_in_its_color(tmp_path: Path, layout: Layout) -> None:
    draw_preview(make(layout=layout), tmp_path / "out.png", slots=[5, 0, 3, 2, 1, 4, 6])
    sheet = read(tmp_path / "out.png")
    assert sheet.shape == (2 * (CELL + CAPTION + GAP) + GAP, 6 * (CELL + GAP) + GAP, 3)
    for position, slot in enumerate([5, 0, 3, 2, 1, 4, 6]):
        drawn = cell(sheet, *divmod(position, 6))
        assert (drawn[:CELL] == COLORS[slot]).all()
        assert min(caption_inks(drawn)) > 10, "a caption is missing"
    assert (cell(sheet, 1, 1) == PAPER).all(), "the unused cell is not blank"


def test_gray_slots(tmp_path: Path) -> None:
    draw_preview(make(color="gray"), tmp_path / "out.png", slots=[4, 2])
    sheet = read(tmp_path / "out.png")
    assert (cell(sheet, 0, 0)[:CELL] == 80).all()
    assert (cell(sheet, 0, 1)[:CELL] == 40).all()


def test_tiny_slots_are_enlarged_pixel_by_pixel(tmp_path: Path) -> None:
    store = make()
    store.images[0] = np.random.default_rng(0).integers(0, 256, (3, 32, 32))
    draw_preview(store, tmp_path / "out.png", slots=[0])
    drawn = cell(read(tmp_path / "out.png"), 0, 0)[:CELL]
    assert np.array_equal(drawn, store.images[0].transpose(1, 2, 0).repeat(6, axis=0).repeat(6, axis=1))


@pytest.mark.parametrize(
    ("size", "height", "width"),
    [
        ((384, 768), 96, 192),
        ((768, 384), 192, 96),
        ((50, 100), 50, 100),
        ((40, 60), 120, 180),
        ((1000, 10), 192, 2),
        (192, 192, 192),
        (1, 192, 192),
    ],
)
def test_every_shape_keeps_its_aspect(tmp_path: Path, size: int | tuple[int, int], height: int, width: int) -> None:
    draw_preview(make(size), tmp_path / "out.png", slots=[0, 1])
    drawn = cell(read(tmp_path / "out.png"), 0, 0, height, max(width, 128))
    assert (drawn[:height, :width] == COLORS[0]).all()
    assert (drawn[:height, width:] == PAPER).all()
    assert min(caption_inks(drawn)) > 10


def test_large_slots_are_averaged_and_not_sampled(tmp_path: Path) -> None:
    store = make(384)
    store.images[0] = (np.indices((384, 384)).sum(axis=0) % 2 * 200).astype(np.uint8)
    draw_preview(store, tmp_path / "out.png", slots=[0])
    assert (cell(read(tmp_path / "out.png"), 0, 0)[:CELL] == 100).all()


def test_slots_that_failed_are_crossed_and_empty_ones_blank(tmp_path: Path) -> None:
    store = make()
    store.status[:3] = 1, 2, 0
    draw_preview(store, tmp_path / "out.png", slots=[0, 1, 2])
    sheet = read(tmp_path / "out.png").astype(int)
    red = (sheet[..., 0] - sheet[..., 1:].max(axis=2)) > 100
    stored, failed, empty = (cell(sheet, 0, column) for column in range(3))
    assert (stored[:CELL] == COLORS[0]).all()
    crossed = cell(red, 0, 1)
    assert crossed[CELL // 2, CELL // 2]
    assert 500 < crossed[:CELL].sum() < 5000
    assert crossed[CELL:].sum() > 20, "the word failed is missing"
    assert (failed[0, 0] == 232).all(), "what lies in a failed slot shows"
    assert (empty[:CELL] == 232).all()
    words = [caption_inks(part.astype(np.uint8))[0] for part in (stored, failed, empty)]
    assert words[1] > words[0] * 2
    assert words[2] > words[0] * 2


def test_random_slots_depend_on_the_seed_alone(tmp_path: Path) -> None:
    store = make(total=200)
    for name, seed in [("a", 1), ("b", 1), ("c", 2)]:
        draw_preview(store, tmp_path / f"{name}.png", count=12, seed=seed)
    a, b, c = ((tmp_path / f"{name}.png").read_bytes() for name in "abc")
    assert a == b
    assert a != c


def test_random_slots_are_distinct_ascending_and_at_most_all() -> None:
    assert preview._choose(8, None, 24, 0) == list(range(8))
    picked = preview._choose(1000, None, 24, 0)
    assert picked == sorted(set(picked))
    assert len(picked) == 24
    assert max(picked) > 24


def test_columns_are_no_more_than_the_slots(tmp_path: Path) -> None:
    draw_preview(make(), tmp_path / "out.png", slots=[1])
    assert read(tmp_path / "out.png").shape[1] == CELL + 2 * GAP


def test_labels_without_names_and_no_labels(tmp_path: Path) -> None:
    store = make(classes=())
    draw_preview(store, tmp_path / "numbers.png", slots=[1])
    store.labels = None
    draw_preview(store, tmp_path / "none.png", slots=[1])
    assert caption_inks(cell(read(tmp_path / "numbers.png"), 0, 0))[1] > 5
    assert caption_inks(cell(read(tmp_path / "none.png"), 0, 0))[1] == 0
    assert caption_inks(cell(read(tmp_path / "none.png"), 0, 0))[0] > 5


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("plain name", "plain name"),
        ("café crème", "cafe creme"),
        ("キツネ", "???"),
        ("a\nb\tc", "a?b?c"),
        ("really?", "really?"),
        ("\udcff", "?"),
        ("", ""),
    ],
)
def test_names_become_printable_ascii(name: str, plain: str) -> None:
    assert preview._plain(name) == plain


def test_labels_that_are_no_class() -> None:
    assert [preview._label(label, ()) for label in np.array([0.1, -2.5, 1e9])] == ["0.1", "-2.5", "1e+09"]
    assert [preview._label(label, ("ant", "bee")) for label in np.array([-1, 7])] == ["-1", "7"]


def test_names_that_cannot_be_shown_keep_their_number() -> None:
    assert [preview._label(label, ("キツネ", "really?")) for label in np.array([0, 1])] == ["0: キツネ", "really?"]


@pytest.mark.parametrize("name", ["a very long class name that cannot fit under a cell", "i" * 5000, "W" * 200])
def test_long_names_end_in_an_ellipsis_inside_the_cell(name: str, tmp_path: Path) -> None:
    shown = preview._shortened(name, CELL)
    assert shown.endswith("...")
    assert name.startswith(shown[:-3])
    assert 0.85 * CELL < preview._width(shown) <= CELL
    draw_preview(make(classes=(name, name)), tmp_path / "out.png", slots=[0, 1])
    gap = read(tmp_path / "out.png")[:, GAP + CELL : GAP + CELL + GAP]
    assert (gap == PAPER).all(), "a caption runs into the next cell"


def test_short_names_are_whole() -> None:
    assert preview._shortened("ant", CELL) == "ant"


@pytest.mark.parametrize("slot", [8, -1, 10**20])
def test_a_slot_that_is_not_there_names_the_range(tmp_path: Path, slot: int) -> None:
    with pytest.raises(SpecError, match=f"slot {slot} is not in this store; valid slots are 0 to 7") as caught:
        draw_preview(make(), tmp_path / "out.png", slots=[0, slot])
    assert caught.value.slot == slot
    assert not list(tmp_path.iterdir())


def test_impossible_options(tmp_path: Path) -> None:
    store = make()
    with pytest.raises(SpecError, match=r"must end in \.png, not 'out\.jpg'"):
        draw_preview(store, tmp_path / "out.jpg")
    with pytest.raises(SpecError, match="count must be 1 or more"):
        draw_preview(store, tmp_path / "out.png", count=0)
    with pytest.raises(SpecError, match="seed 0 or more"):
        draw_preview(store, tmp_path / "out.png", seed=-1)
    with pytest.raises(SpecError, match="no slots were chosen"):
        draw_preview(store, tmp_path / "out.png", slots=[])
    with pytest.raises(SpecError, match="no slots to draw"):
        draw_preview(make(total=0), tmp_path / "out.png")
    assert not list(tmp_path.iterdir())


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"the folder .*nowhere does not exist"):
        draw_preview(make(), tmp_path / "nowhere" / "out.png")


def test_an_old_sheet_is_replaced_whole_or_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out.PNG"
    out.write_text("old")
    draw_preview(make(), out)
    assert read(out).shape[2] == 3
    before = out.read_bytes()

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        draw_preview(make(), out, slots=[1])
    assert out.read_bytes() == before
    assert list(tmp_path.iterdir()) == [out]


def test_the_store_is_not_changed(tmp_path: Path) -> None:
    store = make(192)
    store.status[1] = 2
    before = store.images.copy()
    store.images.flags.writeable = False
    draw_preview(store, tmp_path / "out.png")
    assert np.array_equal(store.images, before)
