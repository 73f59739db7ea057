from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import images
from support.store_contract import DiskContract, assert_equal, build, message_of

import arraystore
from arraystore import FormatError, SpaceError, Store

ROOT = Path(__file__).resolve().parents[2]


class TestNpyStore(DiskContract):
    medium = "npy"

    def target(self, folder: Path) -> Path:
        return folder / "train.store"


@pytest.fixture
def store(photos: Path, tmp_path: Path) -> Store:
    return build(photos, tmp_path / "train.store", targets={"score": np.arange(19.0)})


# --- what lies on disk -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_numpy_alone_opens_the_pixels(photos: Path, tmp_path: Path, layout: str) -> None:
    store = build(photos, tmp_path / "x", layout=layout)
    array = np.load(tmp_path / "x" / "images.npy", mmap_mode="r", allow_pickle=False)
    assert (array.dtype, array.shape, array.flags.c_contiguous) == (np.uint8, store.images.shape, True)
    assert array.offset == 4096
    np.testing.assert_array_equal(array, store.images)
    assert (tmp_path / "x" / "images.npy").stat().st_size == 4096 + array.nbytes


def test_a_dropped_row_leaves_the_file_too(mixed: Path, tmp_path: Path) -> None:
    store = build(mixed, tmp_path / "x", bad="drop")
    assert np.load(tmp_path / "x" / "images.npy").shape == store.images.shape == (8, 3, 16, 24)
    assert (tmp_path / "x" / "images.npy").stat().st_size == 4096 + 8 * 3 * 16 * 24


def test_a_store_has_the_files_of_the_format_and_no_others(photos: Path, mixed: Path, tmp_path: Path) -> None:
    build(photos, tmp_path / "x", targets={"score": np.arange(19.0)})
    files = ["checksums.npy", "images.npy", "labels.npy", "samples.parquet", "score.npy", "status.npy", "store.json"]
    assert sorted(path.name for path in (tmp_path / "x").iterdir()) == files
    build(mixed, tmp_path / "y", bad="drop")
    assert sorted(path.name for path in (tmp_path / "y").iterdir()) == sorted(
        [*files[:3], "dropped.parquet", *files[3:4], *files[5:]]
    )


def test_a_store_may_move(store: Store, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "train.store").rename(tmp_path / "ö")
    assert_equal(arraystore.open(tmp_path / "ö"), build(photos, targets={"score": np.arange(19.0)}))
    assert store.images.shape == (19, 3, 16, 24)


def test_a_name_that_is_not_utf8_is_a_target(photos: Path, tmp_path: Path) -> None:
    target = tmp_path / os.fsdecode(b"caf\xe9.store")
    assert_equal(build(photos, target), build(photos))
    assert_equal(arraystore.open(target), build(photos))


# --- damage ----------------------------------------------------------------------------------------------------------


