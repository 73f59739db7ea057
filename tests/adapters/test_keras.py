"""The Keras dataset: in processes of their own, one for each back end."""

from __future__ import annotations

import pickle
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import examples, kept
from support.apart import apart
from support.encoded_slots import pair, same
from support.images import noise
from support.lazy_functions import noisy
from support.slots import slots_of
from support.store_contract import assert_equal, build

import arraystore
from arraystore import Augment, Frame, MissingExtraError, Ragged, RandomResizedCrop, Slots, SpecError
from arraystore._common.lazy import framework
from arraystore._stores.slot_array import SlotArray
from arraystore.adapters.keras import Dataset

N, SIZE = 48, 8


def slots(**targets: Any) -> Slots:
    """Slots whose pixels and labels tell their number."""
    pixels = np.random.default_rng(0).integers(0, 256, (N, 3, 12, 12), np.uint8)
    return slots_of([SlotArray(pixels, targets={"labels": np.arange(N), **targets})], layout="NCHW")


def readers() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("arraystore")]


def model(keras: Any, *, outputs: int = N) -> Any:
    """A model that Keras builds when it sees the first batch."""
    layers = [keras.layers.Rescaling(1 / 127.5, -1), keras.layers.Flatten(), keras.layers.Dense(outputs)]
    made = keras.Sequential(layers)
    made.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return made


