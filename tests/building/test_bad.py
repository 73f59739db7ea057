"""What a build does about sources that cannot be stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import images
from support.store_contract import build, count_decodes

import arraystore
from arraystore import BadImagesError, Progress, SpecError
from arraystore._building.bad import too_many


@given(st.integers(0, 300), st.integers(1, 300), st.integers(0, 300))
def test_a_number_is_the_most_that_may_be_bad(bad: int, done: int, limit: int) -> None:
    assert too_many(limit, Progress(total=300, done=done, bad=bad)) == (bad > limit)


@given(st.integers(0, 500), st.integers(1, 500), st.floats(0, 1))
def test_a_share_counts_from_the_hundredth_image(bad: int, done: int, share: float) -> None:
    assert too_many(share, Progress(total=500, done=done, bad=bad)) == (bad > share * max(done, 100))
    assert too_many(share, Progress(total=7, done=7, bad=bad)) == (bad > share * 7)


def test_no_limit() -> None:
    assert not too_many(None, Progress(total=5, done=5, bad=5))


@pytest.mark.parametrize("limit", [-1, -0.5, 1.5, float("nan")])
def test_a_limit_that_cannot_be(tmp_path: Path, limit: float) -> None:
    with pytest.raises(SpecError) as caught:
        build([b"x"], tmp_path / "x", max_bad=limit)
    assert str(caught.value) == (
        f"max_bad must be a number of images, or a fraction of them from 0.0 to 1.0, not {limit!r}"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("target", ["x", None])
def test_a_build_of_garbage_ends_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str | None) -> None:
    source: list[bytes] = [images.jpeg(images.photo(20, 20, seed=1)), *([b"garbage"] * 2000)]
    decoded = count_decodes(monkeypatch)
    place: Any = None if target is None else tmp_path / target
    with pytest.raises(BadImagesError) as caught:
        build(source, place, max_bad=20, bad="keep")
    error = caught.value
    assert 20 < len(error.bad) <= len(decoded) < 300
    assert error.total == 2001
    assert error.tried is not None
    assert len(error.bad) <= error.tried
    message = str(error)
    counts = f"{len(error.bad)} of the first {error.tried} images could not be stored"
    kept = " The good images are kept, and a larger max_bad goes on from there" if target else ""
    first, *lines = message.splitlines()
    assert first == f"{counts}: that is more than max_bad allows; is this the right source?{kept}"
    assert lines[0].startswith(f"  slot {error.bad[0].slot}  bytes ")
    assert lines[10:] == [f"  and {len(error.bad) - 10} more"]
    if target:
        before = len(decoded)
        store = build(source, place, max_bad=5000, bad="keep")
        assert len(decoded) <= 2001 + 300
        assert len(decoded) - before < 2001
        assert len(store.bad()) == 2000
        assert arraystore.open(place).status[0] == 1
