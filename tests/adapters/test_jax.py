"""The JAX loader: in processes of their own, with four devices that the CPU plays."""

from __future__ import annotations

import gc
import pickle
import re
import socket
import sys
import threading
import warnings
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
import pytest
from support import examples, images, kept
from support.apart import LIMIT_S, apart
from support.encoded_slots import pair
from support.lazy_functions import noisy
from support.slots import slots_of
from support.store_contract import assert_equal, build

from arraystore import Augment, Frame, MissingExtraError, Ragged, RandomResizedCrop, Slots, SpecError
from arraystore._common.lazy import framework
from arraystore._stores.slot_array import SlotArray
from arraystore.adapters.jax import Loader

DEVICES = {
    "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
    "JAX_PLATFORMS": "cpu",
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",  # to compile takes longer than to run here
}


def slots(n: int = 50, *, extra: bool = False) -> Slots:
    """Slots whose pixels and labels tell their number."""
    pixels = np.random.default_rng(0).integers(0, 256, (n, 3, 16, 16), np.uint8)
    targets = {"labels": np.arange(n), **({"scores": np.arange(n) / 7} if extra else {})}
    return slots_of([SlotArray(pixels, targets=targets)], layout="NCHW")


def readers() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("arraystore")]


def check_batches_are_those_of_the_loader() -> None:
    jax = framework("jax")

    source = slots(extra=True)
    for options in ({}, {"targets": ()}, {"targets": "scores"}, {"targets": ["labels", "scores"]}, {"last": "drop"}):
        loader = Loader(source, 8, seed=3, **options)
        plain = source.loader(8, seed=3, **options)
        assert len(loader) == len(plain)
        for _ in range(2):
            pairs = list(zip(loader, plain, strict=True))
            assert len(pairs) == len(plain)
            for batch, expected in pairs:
                assert jax.tree.structure(batch) == jax.tree.structure(expected)
                for array, values in zip(jax.tree.leaves(batch), jax.tree.leaves(expected), strict=True):
                    assert isinstance(array, jax.Array)
                    np.testing.assert_array_equal(array, values.astype(array.dtype))
                    assert array.dtype == {"int64": "int32", "float64": "float32"}.get(values.dtype.name, values.dtype)


def check_a_store_is_read_while_it_is_filled() -> None:
    source = [images.noise(9, 9, seed=seed) for seed in range(21)]
    built, store = (build(source, labels=np.arange(21), wait=wait) for wait in (True, False))
    for _ in range(2):
        for batch, expected in zip(Loader(store, 4, seed=3), built.loader(4, seed=3), strict=True):
            for array, values in zip(batch, expected, strict=True):
                np.testing.assert_array_equal(array, values)
    assert store.filled == 1.0
    store.finish()
    assert_equal(store, built)


def check_frames_are_read() -> None:
    options: dict[str, Any] = {"seed": 3, "transform": noisy, "frame": Frame(epochs=2)}
    loader, plain = Loader(slots(), 8, **options), slots().loader(8, **options)
    for _ in range(3):
        for batch, expected in zip(loader, plain, strict=True):
            for array, values in zip(batch, expected, strict=True):
                np.testing.assert_array_equal(array, values)


def check_ragged_targets_are_lists_that_no_sharding_divides() -> None:
    jax = framework("jax")

    boxes = Ragged.from_rows([[n] * (n % 4) for n in range(8)])
    pixels = np.zeros((8, 3, 4, 4), np.uint8)
    source = slots_of([SlotArray(pixels, targets={"labels": np.arange(8), "boxes": boxes})], layout="NCHW")
    for sharding in (None, jax.devices()[1], jax.sharding.SingleDeviceSharding(jax.devices()[2])):
        for batch in Loader(source, 4, targets=["labels", "boxes"], sharding=sharding):
            assert all(isinstance(row, jax.Array) for row in batch["boxes"])
            assert [row.tolist() for row in batch["boxes"]] == [[n] * (n % 4) for n in batch["labels"].tolist()]
    divided = jax.sharding.NamedSharding(jax.make_mesh((4,), ("x",)), jax.sharding.PartitionSpec("x"))
    message = "the target 'boxes' is ragged, .* and devices divide arrays of one shape among them: pass batch_transform"
    with pytest.raises(SpecError, match=message):
        Loader(source, 4, targets="boxes", sharding=divided, last="drop")
    padded = Loader(source, 4, targets="boxes", sharding=divided, last="drop", batch_transform=lambda batch: batch[0])
    assert len(list(padded)) == 2


