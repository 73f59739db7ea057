"""How others read: the cases of `read.py` that need a framework. Each makes its files from a store, in its own folder.

Where there is a choice it is the faster one: no copy before the framework's own, workers that stay, its own batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import h5py
import numpy as np
from PIL import Image
from read_cases import SEED, Expected, Pixels, consume, equals, mapped

import arraystore

if TYPE_CHECKING:
    from hosts import Job, Run

ROWS_AT_ONCE = 256


def own_folder(job: Job, name: str) -> Path:
    """Return the folder that a case may write to."""
    assert job.folder is not None
    folder = Path(job.folder) / name
    folder.mkdir(exist_ok=True)
    return folder


def labelled(images: Pixels) -> Callable[[int], tuple[Pixels, int]]:
    """Return what gives an image and its slot."""
    return lambda i: (images[i], i)


# --- torch's DataLoader ----------------------------------------------------------------------------------------------


class Items:
    """A map-style dataset: what a function returns for each number. Whatever is open is opened in each worker."""

    def __init__(self, count: int, open_items: Callable[[], Callable[[int], Any]]) -> None:
        self.count = count
        self.open_items = open_items
        self.item: Callable[[int], Any] | None = None

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: int) -> Any:
        if self.item is None:
            self.item = self.open_items()
        return self.item(i)


def data_loader(items: Items, job: Job, right: Expected) -> Run:
    """A DataLoader with worker processes that stay, and its own way of making batches."""
    import torch  # noqa: PLC0415 - not for those without
    from torch.utils.data import DataLoader  # noqa: PLC0415

    seeded = torch.Generator()
    options: dict[str, Any] = {"num_workers": job.threads, "persistent_workers": True, "generator": seeded}
    options["multiprocessing_context"] = "fork"  # so that what opens the items need not be pickled
    loader: Any = DataLoader(items, job.batch, shuffle=True, **options)  # type: ignore[arg-type,unused-ignore]

    def run(epoch: int, check: bool) -> dict[str, float]:  # noqa: FBT001 - see hosts.Run
        seeded.manual_seed(epoch)
        batches = ((images.numpy(), slots.numpy()) for images, slots in loader)
        return consume(batches, right if check else None, items.count)

    return run


def over_memmap(job: Job) -> Run:
    """A DataLoader over np.memmap. It goes to torch without a copy, as torch takes arrays that may be written."""
    path = Path(job.store) / "images.npy"
    return data_loader(
        Items(job.count, lambda: labelled(np.load(path, mmap_mode="c"))), job, equals(np.load(path, mmap_mode="r"))
    )


def over_h5py(job: Job) -> Run:
    """A DataLoader over a contiguous dataset of an HDF5 file."""
    path = own_folder(job, "h5py") / "slots.h5"
    images = mapped(job)[: job.count]
    if not path.exists():
        with h5py.File(path, "w") as file:
            file.create_dataset("images", data=images)

    def opened() -> Callable[[int], tuple[Pixels, int]]:
        return labelled(h5py.File(path, "r")["images"])

    return data_loader(Items(job.count, opened), job, equals(images))


def over_jpegs(job: Job) -> Run:
    """A DataLoader that decodes and resizes photographs of 500 x 375 pixels with Pillow, in each epoch anew."""
    folder = own_folder(job, "jpegs")
    slots = mapped(job)
    side = slots.shape[2]
    paths = [folder / f"{i:05}.jpg" for i in range(job.count)]
    for i, path in enumerate(paths):
        if not path.exists():
            pixels = cv2.resize(slots[i].transpose(1, 2, 0), (500, 375), interpolation=cv2.INTER_CUBIC)
            assert cv2.imwrite(str(path), pixels)
    built = arraystore.build(paths, size=side, exact=True, progress=False)

    def item(i: int) -> tuple[Pixels, int]:
        with Image.open(paths[i]) as image:
            small = image.convert("RGB").resize((side, side), Image.Resampling.BILINEAR)
        return np.asarray(small).transpose(2, 0, 1), i

    def right(batch: Pixels, labels: Pixels) -> bool:
        return bool(np.abs(batch.astype(np.int16) - built.images[labels]).mean() < 1)

    return data_loader(Items(job.count, lambda: item), job, right)


# --- others ----------------------------------------------------------------------------------------------------------


def tensordict(job: Job) -> Run:
    """A TensorDict that is mapped, indexed a batch at a time by torch's own threads."""
    import torch  # noqa: PLC0415 - not for those without
    from tensordict import TensorDict  # noqa: PLC0415

    torch.set_num_threads(job.threads)
    folder = own_folder(job, "tensordict")
    images = mapped(job)[: job.count]
    # A mapping that may be written, though nothing does: torch warns of others.
    whole = torch.from_numpy(np.load(Path(job.store) / "images.npy", mmap_mode="c"))[: job.count]
    if not (folder / "meta.json").exists():
        TensorDict({"images": whole, "labels": torch.arange(job.count)}, [job.count]).memmap_(str(folder))
    loaded = TensorDict.load_memmap(str(folder))

    def batches(epoch: int) -> Iterator[tuple[Pixels, Pixels]]:
        for chosen in torch.randperm(job.count, generator=torch.Generator().manual_seed(epoch)).split(job.batch):
            batch = loaded[chosen]
            yield batch["images"].numpy(), batch["labels"].numpy()

    return lambda epoch, check: consume(batches(epoch), equals(images) if check else None, job.count)


