"""The control file: what it may change, when that holds, and what is refused."""

from __future__ import annotations

import functools
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from support.lazy_functions import noisy

import arraystore
from arraystore import Frame, Loader, SpecError, Store
from arraystore._frames.identity import identity_of
from arraystore._frames.schedule import Schedule, Span

if TYPE_CHECKING:
    from support.nursery import Nursery


@pytest.fixture(scope="module")
def store() -> Store:
    images = np.random.default_rng(4).integers(20, 230, (12, 8, 8, 3), np.uint8)
    return arraystore.build(list(images), size=8, labels=["cat"] * 4 + ["dog"] * 8, progress=False)


def begun(store: Store, path: Path, **options: Any) -> Loader[Any]:
    frame = Frame(epochs=2, per_class=6)
    return store.loader(4, seed=5, transform=noisy, frame=frame, control=path, **options)


def epochs(loader: Loader[Any], count: int) -> list[tuple[int, int]]:
    """For each epoch its number of samples and the sum of their pixels."""
    found = []
    for _ in range(count):
        images = np.concatenate([np.array(images) for images, _ in loader])
        found.append((len(images), int(images.astype(np.int64).sum())))
    return found


def journal(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.with_suffix(".log.jsonl").read_text().splitlines()]


def test_changes_hold_from_the_next_frame_on_and_can_be_replayed(store: Store, tmp_path: Path) -> None:
    control = tmp_path / "control.json"
    loader = begun(store, control)
    found = epochs(loader, 2)
    control.write_text(json.dumps({"noise": 9, "per_class": 8, "epochs": 3}))
    found += epochs(loader, 2)  # read at the end of the first of these
    assert [count for count, _ in found] == [12] * 4
    assert len(loader) == 4
    found += epochs(loader, 4)
    assert [count for count, _ in found[4:]] == [16] * 4
    assert len({total for _, total in found[4:7]}) == 1
    assert found[7][1] != found[6][1], "the frame with three epochs is over"
    assert journal(control)[0]["changes"] == {"noise": 9, "per_class": 8, "epochs": 3}
    assert len(journal(control)) == 1
    state = json.loads(json.dumps(loader.state_dict()))
    again = store.loader(4, seed=5, transform=noisy, frame=Frame(epochs=2, per_class=6))
    again.load_state_dict(state | {"epoch": 0, "position": 0})
    assert epochs(again, 8) == found


def test_a_state_is_of_a_time_when_the_file_had_been_read(store: Store, tmp_path: Path) -> None:
    control = tmp_path / "control.json"
    loader = begun(store, control)
    epochs(loader, 2)
    batches = iter(loader)
    next(batches)
    state, rest = loader.state_dict(), [np.array(images) for images, _ in batches]
    control.write_text('{"per_class": 3}')
    again = begun(store, control)
    again.load_state_dict(state)
    np.testing.assert_array_equal(np.concatenate([images for images, _ in again]), np.concatenate(rest))


