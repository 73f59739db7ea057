"""The loader on a CUDA device. Deselected where there is none."""

from __future__ import annotations

import gc
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.slots import slots_of

import arraystore
from arraystore import Slots
from arraystore._augmenting.augment import Augment
from arraystore._stores.slot_array import SlotArray
from arraystore.adapters import torch_loader
from arraystore.adapters.torch import Loader

COUNT = 1200
CUDA = torch.device("cuda", 0)


@pytest.fixture(scope="module")
def slots(tmp_path_factory: pytest.TempPathFactory) -> Slots:
    """Mapped slots: each byte of slot i tells i, so that a wrong one shows."""
    path: Path = tmp_path_factory.mktemp("cuda") / "images.npy"
    images = np.lib.format.open_memmap(path, "w+", np.uint8, (COUNT, 3, 96, 96))
    numbers = np.arange(COUNT)
    images[:, :, :, ::2] = (numbers % 251)[:, None, None, None]
    images[:, :, :, 1::2] = (numbers // 251)[:, None, None, None]
    images.flush()
    mapped = np.load(path, mmap_mode="r")
    return slots_of(
        [SlotArray(mapped, targets={"labels": numbers})], layout="NCHW", mean=(9.0, 8.0, 7.0), std=(5.0, 6.0, 7.0)
    )


def told(images: torch.Tensor) -> torch.Tensor:
    """The slots that a batch on the device shows, if all of each image agrees; -1 otherwise."""
    slots = images[:, 0, 0, 0].long() + 251 * images[:, 0, 0, 1].long()
    agreed = (images == images[:, :1, :1, :2].repeat(1, 3, 96, 48)).flatten(1).all(1)
    return torch.where(agreed, slots, -1)


def busy(side: int = 4096, times: int = 8) -> torch.Tensor:
    """Work that keeps the current stream occupied for some milliseconds."""
    matrix = torch.ones(side, side, device=CUDA)
    for _ in range(times):
        matrix = matrix @ matrix / side
    return matrix


@pytest.mark.parametrize("device", ["cuda", "cuda:0", 0, CUDA])
@pytest.mark.parametrize("non_blocking", [True, False])
def test_batches_are_those_of_the_cpu(slots: Slots, device: Any, non_blocking: Any) -> None:
    loader = Loader(slots, 64, seed=1, device=device, non_blocking=non_blocking)
    count = 0
    for (images, labels), (plain, numbers) in zip(loader, slots.loader(64, seed=1), strict=True):
        assert images.device == labels.device == loader.device == CUDA
        assert torch.equal(images.cpu(), torch.from_numpy(plain))
        assert torch.equal(labels.cpu(), torch.from_numpy(numbers))
        count += len(images)
    assert count == COUNT


def test_batches_are_right_while_the_device_is_busy(slots: Slots) -> None:
    """Nothing is awaited here: buffers of either side that came back too early would show the wrong slots."""
    results = []
    loader = Loader(slots, 32, seed=2, device="cuda", in_flight=1)
    for _ in range(4):
        for images, labels in loader:
            busy()
            results.append((told(images) == labels).all())
    assert len(results) == 4 * len(loader)
    assert torch.stack(results).all()


def test_batches_that_are_kept_stay_as_they_are(slots: Slots) -> None:
    kept = list(Loader(slots, 100, seed=3, device="cuda"))
    for images, labels in kept:
        assert torch.equal(told(images), labels)
    assert sorted(torch.cat([labels for _, labels in kept]).tolist()) == list(range(COUNT))


def test_a_batch_is_ready_for_the_stream_that_takes_it(slots: Slots) -> None:
    mine = torch.cuda.Stream(CUDA)
    results = []
    with torch.cuda.stream(mine):
        for images, labels in Loader(slots, 64, seed=4, device="cuda"):
            busy(2048, 4)
            results.append((told(images) == labels).all())
    mine.synchronize()
    assert all(results)


def test_host_memory_is_pinned_and_used_again(slots: Slots, monkeypatch: pytest.MonkeyPatch) -> None:
    made, pinned = [], []
    own = torch_loader._pinned
    monkeypatch.setattr(torch_loader, "_pinned", lambda device, size: made.append(size) or own(device, size))
    loader = Loader(slots, 64, device="cuda", in_flight=3)
    sent = loader._sent
    monkeypatch.setattr(
        loader, "_sent", lambda batch: pinned.append(torch.from_numpy(batch[0]).is_pinned()) or sent(batch)
    )
    for _ in range(5):
        for _, labels in loader:
            labels.sum().item()
    assert len(pinned) == 5 * len(loader)
    assert all(pinned)
    assert 1 <= len(made) <= 8


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_floats_are_those_of_the_cpu(slots: Slots, layout: Any, dtype: Any, normalize: Any, channels_last: Any) -> None:
    options: Any = {"dtype": dtype, "normalize": normalize, "channels_last": channels_last, "seed": 5}
    augment = Augment(layout=layout)
    there, here = (Loader(slots, 256, device=device, augment=augment, **options) for device in ("cuda", None))
    for (images, _), (plain, _) in zip(there, here, strict=True):
        assert images.dtype == plain.dtype == dtype
        assert images.stride() == plain.stride()
        tolerance = 1e-2 if dtype == torch.bfloat16 else 1e-3
        assert torch.allclose(images.cpu().float(), plain.float(), rtol=tolerance, atol=tolerance)


def test_bfloat16_of_an_augment_arrives_as_such(slots: Slots) -> None:
    loader = Loader(slots, 64, device="cuda", augment=Augment(dtype="bfloat16"), targets=["labels"])
    batch = next(iter(loader))
    assert batch["images"].dtype == torch.bfloat16
    assert torch.allclose(batch["images"][:, 0, 0, 0].float() * 255, (batch["labels"] % 251).float(), rtol=1e-2)


def test_the_state_is_that_of_the_batch_that_was_handed_over(slots: Slots) -> None:
    loader = Loader(slots, 64, seed=6, device="cuda")
    iterator = iter(loader)
    for number in range(1, 6):
        next(iterator)
        assert (loader.epoch, loader.state_dict()["position"]) == (0, 64 * number)
    state = loader.state_dict()
    rest = torch.cat([labels for _, labels in iterator]).cpu()
    assert loader.epoch == 1
    other = Loader(slots, 64, seed=6)
    other.load_state_dict(state)
    assert torch.equal(torch.cat([labels for _, labels in other]), rest)
    loader.load_state_dict(state)
    assert torch.equal(torch.cat([labels for _, labels in loader]).cpu(), rest)


def test_leaving_early_and_errors_leave_nothing(slots: Slots) -> None:
    loader = Loader(slots, 32, device="cuda")
    for _ in range(20):
        for images, labels in loader:
            busy(1024, 2)
            assert torch.equal(told(images), labels)
            break

    def failing(batch: Any) -> Any:
        if batch[1][0] % 7 == 0:
            raise ZeroDivisionError("on purpose")
        return batch

    with pytest.raises(ZeroDivisionError, match="on purpose"):
        list(Loader(slots, 4, shuffle=False, device="cuda", batch_transform=failing))
    del images, labels
    gc.collect()
    assert [thread for thread in threading.enumerate() if thread.name.startswith("arraystore")] == []


def test_device_memory_does_not_grow(slots: Slots) -> None:
    loader = Loader(slots, 64, device="cuda", dtype="float16", normalize=True)
    most = []
    for _ in range(8):
        torch.cuda.reset_peak_memory_stats(CUDA)
        for images, _ in loader:
            images.sum()
        torch.cuda.synchronize(CUDA)
        most.append(torch.cuda.max_memory_allocated(CUDA))
    assert max(most[3:]) <= 1.5 * max(most[:3])


def test_a_network_trains(slots: Slots) -> None:
    torch.manual_seed(0)
    model = torch.nn.Conv2d(3, 4, 3).to(CUDA, memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    before = model.weight.detach().clone()
    for images, labels in Loader(slots, 128, device="cuda", dtype="float32", normalize=True, channels_last=True):
        loss = (model(images).mean((1, 2, 3)) - labels / COUNT).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert torch.isfinite(loss)
    assert not torch.equal(model.weight, before)


def test_a_device_that_is_not_there(slots: Slots) -> None:
    with pytest.raises(arraystore.SpecError, match="device must be one that torch knows"):
        Loader(slots, 8, device="gpu")