def check_it_goes_on_where_it_was() -> None:
    loader = Loader(slots(), 8)
    whole = [np.asarray(labels).tolist() for _, labels in loader]
    again = Loader(slots(), 8)
    begun = iter(again)
    before = [np.asarray(next(begun)[1]).tolist() for _ in range(3)]
    state = again.state_dict()
    assert state["position"] == 24  # what lies ready behind it does not count
    resumed = pickle.loads(pickle.dumps(Loader(slots(), 8)))
    resumed.load_state_dict(state)
    assert before + [np.asarray(labels).tolist() for _, labels in resumed] == whole


def check_what_is_kept_does_not_change() -> None:
    jax = framework("jax")

    source, made = slots(64), []

    def allocate(size: int) -> Any:
        made.append(np.empty(size, np.uint8))
        return made[-1]

    for sharding in (None, divided(jax)):
        made.clear()
        loader = Loader(source, 8, sharding=sharding, last="drop", in_flight=3, allocate=allocate)
        kept = [batch for _ in range(3) for batch in loader]
        if sharding is None:
            blocks = [(block.ctypes.data, block.ctypes.data + block.nbytes) for block in made]
            at = kept[0][0].unsafe_buffer_pointer()
            assert any(begin <= at < end for begin, end in blocks), "JAX copies, and this test shows nothing"
        for _ in loader:
            pass
        for pixels, labels in kept:
            np.testing.assert_array_equal(pixels, source.take(np.asarray(labels)))
        part = [pixels[2:4] for pixels, _ in kept], [np.asarray(labels)[2:4] for _, labels in kept]
        del kept, pixels, labels
        for _ in loader:
            pass
        for pixels, numbers in zip(*part, strict=True):
            np.testing.assert_array_equal(pixels, source.take(numbers))


def check_a_loop_that_keeps_nothing_allocates_nothing() -> None:
    jax = framework("jax")

    made: list[int] = []

    def allocate(size: int) -> Any:
        made.append(size)
        return np.empty(size, np.uint8)

    loader = Loader(slots(64), 4, in_flight=3, allocate=allocate)
    total = jax.jit(lambda pixels: pixels.astype("float32").sum())
    for _ in range(2):
        for pixels, _ in loader:
            total(pixels).block_until_ready()
    first = len(made)
    for _ in range(10):
        for pixels, _ in loader:
            total(pixels).block_until_ready()
    assert len(made) - first <= 3, (first, len(made))  # JAX may let go of one a moment later


def check_a_donated_batch_harms_no_other() -> None:
    jax = framework("jax")

    source = slots(64)
    negate = jax.jit(lambda pixels: 255 - pixels, donate_argnums=0)
    negated = [(negate(pixels), labels) for _ in range(3) for pixels, labels in Loader(source, 8, in_flight=3)]
    for pixels, labels in negated:
        np.testing.assert_array_equal(pixels, 255 - source.take(np.asarray(labels)))


def divided(jax: Any, *names: str) -> Any:
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("batch",))
    return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*(names or ("batch",))))


def check_batches_are_divided_among_devices() -> None:
    jax = framework("jax")

    source = slots(extra=True)
    loader = Loader(source, 8, sharding=divided(jax), last="pad", targets=["labels", "scores"])
    plain = source.loader(8, last="pad", targets=["labels", "scores"])
    for batch, expected in zip(loader, plain, strict=True):
        for name, array in batch.items():
            assert array.shape == expected[name].shape
            assert [shard.data.shape[0] for shard in array.addressable_shards] == [2, 2, 2, 2]
            assert {shard.device for shard in array.addressable_shards} == set(jax.devices())
            np.testing.assert_array_equal(array, expected[name].astype(array.dtype))
    everywhere = jax.sharding.NamedSharding(divided(jax).mesh, jax.sharding.PartitionSpec())
    pixels, _ = next(iter(Loader(source, 7, sharding=everywhere, targets=None)))
    assert [shard.data.shape[0] for shard in pixels.addressable_shards] == [7, 7, 7, 7]


def check_batches_go_to_the_device_that_is_asked_for() -> None:
    jax = framework("jax")

    for sharding in (jax.devices()[2], jax.sharding.SingleDeviceSharding(jax.devices()[2])):
        assert {device for batch in Loader(slots(), 7, sharding=sharding) for device in batch[0].devices()} == {
            jax.devices()[2]
        }
    pixels, _ = next(iter(Loader(slots(), 7)))
    assert pixels.devices() == {jax.devices()[0]}


def check_bfloat16_comes_as_such() -> None:
    jax = framework("jax")

    source = slots()
    augment = Augment(dtype="bfloat16", layout="NHWC")
    for targets in (None, (), ["labels"]):
        batch = next(iter(Loader(source, 8, shuffle=False, augment=augment, targets=targets)))
        pixels = batch["images"] if isinstance(batch, dict) else batch[0] if isinstance(batch, tuple) else batch
        assert (pixels.dtype, pixels.shape) == (jax.numpy.bfloat16, (8, 16, 16, 3))
        expected = source.take(np.arange(8)).transpose(0, 2, 3, 1) / 255
        np.testing.assert_allclose(pixels.astype(np.float32), expected, atol=1 / 256)