def rewrite(path: Path, **members: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | members))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "pixels cut short": (
        lambda at: cut(at / "images.npy"),
        (
            "{at}/images.npy is 25,983 bytes long, but uint8 of shape (19, 3, 16, 24) needs 25,984: the file "
            "was cut short; repair the store, or build it again"
        ),
    ),
    "no pixels": (lambda at: (at / "images.npy").unlink(), "{at}/images.npy "),
    "pixels are no .npy": (
        lambda at: (at / "images.npy").write_bytes(b"garbage" * 99),
        "{at}/images.npy is not a .npy file that can be read: ",
    ),
    "pixels are empty": (
        lambda at: (at / "images.npy").write_bytes(b""),
        "{at}/images.npy is not a .npy file that can be read: ",
    ),
    "pixels of another type": (
        lambda at: np.save(at / "images.npy", np.zeros((19, 3, 16, 24), np.int8)),
        "{at}/images.npy should hold uint8 in C order, it holds int8",
    ),
    "pixels in Fortran's order": (
        lambda at: np.save(at / "images.npy", np.zeros((19, 3, 16, 24), np.uint8, order="F")),
        "{at}/images.npy should hold uint8 in C order, it holds ",
    ),
    "pixels of another shape": (
        lambda at: np.save(at / "images.npy", np.zeros((18, 3, 16, 24), np.uint8)),
        "{at}/images.npy has shape (18, 3, 16, 24), store.json says (19, 3, 16, 24)",
    ),
    "no store.json": (lambda at: (at / "store.json").unlink(), "{at} is not a store: it has no store.json"),
    "store.json is no JSON": (lambda at: (at / "store.json").write_text("{"), "{at}/store.json cannot be read: "),
    "store.json is no text": (lambda at: (at / "store.json").write_bytes(b"\xff"), "{at}/store.json cannot be read: "),
    "store.json is a list": (
        lambda at: (at / "store.json").write_text("[1]"),
        "{at}/store.json should hold a JSON object",
    ),
    "store.json is deep": (
        lambda at: (at / "store.json").write_text("[" * 200_000),
        "{at}/store.json cannot be read: ",
    ),
    "another format": (
        lambda at: rewrite(at / "store.json", format="zarr"),
        "{at}/store.json does not describe an arraystore store",
    ),
    "a newer version": (
        lambda at: rewrite(at / "store.json", format_version=2),
        "{at}/store.json has format version 2, this arraystore reads 1: upgrade with pip install -U arraystore",
    ),
    "another count": (
        lambda at: rewrite(at / "store.json", count=20),
        "{at}/images.npy has shape (19, 3, 16, 24), store.json says (20, 3, 16, 24)",
    ),
    "a shape that is not the spec's": (
        lambda at: rewrite(at / "store.json", shape=[3, 24, 16]),
        (
            "{at}/store.json is damaged: shape (3, 24, 16) is not that of the spec's slots, (3, 16, 24); "
            "build the store again"
        ),
    ),
    "a spec that cannot be": (
        lambda at: rewrite(at / "store.json", spec={"size": 0}),
        ("{at}/store.json is damaged: size must be 1 to 65535 pixels on each side, not 0; build the store again"),
    ),
    "a target outside": (
        lambda at: rewrite(at / "store.json", targets={"../../secret": {"dtype": "<i8", "shape": [19]}}),
        (
            "{at}/store.json is damaged: targets is {'../../secret': {'dtype': '<i8', 'shape': [19]}}; "
            "build the store again"
        ),
    ),
    "a target is missing": (lambda at: (at / "score.npy").unlink(), "{at}/score.npy cannot be read: "),
    "a target is short": (
        lambda at: np.save(at / "score.npy", np.zeros(18)),
        "{at}/score.npy should have 19 rows, its shape is (18,)",
    ),
    "a target is a pickle": (
        lambda at: np.save(at / "score.npy", np.array([object()] * 19), allow_pickle=True),
        "{at}/score.npy cannot be read: ",
    ),
    "status is cut short": (lambda at: cut(at / "status.npy"), "{at}/status.npy cannot be read: "),
    "status is one number": (
        lambda at: np.save(at / "status.npy", np.uint8(1)),
        "{at}/status.npy should have 19 rows, its shape is ()",
    ),
    "no checksums": (lambda at: (at / "checksums.npy").unlink(), "{at}/checksums.npy cannot be read: "),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_named(store: Store, name: str) -> None:
    assert store.path is not None
    damage, message = DAMAGE[name]
    damage(store.path)
    with pytest.raises(FormatError) as caught:
        arraystore.open(store.path)
    expected = message.replace("{at}", str(store.path))
    assert str(caught.value).startswith(expected)
    assert message.endswith(" ") or str(caught.value) == expected
    assert caught.value.source is not None


@pytest.mark.parametrize("value", [None, 5, -1, 1.5, True, "x", [], ["x"], {}, {"x": 1}], ids=repr)
def test_no_member_of_store_json_can_do_more_than_be_refused(store: Store, value: Any) -> None:
    assert store.path is not None
    file = store.path / "store.json"
    good = file.read_text()
    for member in json.loads(good):
        rewrite(file, **{member: value})
        try:
            opened = arraystore.open(store.path)
        except FormatError:
            continue
        finally:
            file.write_text(good)
        assert len(opened) == 19
        repr(opened)