def lit_item(i: int, path: str) -> dict[str, Any]:
    """Return one image for LitData, which sends this to a process of its own."""
    return {"images": np.array(np.load(path, mmap_mode="r")[i]), "labels": i}


def litdata(job: Job) -> Run:
    """LitData's streaming dataset, from a local folder, through its own loader."""
    import litdata as lit  # noqa: PLC0415 - not for those without

    folder = own_folder(job, "litdata")
    images = mapped(job)[: job.count]
    if not (folder / "index.json").exists():
        one = partial(lit_item, path=str(Path(job.store) / "images.npy"))
        options: dict[str, Any] = {"chunk_bytes": "64MB", "num_workers": 1, "verbose": False}
        lit.optimize(one, list(range(job.count)), output_dir=str(folder), **options)
    dataset = lit.StreamingDataset(str(folder), shuffle=True, seed=SEED)
    loader = lit.StreamingDataLoader(dataset, batch_size=job.batch, num_workers=job.threads, persistent_workers=True)

    def run(_epoch: int, check: bool) -> dict[str, float]:  # noqa: FBT001 - see hosts.Run
        batches = ((batch["images"].numpy(), batch["labels"].numpy()) for batch in loader)
        return consume(batches, equals(images) if check else None, job.count)

    return run


def ffcv(job: Job) -> Run:
    """FFCV's raw arrays, in random order, from the page cache."""
    from ffcv.fields import IntField, NDArrayField  # noqa: PLC0415 - not for those without
    from ffcv.fields.decoders import IntDecoder, NDArrayDecoder  # noqa: PLC0415
    from ffcv.loader import Loader, OrderOption  # noqa: PLC0415
    from ffcv.writer import DatasetWriter  # noqa: PLC0415

    path = own_folder(job, "ffcv") / "slots.beton"
    images = mapped(job)[: job.count]
    if not path.exists():
        fields = {"images": NDArrayField(np.dtype(np.uint8), images.shape[1:]), "labels": IntField()}
        DatasetWriter(str(path), fields).from_indexed_dataset(Items(job.count, lambda: labelled(images)))
    pipelines: dict[str, Sequence[Any]] = {"images": [NDArrayDecoder()], "labels": [IntDecoder()]}
    options: dict[str, Any] = {"num_workers": job.threads, "order": OrderOption.RANDOM, "os_cache": True}
    loader = Loader(str(path), batch_size=job.batch, seed=SEED, drop_last=False, pipelines=pipelines, **options)

    def run(_epoch: int, check: bool) -> dict[str, float]:  # noqa: FBT001 - see hosts.Run
        batches = ((batch, slots.reshape(-1)) for batch, slots in loader)
        return consume(batches, equals(images) if check else None, job.count)

    return run


CASES: dict[str, Callable[[Job], Run]] = {
    "DataLoader, np.memmap": over_memmap,
    "DataLoader, h5py": over_h5py,
    "DataLoader, Pillow decodes": over_jpegs,
    "tensordict": tensordict,
    "LitData": litdata,
    "FFCV": ffcv,
}
