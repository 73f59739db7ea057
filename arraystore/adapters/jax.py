"""Batches as JAX arrays, on one device or laid out over many, in one process or in many."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Unpack

from arraystore._common.lazy import framework
from arraystore._common.options import shows_options
from arraystore._ordering.ranks import Share
from arraystore._reading import loader
from arraystore._reading.options import BatchSize, LoaderOptions
from arraystore._reading.slot_arrays import HasSlots
from arraystore.errors import SpecError

if TYPE_CHECKING:
    from jax.sharding import Sharding

    Device = Any  # JAX declares no type for it

__all__ = ["Loader"]


class Loader(loader.Loader[Any]):
    """The batches of `arraystore.Loader` as JAX arrays.

    The threads of the loader hand each batch to JAX as soon as it is made, so the next batches are on their way to
    the devices during a computation. On the CPU, JAX uses the memory of most batches without a copy. That memory is
    used again when the last JAX array that refers to it is gone, as with NumPy arrays.

    Several processes share each epoch; make the loader after ``jax.distributed.initialize``. Without a sharding, each
    process is a rank and gets its own part. With a sharding that spans processes, the processes that hold different
    slots of a batch have different ranks, and the processes that hold the same slots, as when a model is divided among
    them, have the same rank. All get one global array of ``batch_size * world_size`` images.

    JAX turns int64 labels into int32, and float64 targets into float32, unless ``jax_enable_x64`` is set. Set it and
    the default device for the whole process, by ``jax.config.update``: the loader's threads do not see settings that
    a ``with`` statement makes for one thread.

    Args:
        slots: see `arraystore.Loader`.
        batch_size: how many images a batch of this rank has, one number or one by epoch; see `arraystore.Loader`. With
            a sharding, a multiple of the number of parts that the devices of this process hold.
        sharding: where batches go, with all their targets: a `jax.sharding.Sharding` that divides axis 0 or nothing,
            or a device; None for JAX's default device.
        options: see `arraystore.Loader`. Devices that divide a batch among them need ``last="drop"`` or ``"pad"``.
            Images of bfloat16 are JAX arrays of bfloat16. A `Ragged` target is a list of JAX arrays; devices
            that divide a batch need a ``batch_transform`` that pads its rows to one length.

    Raises:
        SpecError: an option is invalid, or does not go with another option, the slots or the sharding.
        SpaceError: there is not enough free memory for the cache.
        MissingExtraError: JAX is not installed.
    """

    @shows_options(LoaderOptions)
    def __init__(
        self,
        slots: HasSlots,
        batch_size: BatchSize = 256,
        *,
        sharding: Sharding | Device | None = None,
        **options: Unpack[LoaderOptions],
    ) -> None:
        jax = framework("jax")
        part, shared = _Part(1, jax.process_index(), jax.process_count()), False
        if sharding is not None and isinstance(sharding, jax.sharding.Sharding):
            part, shared = _part(sharding, jax.process_index(), part), not sharding.is_fully_addressable
        given = (options.get("rank"), options.get("world_size"))
        if given == (None, None):
            options |= {"rank": part.rank, "world_size": part.world_size}
        elif shared:
            raise SpecError(
                f"rank={given[0]!r} and world_size={given[1]!r} were passed, but the sharding says which process holds "
                f"which part, and makes them {part.rank} and {part.world_size}: leave them out"
            )
        augment = options.get("augment")
        bfloat16 = augment is not None and augment.dtype == "bfloat16"
        transform = options.get("batch_transform")
        options["batch_transform"] = _ToJax(sharding, shared, bfloat16, transform)
        self._devices = part.devices
        super().__init__(slots, batch_size, **options)
        devices = part.devices * (part.world_size if shared else 1)
        if devices > 1 and transform is None:
            self.refuse_lists("devices divide arrays of one shape among them")
        if devices > 1 and self.share.last == "keep":
            raise SpecError(
                f"last='keep' makes a last batch of any size, which {devices} devices cannot divide among them: pass "
                "last='drop' or last='pad'"
            )

    def share_at(self, epoch: int) -> Share:
        """Return the positions of each batch of this rank in an epoch.

        Raises:
            SpecError: see `arraystore.Loader`; or the devices of this process cannot divide a batch among them.
        """
        share = super().share_at(epoch)
        if share.batch_size % self._devices:
            raise SpecError(
                f"batch_size={share.batch_size} cannot be divided among {self._devices} devices of this process: "
                f"choose a multiple of {self._devices}"
            )
        return share


@dataclass(frozen=True, slots=True)
class _Part:
    """The part of each batch that this process holds.

    Attributes:
        devices: how many devices of this process hold different slots.
        rank: of this process.
        world_size: how many ranks there are.
    """

    devices: int
    rank: int
    world_size: int


def _part(sharding: Sharding, process: int, alone: _Part) -> _Part:
    """Return the part of axis 0 that this process holds.

    Args:
        sharding: how batches are divided.
        process: the number of this one.
        alone: its part if no other process holds any slots.
    """
    # An axis 0 as long as there are devices: every device that holds slots of its own has some.
    starts_of: dict[int, set[int]] = {}
    for device, (rows,) in sharding.devices_indices_map((sharding.num_devices,)).items():
        starts_of.setdefault(device.process_index, set()).add(rows.start or 0)
    if process not in starts_of:
        raise SpecError("the sharding has no device of this process: it has nothing to load")
    if sharding.is_fully_addressable:
        return replace(alone, devices=len(starts_of[process]))
    kinds = sorted({tuple(sorted(starts)) for starts in starts_of.values()})
    starts = [start for kind in kinds for start in kind]
    if len(set(starts)) != len(starts) or len({len(kind) for kind in kinds}) > 1:
        raise SpecError(
            "the sharding gives processes parts of a batch that overlap or differ in size: use a mesh in which each "
            "process has whole rows of devices"
        )
    return _Part(len(kinds[0]), kinds.index(tuple(sorted(starts_of[process]))), len(kinds))


@dataclass(frozen=True, slots=True)
class _ToJax:
    """Hands a batch to JAX, after the user's own ``batch_transform``."""

    sharding: Sharding | Device | None
    shared: bool
    bfloat16: bool
    first: Callable[[Any], Any] | None

    def __call__(self, batch: Any) -> Any:
        jax = framework("jax")
        if self.bfloat16:
            batch = self._viewed(batch, jax.numpy.bfloat16.dtype)
        if self.first is not None:
            batch = self.first(batch)
        if self.shared:
            return jax.tree.map(partial(jax.make_array_from_process_local_data, self.sharding), batch)
        # If JAX uses the memory of the arrays without a copy, it keeps them, so the buffer is not used again before.
        return jax.device_put(batch, self.sharding)

    def _viewed(self, batch: Any, dtype: Any) -> Any:
        if isinstance(batch, dict):
            return batch | {"images": batch["images"].view(dtype)}
        if isinstance(batch, tuple):
            return batch[0].view(dtype), *batch[1:]
        return batch.view(dtype)