class Recording(Dataset):
    """It tells which labels each batch had that Keras has asked for."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.seen: list[tuple[int, int, tuple[int, ...]]] = []

    def __getitem__(self, number: int) -> Any:
        batch = super().__getitem__(number)
        self.seen.append((self.epoch, number, tuple(batch[1].tolist())))
        return batch


def check_it_is_a_dataset_of_keras() -> None:
    keras = framework("keras")

    data = Dataset(slots(), SIZE)
    assert isinstance(data, Dataset)
    assert isinstance(data, keras.utils.PyDataset)
    assert (data.workers, data.use_multiprocessing) == (1, False)
    assert type(Dataset(slots())) is type(data)
    assert isinstance(Recording(slots()), keras.utils.PyDataset)
    assert len(data) == data.num_batches == 6


def check_a_store_is_read_while_it_is_filled() -> None:
    keras = framework("keras")

    source = [noise(9, 9, seed=seed) for seed in range(N)]
    built, store = (build(source, labels=np.arange(N), size=12, wait=wait) for wait in (True, False))
    data, expected = Recording(store, SIZE, seed=3), Recording(built, SIZE, seed=3)
    for made in (data, expected):
        model(keras).fit(made, epochs=2, verbose=0)
    # Keras looks at a batch of epoch 0, and begins with epoch 1.
    seen, wanted = ({each for each in made.seen if each[0] > 0} for made in (data, expected))
    assert seen == wanted
    assert len(seen) == 12
    for number in range(6):
        for array, values in zip(
            Dataset(store, SIZE, seed=3)[number], Dataset(built, SIZE, seed=3)[number], strict=True
        ):
            np.testing.assert_array_equal(array, values)
    store.finish()
    assert_equal(store, built)


def check_bad_images_of_a_store_that_fills_itself_end_the_epoch() -> None:
    keras = framework("keras")

    source = [noise(9, 9, seed=seed) for seed in range(N)]
    store = build([*source[:-1], np.zeros((9, 9), np.float64)], labels=np.arange(N), size=12, wait=False)
    data = Recording(store, SIZE)
    with pytest.raises(arraystore.BadImagesError, match=r"^1 of 48 images could not be stored"):
        model(keras).fit(data, epochs=2, verbose=0)
    assert {(epoch, number) for epoch, number, _ in data.seen if epoch} == {(1, number) for number in range(6)}
    assert N - 1 not in {label for _, _, labels in data.seen for label in labels}


def check_batches_are_those_of_the_loader() -> None:
    source = slots(scores=np.arange(N) / 7)
    for epoch in range(2):
        plain = source.loader(7, seed=5)
        plain.set_epoch(epoch)
        expected = [(images.transpose(0, 2, 3, 1), labels) for images, labels in plain]
        in_order, backwards, by_threads = (Dataset(source, 7, seed=5) for _ in range(3))
        for data in (in_order, backwards, by_threads):
            data.set_epoch(epoch)
        numbers = range(len(in_order))
        with ThreadPoolExecutor(4) as pool:
            results = {
                "in order": list(in_order),
                "once more": list(in_order),
                "backwards": [backwards[number - len(numbers)] for number in reversed(numbers)][::-1],
                "by threads": list(pool.map(by_threads.__getitem__, numbers)),
                "out of order": [in_order[number] for number in (0, 1, 5, 2, 6, 3, 4, 0)],
                "pickled": list(pickle.loads(pickle.dumps(in_order))),
            }
        results["out of order"] = [results["out of order"][number] for number in (7, 1, 3, 5, 6, 2, 4)]
        for how, batches in results.items():
            for (images, labels), (right_images, right_labels) in zip(batches, expected, strict=True):
                assert images.flags.c_contiguous
                np.testing.assert_array_equal(images, right_images, how)
                np.testing.assert_array_equal(labels, right_labels, how)
    data = Dataset(source, 7, seed=5)
    assert data[0][1].tolist() != expected[0][1].tolist()
    data.on_epoch_end()
    np.testing.assert_array_equal(data[1][1], expected[1][1])
    with pytest.raises(IndexError, match=r"^batch 7 of 7$"):
        in_order[7]


def check_ragged_targets_need_a_function_that_pads() -> None:
    source = slots(boxes=Ragged.from_rows([[n] * (n % 4) for n in range(N)]))
    message = (
        "the target 'boxes' is ragged, a list of arrays in each batch, and Keras takes arrays of one shape: pass "
        "batch_transform with a function that pads its rows to one length, or leave it out of targets"
    )
    with pytest.raises(SpecError) as caught:
        Dataset(source, SIZE, targets="boxes")
    assert str(caught.value) == message

    def padded(batch: Any) -> Any:
        pixels, rows = batch
        return pixels, np.stack([np.pad(row, (0, 3 - len(row))) for row in rows])

    batches = list(Dataset(source, SIZE, targets="boxes", batch_transform=padded, shuffle=False))
    boxes = np.concatenate([rows for _, rows in batches])
    assert boxes.tolist() == [[n] * (n % 4) + [0] * (3 - n % 4) for n in range(N)]
    assert len(Dataset(source, SIZE)) == len(batches)


def check_batches_have_the_form_that_keras_takes() -> None:
    source = slots(scores=np.arange(N) / 7)
    images, scores = Dataset(source, SIZE, targets="scores")[0]
    assert (images.shape, scores.dtype) == ((SIZE, 12, 12, 3), np.float64)
    (images,) = Dataset(source, SIZE, targets=())[0]
    images, both = Dataset(source, SIZE, targets=["scores", "labels"])[0]
    assert list(both) == ["scores", "labels"]
    np.testing.assert_array_equal(both["scores"], both["labels"] / 7)
    data = Dataset(source, SIZE, batch_transform=lambda batch: (batch[0] // 2, batch[1], batch[1] % 2))
    images, labels, _ = data[0]
    np.testing.assert_array_equal(images, source.take(labels).transpose(0, 2, 3, 1) // 2)


def check_images_have_the_layout_of_keras() -> None:
    keras = framework("keras")

    source = slots()
    planar = source.take(np.arange(SIZE))
    assert keras.config.image_data_format() == "channels_last"
    options: dict[str, Any] = {"shuffle": False}
    np.testing.assert_array_equal(Dataset(source, SIZE, **options)[0][0], planar.transpose(0, 2, 3, 1))
    options["augment"] = Augment(hflip=1.0)
    np.testing.assert_array_equal(Dataset(source, SIZE, **options)[0][0], planar[..., ::-1].transpose(0, 2, 3, 1))
    options["augment"] = Augment(layout="NCHW")
    np.testing.assert_array_equal(Dataset(source, SIZE, **options)[0][0], planar)
    keras.config.set_image_data_format("channels_first")
    try:
        np.testing.assert_array_equal(Dataset(source, SIZE, shuffle=False)[0][0], planar)
    finally:
        keras.config.set_image_data_format("channels_last")


def check_fit_sees_every_slot_once_an_epoch() -> None:
    keras = framework("keras")

    for of_batches in (False, True):
        data = Recording(slots(), SIZE)
        network = model(keras)
        network.fit(data, epochs=2, verbose=0, shuffle=of_batches)  # it is built first
        network.fit(data, epochs=1, verbose=0, shuffle=of_batches)
        assert sorted({epoch for epoch, _, _ in data.seen}) == [0, 1, 2, 4]  # as fit begins it calls on_epoch_end
        orders = []
        for epoch in (1, 2, 4):
            batches = {number: labels for each, number, labels in data.seen if each == epoch}
            orders.append([label for number in range(6) for label in batches[number]])
            assert sorted(orders[-1]) == list(range(N))
        assert orders[0] != orders[1] != orders[2]
        assert sum(epoch > 0 for epoch, _, _ in data.seen) == 18
        assert readers() == []


def check_epochs_can_be_those_of_fit() -> None:
    keras = framework("keras")

    def trained(data: Recording, *runs: tuple[int, int]) -> list[Any]:
        follow = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, _logs: data.set_epoch(epoch))
        network = model(keras)
        for first, stop in runs:
            network.fit(data, initial_epoch=first, epochs=stop, callbacks=[follow], verbose=0, shuffle=False)
        return data.seen[1:]  # without the one by which it was built

    whole = trained(Recording(slots(), SIZE), (0, 3))
    assert whole == trained(Recording(slots(), SIZE), (0, 1), (1, 3))
    assert [epoch for epoch, _, _ in whole] == [0] * 6 + [1] * 6 + [2] * 6


def check_what_is_learnt_evaluated_and_predicted_belongs_together() -> None:
    keras = framework("keras")

    labels = np.arange(N) % 2
    pixels = np.random.default_rng(0).integers(0, 100, (N, 3, 12, 12), np.uint8) + 155 * labels[:, None, None, None]
    source = slots_of([SlotArray(pixels.astype(np.uint8), targets={"labels": labels})], layout="NCHW")
    keras.utils.set_random_seed(0)
    network = model(keras, outputs=2)
    first = None
    history = network.fit(
        Dataset(source, SIZE, augment=Augment(hflip=0.5)),
        validation_data=Dataset(source, 16, shuffle=False),
        epochs=6,
        shuffle=False,
        verbose=0,
    ).history
    first, last = history["val_loss"][0], history["val_loss"][-1]
    assert last < first, history
    assert network.evaluate(Dataset(source, 16, shuffle=False), verbose=0) < first
    scores = network.predict(Dataset(source, 16, shuffle=False, targets=()), verbose=0)
    assert scores.shape == (N, 2)
    np.testing.assert_array_equal(np.asarray(scores).argmax(1), labels)
    assert readers() == []


def check_a_model_with_several_outputs_takes_a_dict() -> None:
    keras = framework("keras")

    source = slots(scores=(np.arange(N) / N).astype(np.float32))
    inputs = keras.Input((12, 12, 3))
    values = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(inputs))
    outputs = {
        "labels": keras.layers.Dense(N, activation="softmax")(values),
        "scores": keras.layers.Dense(1)(values),
    }
    network = keras.Model(inputs, outputs)
    network.compile("sgd", {"labels": "sparse_categorical_crossentropy", "scores": "mse"})
    history = network.fit(Dataset(source, SIZE, targets=["labels", "scores"]), verbose=0, shuffle=False).history
    assert np.isfinite(history["loss"]).all()


def check_workers_that_are_asked_for_have_the_same_batches() -> None:
    keras = framework("keras")

    network = model(keras)
    network(np.zeros((1, 12, 12, 3), np.uint8))
    expected = network.predict(Dataset(slots(), SIZE, shuffle=False), verbose=0)
    data = Dataset(slots(), SIZE, shuffle=False)
    data.workers = 2
    # JAX warns of every fork, and rightly so.
    for data.use_multiprocessing in (False, True) if keras.backend.backend() == "torch" else (False,):
        np.testing.assert_array_equal(network.predict(data, verbose=0), expected)
        assert readers() == []


def check_an_error_reaches_fit() -> None:
    keras = framework("keras")

    def fail(_image: Any) -> Any:
        raise ZeroDivisionError("on purpose")

    with pytest.raises(ZeroDivisionError, match="on purpose"):
        model(keras).fit(Dataset(slots(), SIZE, transform=fail), verbose=0)
    assert readers() == []


def check_images_have_sizes_by_epoch() -> None:
    keras = framework("keras")

    shapes: list[tuple[int, tuple[int, ...]]] = []

    class Seen(Dataset):
        def __getitem__(self, number: int) -> Any:
            batch = super().__getitem__(number)
            shapes.append((self.epoch, batch[0].shape))
            return batch

    data = Seen(slots(), SIZE, augment=Augment(crop=RandomResizedCrop(sizes={0: 6, 2: 8})))
    network = keras.Sequential(
        [keras.Input((None, None, 3)), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(N)]
    )
    network.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    network.fit(data, epochs=3, verbose=0, shuffle=False)  # Keras skips epoch 0
    seen = [shape for shape in shapes if shape[0]]
    assert set(seen) == {(1, (SIZE, 6, 6, 3)), (2, (SIZE, 8, 8, 3)), (3, (SIZE, 8, 8, 3))}
    assert len(seen) == 3 * 6


def check_frames_are_read_and_a_file_ends_fit() -> None:
    keras = framework("keras")
    with tempfile.TemporaryDirectory() as folder:
        control = Path(folder) / "control.json"
        frame = Frame(epochs=2, per_class=3)
        data = Dataset(slots(), 5, seed=1, transform=noisy, frame=frame, control=control)
        plain = slots().loader(5, seed=1, transform=noisy, frame=frame, augment=Augment(layout="NHWC"))
        data.set_epoch(3)
        plain.set_epoch(3)
        same([data[number] for number in range(len(data))], list(plain))
        control.write_text('{"stop": true, "per_class": 4}')
        history = model(keras).fit(data, epochs=5, verbose=0, shuffle=False, callbacks=[data.stop_callback()]).history
        assert len(history["loss"]) == 1
        assert "Keras counts the batches" in control.with_suffix(".log.jsonl").read_text()


def check_batch_sizes_by_epoch_are_refused() -> None:
    sizes: Any
    for sizes in ({0: 8, 2: 16}, lambda _epoch: 8):
        with pytest.raises(SpecError) as caught:
            Dataset(slots(), sizes)
        assert str(caught.value) == (
            "Keras counts the batches of an epoch once, and batch sizes by epoch would change that: pass one number"
        )


def check_encoded_slots_have_the_pixels_of_raw_ones() -> None:
    options: dict[str, Any] = {"seed": 2, "augment": Augment(crop=RandomResizedCrop(20), hflip=0.5)}
    encoded, raw = (Dataset(slots, 8, **options) for slots in pair("NCHW"))
    assert len(encoded) == len(raw) > 3
    for number in range(len(encoded)):
        same([encoded[number]], [raw[number]])
    slots = kept.slots("NHWC")
    same([Dataset(slots, 8, **options)[0]], [slots.loader(8, **options).batch(0)])


def check_bfloat16_is_refused() -> None:
    with pytest.raises(SpecError) as caught:
        Dataset(slots(), augment=Augment(dtype="bfloat16"))
    assert str(caught.value) == (
        "Keras takes no images of bfloat16 from NumPy: choose dtype='uint8' or 'float32', and call "
        "keras.config.set_dtype_policy('mixed_bfloat16') to convert them on the device"
    )


def check_the_example_learns() -> None:
    keras = framework("keras")

    if keras.backend.backend() == "torch":  # nothing in it depends on that
        examples.assert_learns_here("train_keras.py", r" loss: ([\d.e-]+) - val_accuracy: ([\d.e-]+)")


# To compile a model takes JAX a hundred times as long as to train it here, and the checks make few that differ.
COMPILE_LITTLE = {
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_in_keras(backend: str, tmp_path: Path) -> None:
    settings = COMPILE_LITTLE | {"JAX_COMPILATION_CACHE_DIR": str(tmp_path)}
    with apart(KERAS_BACKEND=backend, OMP_NUM_THREADS="1", **settings) as process:
        process.check_all(globals())


def test_a_missing_keras_is_told_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keras", None)
    with pytest.raises(MissingExtraError) as caught:
        Dataset(slots())
    assert str(caught.value) == "keras is not installed; pip install 'arraystore[keras]'"


# --- without Keras ---------------------------------------------------------------------------------------------------


def test_a_loader_makes_batches_by_number(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (N, 12, 12, 3), np.uint8)
    store = arraystore.build(list(pixels), tmp_path / "x.store", size=12, labels=range(N), progress=False)
    for options in ({}, {"ahead": "off"}, {"ahead": "read"}, {"drop_behind": True}, {"last": "pad"}, {"cache": 9999}):
        loader = store.loader(7, **options)
        loader.set_epoch(3)
        for number, (images, labels) in enumerate(loader):
            if number == 2:
                state = loader.state_dict()
            again = loader.batch(number, epoch=3)
            np.testing.assert_array_equal(again[0], images)
            np.testing.assert_array_equal(again[1], labels)
            assert number != 2 or loader.state_dict() == state
    with pytest.raises(SpecError, match="rank 0 has 7 batches from position 0, no batch 7"):
        loader.batch(7)
    with pytest.raises(SpecError, match="epoch must be"):
        loader.batch(0, epoch=-1)
