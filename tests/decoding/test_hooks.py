"""Decoders of the caller."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import images

import arraystore
from arraystore import SpecError


def raw_gray(data: bytes) -> Any:
    """Decode a made-up format: one byte of width, then gray pixels."""
    if len(data) < 2:
        raise ValueError("no pixels")
    return np.frombuffer(data, np.uint8, offset=1).reshape(-1, data[0])


def flipped(data: bytes) -> Any:
    return np.full((3, 5, 3), data[4], np.uint8)


@pytest.mark.parametrize("options", [{}, {"processes": True, "workers": 1}], ids=["threads", "processes"])
def test_files_are_decoded_by_suffix_and_by_first_bytes(tmp_path: Path, options: dict[str, Any]) -> None:
    (tmp_path / "a.RAW").write_bytes(bytes([4, *range(8)]))
    (tmp_path / "b.raw").write_bytes(b"\4")
    (tmp_path / "c.bin").write_bytes(b"MINE\x37")
    (tmp_path / "d.png").write_bytes(images.png(np.full((2, 4, 3), 200, np.uint8)))
    paths = sorted(map(str, tmp_path.iterdir()))
    decoders = {".raw": raw_gray, b"MINE": flipped}
    store = arraystore.build(paths, size=(2, 4), bad="keep", progress=False, decoders=decoders, **options)
    assert store.status.tolist() == [1, 2, 1, 1]
    assert store.bad()[0].reason == "the decoder of '.raw' failed: ValueError: no pixels"
    assert store.images[0, 1].ravel().tolist() == list(range(8))
    assert set(store.images[2].ravel().tolist()) == {0x37}
    assert store.samples["height"].to_pylist() == [2, 0, 3, 2]
    plain = arraystore.build(paths[:1] + paths[3:], size=(2, 4), bad="keep", progress=False)
    assert plain.bad()[0].reason.startswith("not an image in a known format")


def test_a_decoder_that_gives_no_image_is_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "arraystore")
    good = images.png(images.photo(9, 9))
    wide = {b"WIDE": lambda _: np.zeros((4, 4, 7), np.uint8), b"NONE": lambda _: [[1, [2]]]}
    store = arraystore.build([good, b"WIDE", b"NONE"], size=4, bad="keep", progress=False, decoders=wide)
    assert "not uint8 of shape (4, 4, 7)" in store.bad()[0].reason
    assert [bad.slot for bad in store.bad()] == [1, 2]
    assert store.bad()[1].reason.startswith("the decoder of b'NONE' failed: ValueError: ")


@pytest.mark.parametrize(
    ("decoders", "message"),
    [
        ([raw_gray], "decoders must be a mapping such as {'.dcm': function}, not a list"),
        ({7: raw_gray}, "a key of decoders is a suffix such as '.dcm', or a file's first bytes, not 7"),
        ({".": raw_gray}, "a key of decoders is a suffix such as '.dcm', or a file's first bytes, not '.'"),
        ({".raw": 3}, "decoders['.raw'] must be a function of a file's bytes, not a int"),
    ],
)
def test_what_is_no_decoder_is_refused(decoders: Any, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        arraystore.build([images.png(images.photo(9, 9))], size=4, decoders=decoders)
    assert str(caught.value) == message
