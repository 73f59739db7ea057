"""What is shown of an encoded store: the bytes that it keeps, and its decoded slots."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from support.store_contract import build

from arraystore._common.wording import readable
from arraystore._viewing.describe import describe, fact_rows
from arraystore._viewing.preview import draw_preview


def test_the_bytes_of_jpegs_are_told(photos: Path, tmp_path: Path) -> None:
    with build(photos, tmp_path / "x.store", size=32, encode="jpeg") as store:
        facts = describe(store, tmp_path / "x.store")
        kept = sum(store.encoded(slot).nbytes for slot in range(len(store)))
    assert (facts["medium"], facts["image_bytes"], facts["shape"]) == ("encoded", kept, [19, 3, 32, 32])
    assert dict(fact_rows(facts))["size"].startswith(f"{readable(kept)} of JPEGs, ")
    assert dict(fact_rows(facts))["encoded"] == "JPEG, quality 90, subsampling 420, restart 2"


def test_decoded_slots_are_drawn(photos: Path, tmp_path: Path) -> None:
    drawn = []
    for name, encode in (("raw", None), ("encoded", "jpeg")):
        with build(photos, tmp_path / name, size=64, encode=encode) as store:
            draw_preview(store, tmp_path / f"{name}.png", count=6)
        drawn.append(np.asarray(cv2.imread(str(tmp_path / f"{name}.png")), np.float64))
    assert drawn[0].shape == drawn[1].shape
    difference = np.abs(drawn[0] - drawn[1])
    assert 0 < difference.mean() < 8
