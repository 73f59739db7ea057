"""The names of exported images: like those of the sources, safe, and different everywhere."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from arraystore._exporting.stems import Stems, safe_stem


@pytest.mark.parametrize(
    ("source", "stem"),
    [
        ("a/b/photo.jpg", "photo"),
        ("photo.v2.JPEG", "photo.v2"),
        ("photo.v2", "photo.v2"),
        ("no suffix", "no suffix"),
        ("x.zip/inner/1.png", "1"),
        ("c:\\photos\\1.png", "1"),
        ("../../../etc/passwd", "passwd"),
        ("a/..", "image"),
        ("..", "image"),
        ("", "image"),
        (".jpg", "image"),
        (".hidden.jpg", "hidden"),
        ("__x__.jpg", "x__"),
        ("line\nbreak\0.jpg", "line_break_"),
        ('a:b*c?"<>|.jpg', "a_b_c_____"),
        ("caf\udce9.jpg", "caf_"),
        ("array 12", "array 12"),
        ("größe 日本.png", "größe 日本"),
        ("x" * 300 + ".jpg", "x" * 150),
        ("日" * 100, "日" * 50),
        ("trailing. .jpg", "trailing"),
    ],
)
def test_a_stem_is_what_a_file_may_be_called(source: str, stem: str) -> None:
    assert safe_stem(source) == stem


def test_keys_have_no_dots() -> None:
    assert safe_stem("photo.v2.jpg", dotless=True) == "photo_v2"
    assert safe_stem(".a.b", dotless=True) == "_a_b"
    assert safe_stem("..a", dotless=True) == "a"


def stems(sources: list[str], folders: list[str] | None = None, *, dotless: bool = False) -> list[str]:
    slots = np.arange(len(sources))
    found = Stems(
        slots,
        lambda chosen: [sources[slot] for slot in chosen],
        lambda chosen: [folders[slot] if folders else "" for slot in chosen],
        dotless=dotless,
    )
    return found.of(slots)


def test_equal_stems_get_the_numbers_of_their_slots() -> None:
    assert stems(["a/1.jpg", "b/2.jpg", "b/1.png"]) == ["1_0", "2", "1_2"]
    assert stems(["a/1.jpg", "b/2.jpg", "b/1.png"], ["a", "b", "b"]) == ["1", "2", "1"]
    assert stems(["Größe.jpg", "grösse.jpg"]) == ["Größe_0", "grösse_1"]
    assert stems(["é.jpg", unicodedata.normalize("NFD", "é.jpg")])[0] == "é_0"
    assert stems(["a.b", "a_b"], dotless=True) == ["a_b_0", "a_b_1"]


def test_a_stem_with_a_number_may_be_that_of_another_source() -> None:
    found = stems(["a", "a", "a_1", "a_2_2"])
    assert found == ["a_0", "a_1_1", "a_1_2", "a_2_2"]


@given(
    st.lists(st.sampled_from(["a", "A", "a_0", "a_1", "a_1_1", "a_0_0", "a_2", "b", ".", "é", "e\u0301"]), max_size=12)
)
def test_all_stems_differ_whatever_the_sources(sources: list[str]) -> None:
    found = stems(sources)
    assert len({unicodedata.normalize("NFC", stem).casefold() for stem in found}) == len(sources)


@given(st.text(max_size=80))
@example("__.x")
@example("__ .__x")
def test_no_stem_leads_out_of_its_folder(source: str) -> None:
    for dotless in (False, True):
        stem = safe_stem(source, dotless=dotless)
        assert stem
        assert stem.isprintable()
        assert not stem.startswith((".", "__"))
        assert len(stem.encode()) <= 150
        assert Path("/x", stem).parent == Path("/x")
        assert not dotless or "." not in stem


def test_many_equal_stems_take_more_than_one_block() -> None:
    count = 9000
    found = stems(["same.jpg"] * count + ["other.jpg"])
    assert found == [*(f"same_{slot}" for slot in range(count)), "other"]