def test_what_is_wrong_is_told_once_and_not_applied(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    control = tmp_path / "control.json"
    loader = begun(store, control)
    plain = epochs(store.loader(4, seed=5, transform=noisy, frame=Frame(epochs=2, per_class=6)), 6)
    wrong = {"noise": 1.5, "epochs": 0, "per_class": "many", "speed": 1, "stop": "yes"}
    control.write_text(json.dumps(wrong))
    with caplog.at_level(logging.WARNING, "arraystore"):
        found = epochs(loader, 3)
        for text in ("{", "[]", "x" * 70_000):
            control.write_text(text)
            found += epochs(loader, 1)
    assert found == plain
    assert not loader.stopped
    first, *rest = journal(control)
    assert set(first["refused"]) == set(wrong)
    assert first["refused"]["speed"] == "is not one of stop, epochs, per_class, noise"
    assert [next(iter(entry["refused"].values())).split()[0] for entry in rest] == ["is", "must", "is"]
    assert "control.json: noise must be a whole number, not 1.5; this was not applied" in caplog.text


def test_frames_that_would_be_too_large_are_refused(store: Store, tmp_path: Path) -> None:
    control = tmp_path / "control.json"
    control.write_text('{"per_class": 50}')
    loader = store.loader(4, transform=noisy, frame=Frame(epochs=1, per_class=6, keep="10 kB"), control=control)
    assert {count for count, _ in epochs(loader, 3)} == {12}
    refused = journal(control)[0]["refused"]["per_class"]
    assert refused == "is too much: two frames of 100 samples take 38.4 kB, and keep allows 10 kB"


def test_a_training_is_asked_to_stop(store: Store, tmp_path: Path) -> None:
    control = tmp_path / "control.json"
    loader = begun(store, control)
    epochs(loader, 1)
    control.write_text('{"stop": true}')
    assert not loader.stopped
    for number, _ in enumerate(loader):  # it is read also where a loop is left early
        if number:
            break
    epochs(loader, 1)
    assert loader.stopped


def test_the_number_of_samples_stays_where_the_framework_has_counted_it(store: Store, tmp_path: Path) -> None:
    control = tmp_path / "control.json"
    control.write_text('{"per_class": 9}')
    loader = begun(store, control)
    loader.keep_count("Keras counts the batches of an epoch once")
    assert {count for count, _ in epochs(loader, 4)} == {12}
    assert "Keras counts" in journal(control)[0]["refused"]["per_class"]


def test_several_ranks_need_a_way_to_agree(store: Store, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"control with 2 ranks needs torch\.distributed"):
        begun(store, tmp_path / "control.json", rank=0, world_size=2)


def train(rank: int, folder: Path) -> tuple[list[int], Any]:
    """One of two ranks, of which only rank 0 reads the control file."""
    import torch.distributed as dist

    dist.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=2)
    store = arraystore.open(folder / "base.store")
    control = folder / "control.json" if rank == 0 else folder / "nothing.json"
    loader = begun(store, control)
    counts = [count for count, _ in epochs(loader, 4)]
    dist.barrier()
    dist.destroy_process_group()
    return counts, loader.state_dict()["frames"]


def test_all_ranks_take_what_rank_0_reads(store: Store, tmp_path: Path, torch_nursery: Nursery) -> None:
    arraystore.build(store, tmp_path / "base.store", progress=False)
    (tmp_path / "control.json").write_text('{"per_class": 9}')
    ranks = [torch_nursery.start(train, rank, tmp_path) for rank in range(2)]
    assert [rank.result() for rank in ranks] == [([6, 6, 9, 9], [[0, {"per_class": 9}]])] * 2


def test_a_schedule_plans_what_begins_after_a_change_anew() -> None:
    schedule = Schedule(Span(0, 0, 2, 5, 0, {"noise": 1.0}))
    assert (schedule.at(5).number, schedule.at(5).before) == (2, 10)
    schedule.change(2, {"epochs": 4, "noise": 2.0})
    assert schedule.at(3) == Span(1, 2, 2, 5, 5, {"noise": 1.0})
    assert schedule.at(4) == schedule.at(7) == Span(2, 4, 4, 5, 10, {"noise": 2.0})
    schedule.change(5, {"per_class": 7})
    assert schedule.at(8) == Span(3, 8, 4, 7, 15, {"noise": 2.0})
    assert schedule.settings() == {"epochs": 4, "per_class": 7, "noise": 2.0}


def test_the_identity_of_a_transform_changes_with_it() -> None:
    def made(level: Any) -> Any:
        return lambda image: image + level

    class Plain:
        def __init__(self, limit: Any) -> None:
            self.limit = limit

        def __call__(self, image: Any) -> Any:
            return image + self.limit

    class Told(Plain):
        def __repr__(self) -> str:
            return f"Told({self.limit})"

    table = np.arange(5000)
    other = table.copy()
    other[2500] = 0
    for make in (made, Plain, Told, lambda value: functools.partial(noisy, noise=value)):
        assert identity_of(make(1)) == identity_of(make(1)) != identity_of(make(2))
    for make in (made, Plain, lambda value: functools.partial(noisy, noise=value)):
        assert identity_of(make(table)) == identity_of(make(table.copy())) != identity_of(make(other))
        assert identity_of(make([Plain(1)])) == identity_of(make([Plain(1)])) != identity_of(make([Plain(2)]))
        assert identity_of(make({"a": 1, "b": 2})) == identity_of(make({"b": 2, "a": 1}))
    assert len({identity_of(each) for each in (None, noisy, made, made(1), Plain(1), Told(1))}) == 6
    looped = Plain(1)
    looped.limit = looped
    assert identity_of(looped)
