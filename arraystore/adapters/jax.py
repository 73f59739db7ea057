"""Batches as JAX arrays, on one device or laid out over many, in one process or in many."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Unpack

from arraystore._common.extras import framework
from arraystore._reading import loader
from arraystore.errors import SpecError

if TYPE_CHECKING:
    from jax import Device
    from jax.sharding import Sharding

    from arraystore._reading.slot_arrays import Slots

__all__ = ["Loader"]


class Loader(loader.Loader):
    """What `arraystore.Loader` yields, as JAX arrays.

    The threads of the loader hand each batch to JAX as soon as it is made, so the next batches are on their way to
    the devices while one is computed with. On the CPU, JAX reads most batches where they lie, without a copy; their
    memory is used again when the last JAX array that shows it is gone, as with NumPy arrays.

    Several processes share each epoch; make the loader after ``jax.distributed.initialize``. Without a sharding each
    process is a rank, and gets its own part. With one that spans processes, those that hold different slots of a batch
    have different ranks, those that hold the same ones, as where a model is divided among them, have the same; and
    all get one global array, of ``batch_size * world_size`` images.

    JAX makes int64 labels int32, and float64 targets float32, unless ``jax_enable_x64`` is set. It and the default
    device have to be set for the process, by ``jax.config.update``: the threads do not see what ``with`` sets for one.

    Args:
        slots: see `arraystore.Loader`.
        batch_size: how many images a batch of this rank has; with a sharding, as many as the devices of this process
            can divide among them.
        sharding: where batches go, with all their targets: a `jax.sharding.Sharding` that divides axis 0, or none of
            it, or a device; None for JAX's default device.
        options: see `arraystore.Loader`. Devices that divide a batch among them need ``last="drop"`` or ``"pad"``;
            images of bfloat16 come as such.

    Raises:
        SpecError: an option cannot be, or does not go with another, the slots or the sharding.
        SpaceError: there is not enough memory for the cache.
        MissingExtraError: JAX is not installed.
    """

    def __init__(
        self,
        slots: Slots,
        batch_size: int = 256,
        *,
        sharding: Sharding | Device | None = None,
        **options: Unpack[loader.LoaderOptions],
    ) -> None:
        jax = framework("jax")
        place, shared = _Place(1, jax.process_index(), jax.process_count()), False
        if sharding is not None and isinstance(sharding, jax.sharding.Sharding):
            place, shared = _place(sharding, jax.process_index(), place), not sharding.is_fully_addressable
        given = (options.get("rank"), options.get("world_size"))
        if given == (None, None):
            options |= {"rank": place.rank, "world_size": place.world_size}
        elif shared:
            raise SpecError(
                f"rank={given[0]!r} and world_size={given[1]!r} were passed, and the sharding, which says which "
                f"process holds what, makes them {place.rank} and {place.world_size}: leave them out"
            )
        augment = options.get("augment")
        bfloat16 = augment is not None and augment.dtype == "bfloat16"
        options["batch_transform"] = _Put(sharding, shared, bfloat16, options.get("batch_transform"))
        super().__init__(slots, batch_size, **options)
        if self.batch_size % place.parts:
            raise SpecError(
                f"batch_size={self.batch_size} cannot be divided among {place.parts} devices of this process: choose "
                f"a multiple of {place.parts}"
            )
        devices = place.parts * (place.world_size if shared else 1)
        if devices > 1 and self.share.last == "keep":
            raise SpecError(
                f"last='keep' makes a last batch of any size, which {devices} devices cannot divide among them: pass "
                "last='drop' or last='pad'"
            )


@dataclass(frozen=True, slots=True)
class _Place:
    """Into how many parts devices of this process divide its batches, and which rank it has."""

    parts: int
    rank: int
    world_size: int


def _place(sharding: Sharding, process: int, alone: _Place) -> _Place:
    """Read out of a sharding which part of axis 0 each process holds.

    Args:
        sharding: how batches are divided.
        process: the number of this one.
        alone: its place if no other process holds any part.
    """
    # Axis 0 is as long as there are devices, so every part of it has slots.
    parts: dict[int, set[int]] = {}
    for device, (rows,) in sharding.devices_indices_map((sharding.num_devices,)).items():
        parts.setdefault(device.process_index, set()).add(rows.start or 0)
    if process not in parts:
        raise SpecError("the sharding has no device of this process: it has nothing to load")
    if sharding.is_fully_addressable:
        return replace(alone, parts=len(parts[process]))
    kinds = sorted({tuple(sorted(starts)) for starts in parts.values()})
    starts = [start for kind in kinds for start in kind]
    if len(set(starts)) != len(starts) or len({len(kind) for kind in kinds}) > 1:
        raise SpecError(
            "the sharding gives processes parts of a batch that overlap or differ in size: use a mesh in which each "
            "process has whole rows of devices"
        )
    return _Place(len(kinds[0]), kinds.index(tuple(sorted(parts[process]))), len(kinds))


@dataclass(frozen=True, slots=True)
class _Put:
    """Hands a batch over to JAX."""

    sharding: Sharding | Device | None
    shared: bool
    bfloat16: bool
    before: Callable[[Any], Any] | None

    def __call__(self, batch: Any) -> Any:
        jax = framework("jax")
        if self.bfloat16:
            batch = self._viewed(batch, jax.numpy.bfloat16.dtype)
        if self.before is not None:
            batch = self.before(batch)
        if self.shared:
            return jax.tree.map(partial(jax.make_array_from_process_local_data, self.sharding), batch)
        # It keeps the arrays that it is given as long as it shows their memory, so the lease lasts as long.
        return jax.device_put(batch, self.sharding)

    def _viewed(self, batch: Any, dtype: Any) -> Any:
        if isinstance(batch, dict):
            return batch | {"images": batch["images"].view(dtype)}
        if isinstance(batch, tuple):
            return batch[0].view(dtype), *batch[1:]
        return batch.view(dtype)