def check_a_function_of_batches_has_them_before_jax() -> None:
    def halve(batch: Any) -> Any:
        assert isinstance(batch[0], np.ndarray)
        return {"half": batch[0] // 2, "labels": batch[1]}

    source = slots()
    for batch in Loader(source, 8, batch_transform=halve):
        np.testing.assert_array_equal(batch["half"], source.take(np.asarray(batch["labels"])) // 2)


def check_sizes_change_between_epochs() -> None:
    jax = framework("jax")

    augment = Augment(crop=RandomResizedCrop(sizes={0: 6, 1: 8}))
    for sharding in (None, divided(jax)):
        loader = Loader(slots(), {0: 8, 1: 4, 2: 12}, sharding=sharding, last="drop", augment=augment)
        for epoch, size, side in ((0, 8, 6), (1, 4, 8), (2, 12, 8)):
            assert (loader.epoch, loader.batch_size) == (epoch, size)
            length, batches = len(loader), list(loader)
            assert len(batches) == length == 50 // size
            assert {images.shape for images, _ in batches} == {(size, 3, side, side)}


def check_batch_sizes_of_later_epochs_are_divided_too() -> None:
    jax = framework("jax")

    message = "batch_size=6 cannot be divided among 4 devices of this process: choose a multiple of 4"
    with pytest.raises(SpecError) as caught:
        Loader(slots(), {0: 8, 5: 6}, sharding=divided(jax), last="drop")
    assert str(caught.value) == message
    loader = Loader(slots(), lambda epoch: 8 - 2 * epoch, sharding=divided(jax), last="drop")
    loader.set_epoch(1)
    with pytest.raises(SpecError) as caught:
        iter(loader)
    assert str(caught.value) == message


def check_what_cannot_be_is_refused() -> None:
    jax = framework("jax")

    with pytest.raises(SpecError) as caught:
        Loader(slots(), 6, sharding=divided(jax), last="drop")
    assert str(caught.value) == (
        "batch_size=6 cannot be divided among 4 devices of this process: choose a multiple of 4"
    )
    with pytest.raises(SpecError) as caught:
        Loader(slots(), 8, sharding=divided(jax))
    assert str(caught.value) == (
        "last='keep' makes a last batch of any size, which 4 devices cannot divide among them: pass last='drop' or "
        "last='pad'"
    )


def check_a_process_ends_with_an_iteration_open() -> None:
    """Whether it does is seen when the process is closed."""
    still_open.append(iter(Loader(slots(), 4, in_flight=2)))  # few, so that its threads are not done yet
    next(still_open[0])
    assert readers() != []


still_open: list[Any] = []


def check_no_thread_is_left() -> None:
    still_open.clear()
    for number, _ in enumerate(Loader(slots(), 4)):
        if number == 2:
            break

    def fail(_batch: Any) -> Any:
        raise ZeroDivisionError("on purpose")

    with pytest.raises(ZeroDivisionError) as caught:
        next(iter(Loader(slots(), 4, batch_transform=fail)))
    assert re.fullmatch(r"while batch \d+ of epoch 0 was made", *caught.value.__notes__)  # whichever fails first
    del caught
    gc.collect()
    assert readers() == []


def check_encoded_slots_have_the_pixels_of_raw_ones() -> None:
    jax = framework("jax")
    encoded, raw = pair("NCHW")
    options: dict[str, Any]
    for options in ({}, {"seed": 2, "augment": Augment(crop=RandomResizedCrop(20), hflip=0.5)}):
        for batch, expected in zip(Loader(encoded, 8, **options), raw.loader(8, **options), strict=True):
            for array, values in zip(jax.tree.leaves(batch), expected, strict=True):
                np.testing.assert_array_equal(array, values)


def check_slots_that_differ_in_shape() -> None:
    options: dict[str, Any] = {"seed": 2, "augment": Augment(crop=RandomResizedCrop(20), hflip=0.5)}
    slots = kept.slots("NCHW")
    for batch, expected in zip(Loader(slots, 7, **options), slots.loader(7, **options), strict=True):
        np.testing.assert_array_equal(batch[0], expected[0])


def check_the_example_learns() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        examples.assert_learns_here("train_jax.py", r"loss ([\d.e-]+), accuracy ([\d.e-]+)")


def test_in_jax() -> None:
    with apart(**DEVICES) as process:
        process.check_all(globals())


# --- several processes -----------------------------------------------------------------------------------------------


def member(number: int, port: int) -> dict[str, Any]:
    """One of two processes with two devices each: what its loaders are, and what its devices get."""
    jax = framework("jax")

    jax.distributed.initialize(f"127.0.0.1:{port}", 2, number, initialization_timeout=LIMIT_S)
    source, told = slots(), {}
    devices = np.array(jax.devices()).reshape(2, 2)  # a row for each process
    names, everything = jax.sharding.PartitionSpec("batch"), jax.sharding.PartitionSpec()
    for name, grid, spec in (
        ("data", devices.reshape(4, 1), names),  # every device has images of its own
        ("rows", devices, names),  # those of one process have the same images
        ("columns", devices.T, names),  # both processes have all images, one on each device
        ("copies", devices, everything),
        ("turned", devices[::-1].reshape(4, 1), names),
    ):
        mesh = jax.sharding.Mesh(grid, ("batch", "model"))
        loader = Loader(source, 4, sharding=jax.sharding.NamedSharding(mesh, spec), last="drop")
        batches = []
        for pixels, labels in loader:
            for shard, of_labels in zip(pixels.addressable_shards, labels.addressable_shards, strict=True):
                assert shard.index[0] == of_labels.index[0]
                np.testing.assert_array_equal(shard.data, source.take(np.asarray(of_labels.data)))
            parts = {
                shard.index[0].indices(labels.shape[0])[:2]: np.asarray(shard.data).tolist()
                for shard in labels.addressable_shards
            }
            batches.append((labels.shape[0], parts))
        told[name] = (loader.share.rank, loader.share.world_size, batches)
    alone = Loader(source, 4)
    told["alone"] = (alone.share.rank, alone.share.world_size, [np.asarray(labels).tolist() for _, labels in alone])
    for name, grid, options in (
        ("given", devices, {"rank": 0, "world_size": 1}),
        ("foreign", devices[[1 - number]], {}),
        ("odd", np.array([*devices[0], devices[1, 0]])[:, None], {}),
    ):
        sharding = jax.sharding.NamedSharding(jax.sharding.Mesh(grid, ("batch", "model")), names)
        with pytest.raises(SpecError) as caught:
            Loader(source, 4, sharding=sharding, last="drop", **options)
        told[name] = str(caught.value)
    jax.distributed.shutdown()
    return told


def members(port: int) -> list[dict[str, Any]]:
    """What both processes say: forks of one that has imported JAX and has not begun to use it."""
    framework("jax")
    with ProcessPoolExecutor(2) as pool:
        return list(pool.map(member, range(2), [port] * 2))


def test_processes_share_each_epoch_as_the_sharding_says() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = DEVICES | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    with apart(**settings) as process:
        told = process(members, port)

    ranks = {name: [each[name][:2] for each in told] for name in told[0] if isinstance(told[0][name], tuple)}
    assert ranks == {
        "data": [(0, 2), (1, 2)],
        "rows": [(0, 2), (1, 2)],
        "columns": [(0, 1), (0, 1)],
        "copies": [(0, 1), (0, 1)],
        "turned": [(1, 2), (0, 2)],
        "alone": [(0, 2), (1, 2)],
    }
    for name, (of_first, of_second) in {name: [each[name][2] for each in told] for name in ranks}.items():
        if name == "alone":
            expected = [labels.tolist() for _, labels in slots().loader(8)]
            joined = [[*a, *b] for a, b in zip(of_first, of_second, strict=True)]
            assert [sorted(each) for each in joined] == [sorted(each) for each in expected]
            continue
        size = 4 * ranks[name][0][1]
        expected = [labels.tolist() for _, labels in slots().loader(size, last="drop")]
        assert len(of_first) == len(of_second) == len(expected)
        for (n, parts), (m, others), labels in zip(of_first, of_second, expected, strict=True):
            assert n == m == size
            together = parts | others
            assert set().union(*(range(*at) for at in together)) == set(range(size))
            for (begin, end), values in together.items():
                assert values == labels[begin:end]
    assert told[1]["given"] == (
        "rank=0 and world_size=1 were passed, but the sharding says which process holds which part, and makes them 1 "
        "and 2: leave them out"
    )
    assert told[0]["foreign"] == "the sharding has no device of this process: it has nothing to load"
    assert told[0]["odd"] == (
        "the sharding gives processes parts of a batch that overlap or differ in size: use a mesh in which each "
        "process has whole rows of devices"
    )


# --- the rest --------------------------------------------------------------------------------------------------------


def test_a_missing_jax_is_told_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jax", None)
    with pytest.raises(MissingExtraError) as caught:
        Loader(slots())
    assert str(caught.value) == "jax is not installed; pip install 'arraystore[jax]'"