def test_members_that_are_not_known_are_ignored(store: Store) -> None:
    assert store.path is not None
    rewrite(store.path / "store.json", later={"x": 1})
    assert_equal(arraystore.open(store.path), store)


@pytest.mark.parametrize("at", range(0, 160, 7))
def test_a_changed_byte_in_the_header_is_refused_or_harmless(store: Store, at: int) -> None:
    assert store.path is not None
    with (store.path / "images.npy").open("r+b") as file:
        file.seek(at)
        file.write(b"(")
    message = message_of(FormatError, arraystore.open, store.path)
    assert str(store.path) in message or arraystore.open(store.path).images.shape == (19, 3, 16, 24)


def test_damaged_samples_do_not_stop_anyone_from_reading_pixels(store: Store) -> None:
    assert store.path is not None
    (store.path / "samples.parquet").write_bytes(b"PAR1garbage")
    opened = arraystore.open(store.path)
    assert opened.images.any()
    with pytest.raises(FormatError, match=r"samples\.parquet cannot be read: "):
        _ = opened.samples


# --- the names in the way --------------------------------------------------------------------------------------------


def test_a_file_of_the_users_in_a_replaced_store_is_not_deleted(store: Store, photos: Path, tmp_path: Path) -> None:
    assert store.path is not None
    (store.path / "notes.txt").write_text("mine")
    message = message_of(arraystore.StoreError, build, photos, store.path, size=5, overwrite=True)
    assert "files that are not arraystore's" in message
    assert [file.read_text() for file in tmp_path.rglob("notes.txt")] == ["mine"]
    assert_equal(arraystore.open(store.path), build(photos, size=5))
    assert not (store.path / "lock").exists()


def test_a_kill_between_the_two_renames_does_not_stop_the_next_call(store: Store, photos: Path, tmp_path: Path) -> None:
    assert store.path is not None
    store.path.rename(tmp_path / "train.store.replaced")
    build(photos, store.path, size=5, overwrite=True)
    assert_equal(build(photos, store.path, size=6, overwrite=True), build(photos, size=6))


def test_a_file_in_the_place_of_the_partial_folder_is_left(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "x.partial").write_text("mine")
    with pytest.raises(arraystore.StoreError, match=r"x\.partial is in the way: it should be a folder; remove it$"):
        build(photos, tmp_path / "x")
    assert (tmp_path / "x.partial").read_text() == "mine"


# --- space -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["x.store", "x.h5"])
def test_a_volume_that_is_too_small_is_refused_before_anything_is_written(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("arraystore._common.limits.free_disk_bytes", lambda _folder: 20_000_000)
    with pytest.raises(SpaceError) as caught:
        build(photos, tmp_path / name, size=1000)
    error = caught.value
    assert str(error) == (
        f"the store needs 0.06 GB, 0.02 GB are free on the volume of {tmp_path}: free some space, choose another "
        "volume, or a smaller size"
    )
    assert 57_000_000 < error.needed_bytes < 57_020_000
    assert error.free_bytes == 20_000_000
    assert list(tmp_path.iterdir()) == []


LIMITED = """
import resource, signal, sys
import numpy as np
import arraystore
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
try:
    arraystore.build(np.zeros((20, 8, 8, 3), np.uint8), sys.argv[1], size=200, progress=False)
except arraystore.SpaceError as error:
    print("SpaceError", error.needed_bytes)
"""


@pytest.mark.parametrize("name", ["x.store", "x.h5"])
def test_a_file_that_the_system_will_not_let_grow_is_a_space_error(tmp_path: Path, name: str) -> None:
    command = [sys.executable, "-c", LIMITED, str(tmp_path / name)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=400, check=False)
    assert result.stdout.startswith("SpaceError 24"), result.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_space_is_reserved_before_the_first_image_is_read(tmp_path: Path) -> None:
    sizes: list[int] = []

    def look(_progress: arraystore.Progress) -> None:
        file = tmp_path / "x.partial" / "images.npy"
        sizes.append(file.stat().st_blocks * 512)

    build(images.noise(4, 12).reshape(4, 2, 6, 3), tmp_path / "x", size=256, progress=look)
    assert sizes[0] >= 4 * 3 * 256 * 256
