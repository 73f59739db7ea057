"""Lazy sequences: any pipeline is the list that a comprehension makes, computed one item at a time."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from support import images
from support.lazy_functions import doubled, drawn, ends_early, refuse_three

import arraystore
from arraystore import Lazy, LazyError, SpecError, Store, lazy
from arraystore.errors import Kind

HERE = Path(__file__).name


def wrapped(item: Any) -> Any:
    return ("m", item)


def tripled(item: Any) -> Any:
    return [item, (item,), "end"]


def joined(*parts: Any) -> Any:
    return parts[::-1]


# --- the property ----------------------------------------------------------------------------------------------------


def zipped(draw: Any, seq: Lazy, model: list[Any]) -> tuple[Lazy, list[Any]]:
    other = range(len(model))
    if draw(st.booleans()):
        return seq.zip(other, seq), list(zip(model, other, model, strict=True))
    return seq.zip(list(other)).starmap(joined), [joined(*pair) for pair in zip(model, other, strict=True)]


def batched(draw: Any, seq: Lazy, model: list[Any]) -> tuple[Lazy, list[Any]]:
    size, drop_last = draw(st.integers(1, 5)), draw(st.booleans())
    stop = len(model) - len(model) % size if drop_last else len(model)
    made = [model[start : start + size] for start in range(0, stop, size)]
    return seq.batch(size, drop_last=drop_last, collate=list), made


def flat(_draw: Any, seq: Lazy, model: list[Any]) -> tuple[Lazy, list[Any]]:
    return seq.map(tripled).flatten(3), [part for item in model for part in tripled(item)]


def sliced(draw: Any, seq: Lazy, model: list[Any]) -> tuple[Lazy, list[Any]]:
    chosen = draw(st.slices(len(model)))
    return seq[chosen], model[chosen]


def listed(draw: Any, seq: Lazy, model: list[Any]) -> tuple[Lazy, list[Any]]:
    numbers = draw(st.lists(st.integers(-len(model), len(model) - 1), max_size=9)) if model else []
    kind = draw(st.sampled_from([list, tuple, np.array]))
    return seq[kind(numbers)], [model[number] for number in numbers]


def masked(draw: Any, seq: Lazy, model: list[Any]) -> tuple[Lazy, list[Any]]:
    mask = draw(st.lists(st.booleans(), min_size=len(model), max_size=len(model)))
    chosen = mask if draw(st.booleans()) and model else np.array(mask, bool)
    return seq[chosen], [item for item, wanted in zip(model, mask, strict=True) if wanted]


def appended(draw: Any, seq: Lazy, model: list[Any]) -> tuple[Lazy, list[Any]]:
    before = draw(st.lists(st.integers(), max_size=3))
    return arraystore.concatenate([before, seq, seq]), [*before, *model, *model]


STEPS: list[Callable[..., tuple[Lazy, list[Any]]]] = [
    lambda _, seq, model: (seq.map(wrapped), [wrapped(item) for item in model]),
    lambda _, seq, model: (seq.memo(3), model),
    lambda _, seq, model: (seq.memo("1 kB"), model),
    *(zipped, batched, flat, sliced, listed, masked, appended),
]


@given(st.data(), st.lists(st.integers(0, 9), max_size=12), st.lists(st.sampled_from(STEPS), max_size=6))
def test_any_pipeline_is_the_list_that_a_comprehension_makes(
    data: st.DataObject, model: list[Any], steps: list[Callable[..., tuple[Lazy, list[Any]]]]
) -> None:
    seq = lazy(model)
    for step in steps:
        if len(model) < 500:
            seq, model = step(data.draw, seq, model)
    assert len(seq) == len(model)
    assert list(seq) == model
    for number in data.draw(st.lists(st.integers(-len(model), len(model) - 1), max_size=9)) if model else []:
        assert seq[number] == model[number]
    again = pickle.loads(pickle.dumps(seq))
    assert list(again) == model
    assert list(copy.deepcopy(seq)) == model
    if data.draw(st.booleans()):
        workers, buffer = data.draw(st.integers(1, 3)), data.draw(st.sampled_from([None, 1, 7]))
        assert list(seq.prefetch(workers, buffer=buffer)) == model


# --- nothing is computed before it is read ---------------------------------------------------------------------------


class Counted:
    """A sequence that counts what it was asked for."""

    def __init__(self, count: int = 10) -> None:
        self.count = count
        self.asked: list[int] = []

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, item: int) -> int:
        self.asked.append(item)
        return item


def test_an_item_computes_only_what_it_is_made_of() -> None:
    root = Counted()
    seq = lazy(root)[::-1].map(doubled).zip(range(10)).batch(2, collate=list)[1:].memo(2)
    flattened = arraystore.concatenate([lazy(root).map(tripled).flatten(3), seq])
    assert (len(flattened), repr(seq), root.asked) == (34, repr(seq), [])
    seq.describe()
    assert root.asked == []
    assert seq[-1] == [(2, 8), (0, 9)]
    assert root.asked == [1, 0]
    assert flattened[5] == "end"
    assert root.asked == [1, 0, 1]
    assert seq[-1] is seq[3]
    assert root.asked == [1, 0, 1]


def test_parts_in_a_row_are_computed_once_and_given_once() -> None:
    root = Counted(3)
    seq = lazy(root).map(lambda item: [np.array([item]), np.array([item])]).flatten(2)
    for part in seq:
        part[:] = 5  # whoever changes a part changes no later one
    assert root.asked == [0, 1, 2]
    assert [int(part[0]) for part in seq] == [0, 0, 1, 1, 2, 2]
    seq[5][:] = 7
    assert int(seq[5][0]) == 2


@pytest.mark.parametrize("chosen", [10, -11, [0, 10], [-11], np.array([3, 10]), [True] * 9])
def test_items_that_do_not_exist(chosen: Any) -> None:
    with pytest.raises(IndexError, match=r"of 10|for 10 items"):
        lazy(range(10))[chosen]


@pytest.mark.parametrize("chosen", ["a", 1.5, [0.5], None, (slice(2), 3), {"a": 1}, [[1], [2]]])
def test_what_chooses_no_items(chosen: Any) -> None:
    with pytest.raises(TypeError, match=r"^items are chosen by a number, a slice, a mask or a list of numbers, not by"):
        lazy(range(10))[chosen]


@pytest.mark.parametrize("source", ["photos/", b"x", {"a": 1}, {1, 2}, iter([1]), 3, None])
def test_what_is_no_sequence(source: Any) -> None:
    with pytest.raises(SpecError, match="is no sequence of items: pass a list"):
        lazy(source)
    with pytest.raises(SpecError, match="is no sequence of items"):
        lazy([1]).zip(source)


def test_columns_of_pandas_are_read_by_position() -> None:
    column = pd.Series(["x", "y", "z"], index=[2, 0, 1])
    assert list(lazy(column)) == ["x", "y", "z"]
    assert list(lazy(column[column != "y"]).zip([1, 2])) == [("x", 1), ("z", 2)]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda seq: seq.map("f"), "a step needs a function, not a str: pass one of an item"),
        (lambda seq: seq.map(doubled, seed=-1), "seed must be a whole number from 0 to "),
        (lambda seq: seq.zip([1, 2], [3]), "only sequences of one length can be zipped; these have 4, 2, 1 items"),
        (lambda seq: seq.batch(0), "size must be a whole number of 1 or more, not 0"),
        (lambda seq: seq.batch(2, collate=3), "a step needs a function, not an int"),
        (lambda seq: seq.flatten(2.0), "parts must be a whole number of 1 or more, not 2.0"),
        (lambda seq: seq.memo(0), "budget must be a whole number of 1 or more, not 0"),
        (lambda seq: seq.memo("2 GX"), "a size in bytes must be a number, or a text such as "),
        (lambda seq: seq.time(0), "items must be a whole number of 1 or more, not 0"),
        (lambda seq: seq.prefetch(0), "workers must be a whole number of 1 or more, not 0"),
        (lambda seq: seq.prefetch(buffer=0), "buffer must be a whole number of 1 or more, not 0"),
        (lambda seq: seq.prefetch(timeout_s=3), "timeout_s has no meaning for threads, because a thread cannot be"),
        (lambda seq: seq.prefetch(processes=True, timeout_s=0), "timeout_s must be a number of seconds above 0"),
    ],
)
def test_options_that_make_no_sense(call: Callable[[Lazy], Any], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        call(lazy(range(4)))
    assert str(caught.value).startswith(message)


# --- batches ---------------------------------------------------------------------------------------------------------


def test_batches_stack_arrays_and_numbers() -> None:
    seq = lazy([(np.full((2, 3), i, np.uint8), i, {"name": f"n{i}", "x": i / 2}) for i in range(5)])
    (pixels, numbers, rest), (last, *_) = seq.batch(3)
    np.testing.assert_array_equal(pixels, np.stack([np.full((2, 3), i, np.uint8) for i in range(3)]))
    assert (pixels.dtype, numbers.tolist(), rest["name"], rest["x"].tolist()) == (
        "uint8",
        [0, 1, 2],
        ["n0", "n1", "n2"],
        [0, 0.5, 1],
    )
    assert last.shape == (2, 2, 3)
    assert [len(pixels) for pixels, *_ in seq.batch(3, drop_last=True)] == [3]


@pytest.mark.parametrize(
    ("items", "why"),
    [
        ([np.zeros(2), np.zeros(3)], "ValueError: all input arrays must have the same shape"),
        ([np.zeros(2), np.zeros(2, np.uint8)], "ValueError: arrays of different types are not stacked: convert them"),
        ([(1, 2), (1,)], "ValueError: zip() argument 2 is shorter than argument 1"),
        ([{"a": 1}, {"b": 1}], "ValueError: the items have different names"),
    ],
)
def test_what_cannot_be_stacked(items: list[Any], why: str) -> None:
    with pytest.raises(LazyError) as caught:
        lazy(items).batch(2)[0]
    assert why in str(caught.value)


# --- errors ----------------------------------------------------------------------------------------------------------


def test_an_error_says_item_step_place_and_source() -> None:
    def normalize(_: Any) -> None:
        raise ValueError("no\npixels")

    seq = lazy(["cats/a.jpg", "dogs/broken.jpg"]).map(doubled).map(normalize)  # the line that it says
    line = normalize.__code__.co_firstlineno + 3
    with pytest.raises(LazyError) as caught:
        seq.memo(4).zip([1, 2]).batch(1)[[1]][0]
    error = caught.value
    place = error.place or ""
    assert place.endswith(f"test_steps.py:{line}")
    assert str(error) == rf"item 1 of .map(normalize) at {place} ← dogs/broken.jpg: ValueError: no\npixels"
    assert (error.item, error.step, error.source, error.slot) == (1, ".map(normalize)", "dogs/broken.jpg", None)
    assert error.reason == r"ValueError: no\npixels"
    assert isinstance(error.__cause__, ValueError)
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.item, again.place) == (str(error), 1, place)


def test_the_source_is_found_through_every_step() -> None:
    names = [f"{i}.png" for i in range(12)]
    seq = arraystore.concatenate([lazy(names[:5])[::-1], lazy(names)[[11, 10]].map(tripled).flatten(3)])
    sources = []
    for number in range(len(seq)):
        with pytest.raises(LazyError) as caught:
            seq.map(lambda _: 1 / 0)[number]
        sources.append(caught.value.source)
    assert sources == ["4.png", "3.png", "2.png", "1.png", "0.png", *["11.png"] * 3, *["10.png"] * 3]


def test_errors_of_the_sequence_and_of_parts() -> None:
    class Broken(Counted):
        def __getitem__(self, item: int) -> int:
            raise OSError("gone")

    with pytest.raises(LazyError, match=r"^item 2 of lazy\(Broken\) at .*: OSError: gone$"):
        lazy(Broken()).map(doubled)[2]
    with pytest.raises(LazyError, match=r"item 5 of \.flatten\(2\) at .*the item before it has 3 parts, not 2$"):
        lazy([1, 2, 3]).map(tripled).flatten(2)[5]
    with pytest.raises(LazyError, match=r"TypeError: 'int' object is not iterable"):
        lazy([1]).flatten(1)[0]


def test_a_function_that_stops_iteration_ends_no_loop() -> None:
    with pytest.raises(LazyError, match="StopIteration"):
        list(lazy(range(3)).map(ends_early))


def test_an_error_of_this_package_keeps_its_kind() -> None:
    def fail(_: int) -> None:
        raise arraystore.DecodeError("cut off", kind=Kind.ENDS_EARLY)

    with pytest.raises(LazyError) as caught:
        lazy([1]).map(fail)[0]
    assert caught.value.kind is Kind.ENDS_EARLY


# --- random numbers --------------------------------------------------------------------------------------------------


def test_random_numbers_depend_on_seed_item_and_step_alone() -> None:
    seq = lazy([0] * 50).map(drawn)
    once = list(seq)
    assert len(set(once)) == 50
    assert [seq[i] for i in range(49, -1, -1)] == once[::-1]
    assert list(pickle.loads(pickle.dumps(seq.memo(5)))) == once
    assert list(seq[10:]) == once[10:]
    assert not set(lazy([0] * 50).map(drawn, seed=1)) & set(once)
    twice = lazy([0] * 50).map(doubled).map(drawn).memo(3).map(drawn)
    assert not {b - a for a, b in zip(once, twice, strict=True)} & set(once)  # two steps draw different numbers
    assert (
        list(seq.zip(lazy([0] * 50).map(drawn)).starmap(lambda a, b: a - b)) == [0] * 50
    )  # an image and its mask do not


def test_random_numbers_are_the_same_in_every_version() -> None:
    assert lazy([0] * 3).map(drawn, seed=7)[2] == 0.29232337171737466


def test_only_functions_that_take_a_generator_get_one() -> None:
    def default(_: int, *, rng: Any = None) -> Any:
        return rng is not None

    given_already: Callable[..., Any] = partial(default, rng="mine")
    assert list(lazy([1]).map(default)) == [True]
    assert list(lazy([1]).map(partial(default))) == [True]
    assert list(lazy([1]).map(given_already)) == [True]
    assert list(lazy([(1,)]).starmap(default)) == [True]
    assert list(lazy(["3"]).map(int)) == [3]
    assert list(lazy([[2, 1]]).map(dict.fromkeys)) == [{2: None, 1: None}]


# --- what is shown ---------------------------------------------------------------------------------------------------


def test_describe_prints_a_line_for_each_step(capsys: pytest.CaptureFixture[str]) -> None:
    seq = lazy([3, 4]).map(doubled).zip(["ab"] * 2).memo("2 GB")
    seq.describe()
    lines = capsys.readouterr().out.splitlines()
    shown = [line.split("  ")[0] for line in lines]
    assert shown == ["lazy(list)", ".map(doubled)", "lazy(list)", ".zip of 2", ".memo('2 GB')"]
    assert all("  2 items  " in line and f"{HERE}:" in line for line in lines)
    assert repr(seq) == "<arraystore.Lazy of 2 items: lazy(list).map(doubled).zip of 2.memo('2 GB')>"


def test_time_says_what_each_step_costs(capsys: pytest.CaptureFixture[str]) -> None:
    root = Counted(20)
    kept = lazy(root).map(doubled).memo(20)
    seq = kept.zip(kept).map(drawn_pair).flatten(2)
    seq.time(10)
    assert sorted(root.asked) == list(range(0, 20, 2))  # spread evenly, and a memo keeps what two steps read
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    calls = {line[0]: line[3] for line in lines[1:-1] if line[0] != ".zip"}
    assert calls == {
        "lazy(Counted)": "10",
        ".map(doubled)": "10",
        ".memo(20)": "20",
        ".map(drawn_pair)": "10",
        ".flatten(2)": "10",
    }
    assert lines[-1][:4] == ["all", "of", "10", "items"]
    assert seq[0] == 0
    assert root.asked[10:] == [0]  # the memo of the sequence itself was not filled


def drawn_pair(pair: tuple[int, int]) -> tuple[int, int]:
    return pair


# --- slots of stores -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("lazy")
    for i in range(6):
        Image.fromarray(images.noise(8, 8, seed=i)).save(folder / f"{i}.png")
    return arraystore.build(
        sorted(folder.glob("*.png")), folder / "x.store", size=8, targets={"score": np.arange(6.0)}, progress=False
    )


def test_slots_have_the_same_methods(store: Store) -> None:
    both = store.map(np.mean).zip(store.target("score"))
    assert list(both) == [(store.images[i].mean(), i) for i in range(6)]
    assert [batch.shape for batch in store[1:].batch(2)] == [(2, 3, 8, 8), (2, 3, 8, 8), (1, 3, 8, 8)]
    assert len(arraystore.concatenate([store, both[:2]])) == 8
    assert isinstance(arraystore.concatenate([store, store[:2]]), arraystore.Slots)
    np.testing.assert_array_equal(list(store.prefetch(2, order=[5, 0])), store.images[[5, 0]])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(store[::-1].memo(3)))[0], store.images[5])
    labeled = arraystore.build([images.noise(4, 4)] * 2, size=4, labels=[5, 6], progress=False)
    assert list(labeled.starmap(lambda image, label: (image.shape, int(label)))) == [((3, 4, 4), 5), ((3, 4, 4), 6)]


def test_an_error_says_slot_and_source(store: Store) -> None:
    with pytest.raises(LazyError) as caught:
        store[::-1].map(lambda _: 1 / 0)[1]
    error = caught.value
    assert (error.item, error.slot, Path(error.source or "").name) == (1, 1, "4.png")
    made = arraystore.open(store.path)
    seq = made.map(np.mean)
    made.close()
    assert seq[2] == store.images[2].mean()  # slots stay readable
    with pytest.raises(arraystore.StoreError, match="the store was closed"):
        made.map(np.mean)


def test_refused_items_in_a_loop_end_it_there() -> None:
    seq = lazy(range(6)).map(refuse_three)
    items = iter(seq)
    assert [next(items) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(LazyError, match="no three"):
        next(items)
