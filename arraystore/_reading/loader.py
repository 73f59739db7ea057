"""The loader: order → read ahead → gather → augment → hand over, in threads, a bounded number of batches at a time."""

from __future__ import annotations

import mmap
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Any, Generic, TypeVar, Unpack, cast, overload

import numpy as np
import numpy.typing as npt

from arraystore._augmenting.fitting import augmented_column
from arraystore._augmenting.followers import Follower
from arraystore._common.checks import whole_number
from arraystore._common.limits import available_memory_bytes, usable_cpus
from arraystore._common.options import complete, public, shows_options
from arraystore._common.ragged import Ragged
from arraystore._ordering.by_epoch import ByEpoch, checked_by_epoch, first_epochs, is_by_epoch, value_at
from arraystore._ordering.order import BlockShuffle, Order, Sequential, Shuffle, Skip
from arraystore._ordering.ranks import Share, ranks
from arraystore._ordering.weighted import Weighted, balanced
from arraystore._reading.batches import BatchMaker, PerImage
from arraystore._reading.frames import Frames
from arraystore._reading.options import BatchSize, Common, LoaderOptions, One, Several, Targets
from arraystore._reading.read_ahead import ReadAhead, check_ahead
from arraystore._reading.slot_arrays import Array, HasSlots, Index, SlotArrays
from arraystore._workers.buffers import BufferPool
from arraystore._workers.pipeline import Pipeline
from arraystore.errors import Option, SpecError

_IN_FLIGHT_BYTES = 64 << 20
_KEPT_BUFFERS = 3  # for batches that are asked for by number
_SKIPPED_STEPS_LIMIT = 8  # of reading ahead, while all slots are in memory already
_COPYING_THREADS_LIMIT = 8  # more threads that only copy would wait for the memory

B_co = TypeVar("B_co", covariant=True)
Pair = tuple[Array, Array]
Named = dict[str, Array]


@public
class Loader(Generic[B_co]):
    """Batches of slots, epoch after epoch: each ``for`` over it is one epoch, and the next has the next order.

    A batch is ``(images, labels)``, or ``images`` alone if the slots have no labels or with ``targets=()``. With the
    name of a target in ``targets``, that target takes the place of the labels. With a list of names, a batch is a dict
    of ``"images"`` and these targets. A `Ragged` target is a list with an array for each image. Type checkers cannot
    know whether there are labels, and assume them; pass ``targets=()`` for images alone.

    The arrays are C-order and writable. They are yours for as long as you keep them, or anything made of them: no
    later batch overwrites them. When the last reference goes, their memory is used again, so a loop that keeps no
    batch allocates no memory.

    The threads of an iteration end with it: at its end, when the loop is left early, at any error, and when it is
    deleted. That waits up to 10 seconds for running calls of your functions. A thread that is stuck in one is left
    alone then, with a warning in the log; it does not keep the process from ending. A `Loader` can be pickled, and a
    forked process can iterate over it.

    Args:
        slots: a store, or a choice of stores. Slots without an image are never drawn.
        batch_size: how many images a batch of this rank has. Or a mapping from epochs to such numbers, each of which
            holds from its epoch on, the first from epoch 0, such as ``{0: 512, 6: 384}``; or a function of the epoch
            that returns always the same. ``len(loader)`` is that of the current epoch.
        shuffle: True draws the slots in a new order each epoch, False from the first to the last.
        seed: of every order and every augmentation. The same seed gives the same batches, for any number of threads
            and ranks.
        last: what to do with a last batch that is not full: ``"keep"`` it shorter, ``"drop"`` it, or ``"pad"`` it with
            the first slots of the epoch. Ranks that must stay in step need ``"drop"`` or ``"pad"``.
        targets: the name of a target, several names, or ``()`` for none; None for the labels.
        augment: changes the images; see `Augment`. Targets that are masks (see `Masks`) follow the images. Where its
            crop has sizes by epoch, the shape of the batches changes between epochs.
        transform: a function of one image, (H, W, C), its own copy, that returns an array; all results must have one
            shape and dtype. If it has a parameter ``rng``, it gets a generator of its own for each image, seeded by
            seed, epoch and slot. Masks are not changed with the image: leave crops and flips to ``augment``.
        batch_transform: a function of a whole batch; the loader yields its result.
        weights: (n,): how often each slot is drawn, in proportion.
        balance: True draws each class of the labels equally often.
        replacement: with weights or balance, whether a slot may be drawn more than once an epoch.
        draws: with weights or balance, how many slots an epoch draws; None for as many as there are.
        block: shuffles blocks of so many neighboring slots, and then the slots of each ``window`` of blocks, for disks
            and networks that are slow to seek.
        window: how many blocks are shuffled together.
        rank: the number of this process among those that share each epoch; None asks torch.distributed, if it is in
            use.
        world_size: how many processes share each epoch; None as for ``rank``. The order is the same for any number:
            each rank has its part.
        workers: how many threads fill batches; None for one per processor, and at most 8 if they only copy.
        in_flight: how many batches may be begun and not yet handed over; None for 3 to 16, by their size.
        ahead: how slots are read before they are needed: ``"advise"`` tells the system, ``"read"`` reads in threads,
            ``"auto"`` advises where that works and reads otherwise, ``"off"`` does nothing. Slots in memory are
            skipped.
        ahead_bytes: how many bytes are read ahead at most.
        drop_behind: True gives the pages of slots that were read back to the system, so that other programs keep
            theirs.
        frame: makes augmented samples once for several epochs; see `Frame`. The order is then that of its samples.
        control: the path of a JSON file that is read at the end of each epoch, to change a `Frame` or to stop: it may
            have ``"stop"``, ``"epochs"``, ``"per_class"``, and the keyword-only parameters of ``transform`` whose
            defaults are numbers, which it is called with.
        cache: bytes of RAM, or a text such as ``"8 GB"``, for a copy of the slots that are read first; of an encoded
            store it has the JPEGs.
        allocate: bytes → writable uint8 array, for the buffers of batches; None for ordinary memory.

    Attributes:
        order: the slot of each position of an epoch.

    Raises:
        SpecError: an option is invalid, or does not go with another option or with the slots.
        SpaceError: there is not enough free memory for the cache.
    """

    @overload
    def __init__(
        self: Loader[Pair],
        slots: HasSlots,
        batch_size: BatchSize = ...,
        *,
        targets: One = ...,
        **options: Unpack[Common],
    ) -> None: ...
    @overload
    def __init__(
        self: Loader[Array],
        slots: HasSlots,
        batch_size: BatchSize = ...,
        *,
        targets: tuple[()],
        **options: Unpack[Common],
    ) -> None: ...
    @overload
    def __init__(
        self: Loader[Named],
        slots: HasSlots,
        batch_size: BatchSize = ...,
        *,
        targets: Several,
        **options: Unpack[Common],
    ) -> None: ...
    @overload
    def __init__(
        self: Loader[Any], slots: HasSlots, batch_size: BatchSize = ..., **options: Unpack[LoaderOptions]
    ) -> None: ...
    @shows_options(LoaderOptions)
    def __init__(self, slots: HasSlots, batch_size: BatchSize = 256, **options: Unpack[LoaderOptions]) -> None:
        every = complete("a loader", LoaderOptions, options)
        check_ahead(every["ahead"])
        arrays = slots.__slot_arrays__
        seed, augment, transform = every["seed"], every["augment"], every["transform"]
        names, single = batch_targets(arrays, every["targets"])
        self._frames: Frames | None = None
        if every["frame"] is not None:
            self._frames = every["frame"].__frames__(arrays, every, names)
            arrays, augment, transform = self._frames.template(0), self._frames.augment, None
        elif every["control"] is not None:
            raise SpecError("control changes the frames of a loader, and there is none: pass frame=Frame(…)")
        if every["weights"] is not None or every["balance"]:
            order = _weighted(arrays, every)
        elif every["draws"] is not None:
            raise SpecError("draws was passed without weights or balance: an epoch draws every slot once")
        else:
            order = _uniform(arrays, every)
        if not arrays.layout and (augment is not None or (transform is not None and len(arrays.slot_shape) == 3)):
            raise SpecError(
                "the layout of these slots is not known, and augment and transform need it: pass layout='NCHW' or "
                "'NHWC' to arraystore.open_array"
            )
        arrays.check_normalize(augment is not None and augment.normalize)
        for name in augment.follow if augment is not None else ():
            if name in arrays.source_pixels:
                raise SpecError(
                    f"the target {name!r} is in pixels of the source images, and only pixels of slots can follow: take "
                    "the loader of store.in_slot_pixels()"
                )
        only_copies = augment is None and transform is None and every["batch_transform"] is None and not arrays.decodes
        followed: dict[str, Follower] = {name: "mask" for name in names if name in arrays.masks}
        if augment is not None and followed:
            augment = replace(augment, follow={**followed, **augment.follow})
        rank, world_size = ranks(every["rank"], every["world_size"])
        self._slots = arrays if every["cache"] is None else arrays.cached(every["cache"])
        self.order: Order = order
        self._augment = None if augment is None or augment.is_identity else augment
        self._batch_sizes = _by_epoch(batch_size)
        first_size = value_at("batch_size", self._batch_sizes, 0, _images)
        planar = (arrays.layout if augment is None else augment.layout or arrays.layout) == "NCHW"
        self._maker = BatchMaker(
            self._slots,
            self.order,
            Share(order.count, first_size, rank, world_size, every["last"]),
            seed,
            names,
            single,
            None if self._augment is None else self._augment.at_epoch(0),
            None if transform is None else PerImage(transform, planar=planar),
            every["batch_transform"],
            every["workers"] or (min(usable_cpus(), _COPYING_THREADS_LIMIT) if only_copies else usable_cpus()),
        )
        self._in_flight = every["in_flight"]
        self._ahead = every["ahead"]
        self._ahead_bytes = every["ahead_bytes"]
        self._drop_behind = every["drop_behind"]
        self._allocate = every["allocate"]
        self._pool: BufferPool | None = None
        self._iterations = 0
        self._told: int | None = None  # the epoch that a store which is being filled knows the order of
        # The position after the last batch that was handed over, and where the next iteration begins.
        self._at = self._next = (0, 0)
        self._check_epochs()

    @property
    def batch_size(self) -> int:
        """How many images a batch of this rank has in the current `epoch`."""
        return self.share.batch_size

    @property
    def share(self) -> Share:
        """The positions of each batch of this rank in the current `epoch`."""
        return self.share_at(self.epoch)

    def share_at(self, epoch: int) -> Share:
        """Return the positions of each batch of this rank in an epoch.

        Raises:
            SpecError: the epoch is no whole number of 0 or more, or a function returned no batch size for it.
        """
        size = value_at("batch_size", self._batch_sizes, epoch, _images)
        return replace(self._maker.share, count=self._order_at(epoch).count, batch_size=size)

    def _order_at(self, epoch: int) -> Order:
        """Return the order of an epoch; it changes where a frame has another number of samples."""
        count = self.order.count if self._frames is None else self._frames.count(epoch)
        return self.order if count == self.order.count else replace(cast("Shuffle", self.order), n=count)

    def _maker_at(self, epoch: int) -> BatchMaker:
        """Return what makes the batches of an epoch; the last one is kept, because it knows the shapes of a batch."""
        share, maker = self.share_at(epoch), self._maker
        augment = None if self._augment is None else self._augment.at_epoch(epoch)
        slots = maker.slots if self._frames is None else self._frames.slots(epoch)
        if (maker.share, maker.augment) != (share, augment) or maker.slots is not slots:
            order = self._order_at(epoch)
            maker = self._maker = replace(maker, slots=slots, order=order, share=share, augment=augment)
        return maker

    @property
    def stopped(self) -> bool:
        """Whether the file that the option ``control`` names has asked to stop; it is read at the end of an epoch."""
        return self._frames is not None and self._frames.stopped

    @property
    def frame(self) -> Any:
        """The store of the frame that is being read; None before the first epoch, and without the option ``frame``."""
        return None if self._frames is None else self._frames.store

    def refuse_lists(self, why: str) -> None:
        """Refuse targets that are lists in a batch, for a framework that needs arrays.

        Raises:
            SpecError: there is one, and it says ``why`` that does not work.
        """
        ragged = min(self._maker.ragged, default=None)
        if ragged is not None:
            raise SpecError(
                f"the target {ragged!r} is ragged, a list of arrays in each batch, and {why}",
                advice="pass {0} with a function that pads its rows to one length, or leave it out of {1}",
                options=[Option("batch_transform", None), Option("targets", None)],
            )

    def keep_count(self, why: str) -> None:
        """Let no file of ``control`` change how many batches an epoch has; the reason is told where it tries."""
        if self._frames is not None:
            self._frames.keep_count(why)

    def end_epoch(self, epoch: int) -> None:
        """Take over what was asked for while an epoch was read; a ``for`` over the loader does it itself.

        For frameworks that ask for batches by number.

        Raises:
            BadImagesError: a store that was filled meanwhile has bad images, and its ``bad`` is ``"raise"``.
        """
        self._maker.slots.check_filled()
        if self._frames is not None:
            self._frames.ended(epoch)

    def _check_epochs(self) -> None:
        """Check the sizes of all epochs now: an error after days of training would come too late."""
        for epoch in first_epochs(self._batch_sizes):
            self.share_at(epoch)
        maker, augment = self._maker, self._augment
        for epoch in first_epochs(getattr(augment.crop if augment is not None else None, "sizes", None)):
            of_epoch = None if augment is None else augment.at_epoch(epoch)
            augmented_column(self._slots, of_epoch, maker.layout, transforms=maker.transform is not None)

    @property
    def epoch(self) -> int:
        """The epoch that is being read, or the next one if none is: from 0."""
        return self._at[0]

    @property
    def at(self) -> tuple[int, int]:
        """The epoch, and the position in it after the last batch that was handed over; `state_dict` returns it."""
        return self._at

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next ``for``. An iteration that is under way goes on, and no longer moves the position.

        Raises:
            SpecError: it is no whole number, or negative.
        """
        self._go_to(whole_number("epoch", epoch, 0), 0)

    def _go_to(self, epoch: int, position: int) -> None:
        self._at = self._next = (epoch, position)
        self._iterations += 1  # an older iteration does not move the loader

    def state_dict(self) -> dict[str, Any]:
        """Return the position after the last batch that was handed over, as a dict for JSON."""
        epoch, position = self._at
        return {
            "version": 1,
            "epoch": epoch,
            "position": position,
            "seed": self._maker.seed,
            "order": self.order.identity(),
            "slots": self._identity,
        } | ({} if self._frames is None else {"frames": self._frames.state()})

    @property
    def _identity(self) -> str:
        return self._slots.identity if self._frames is None else self._frames.identity

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from the state of another loader: the next ``for`` yields the batches that would have followed.

        The other loader may have had other ranks, another batch size and other threads, because a state has the
        position of all ranks together.

        Raises:
            SpecError: the state has other slots, another seed or another order; or it is no state.
        """
        try:
            version, epoch, position = state["version"], state["epoch"], state["position"]
            theirs, slots = (state["seed"], state["order"]), state["slots"]
        except (KeyError, TypeError) as error:
            raise SpecError(f"this is not the state of a loader: {error!r}") from error
        if version != 1:
            raise SpecError(f"the state has version {version!r}, this arraystore reads 1: upgrade arraystore")
        mine = (self._maker.seed, self.order.identity())
        if theirs != mine:
            raise SpecError(
                f"the state is of seed and order {theirs}, this loader has {mine}: make it with the same slots, seed, "
                "shuffle and weights"
            )
        if slots != self._identity:
            raise SpecError(
                "the state is of other slots: this loader has another store, or the store has been updated since; "
                "begin again at an epoch with set_epoch"
            )
        epoch = whole_number("epoch", epoch, 0)
        if self._frames is not None:
            self._frames.restore(state.get("frames", []), epoch)
        self._go_to(epoch, whole_number("position", position, 0, self._order_at(epoch).count))

    def __len__(self) -> int:
        """How many batches this rank gets in the current `epoch`."""
        return self.share.batches()

    def __repr__(self) -> str:
        batches = f"epoch {self.epoch} has {len(self):,} batches of {self.batch_size:,}"
        return f"<{type(self).__module__}.Loader of {self.order.count:,} slots an epoch, {batches}>"

    def __iter__(self) -> Iterator[B_co]:
        epoch, start = self._next
        if self._frames is not None and epoch:
            self._frames.ended(epoch - 1)  # where the loop was left before its end
        maker = self._maker_at(epoch)
        if maker.slots.is_filling:
            maker.slots.expect(partial(maker.upcoming, epoch, start))
        batch_bytes = maker.share.batch_size * maker.image_bytes
        in_flight = self._in_flight or min(max(_IN_FLIGHT_BYTES // batch_bytes, 3), 16)
        pool = self._buffer_pool(maker, in_flight)
        ahead = ReadAhead(maker.slots, self._ahead)
        also_run = None
        if ahead.active and self._ahead_bytes and maker.share.batches(start):
            also_run = partial(_read_ahead, maker, ahead, epoch, start, self._ahead_bytes)
        pipeline = Pipeline(
            maker.batches(epoch, start, pool, ahead.drop if self._drop_behind else _nothing),
            workers=maker.workers,
            in_flight=in_flight,
            also_run=also_run,
            on_stop=ahead.stop,
            on_end=ahead.close,
        )
        move_to = partial(self._move_to, self._iterations + 1)
        at_end = partial(self.end_epoch, epoch)
        iteration: _Iteration[B_co] = _Iteration(pipeline, maker.share, epoch, start, move_to, at_end)
        try:
            if also_run is not None:
                # Read the first batch before a thread needs it: a page fault would read megabytes of neighbors.
                ahead.read(maker.slots.base(maker.drawn(epoch, start, 0, 1)[1]), probe=False)
            pipeline.start()
            # Nothing has failed: from here on this iteration moves the position of the loader.
            self._at, self._next, self._iterations = (epoch, start), (epoch + 1, 0), self._iterations + 1
        except BaseException:
            iteration.close()
            raise
        return iteration

    def batch(self, number: int, *, epoch: int = 0) -> B_co:
        """Make one batch of an epoch by its number: the same batch as in an iteration over the whole epoch.

        For frameworks that ask for batches by number, in any order and in their own threads. The batch is made in the
        calling thread, and the position in `state_dict` does not change.

        Args:
            number: from 0 to one less than the batches of that epoch, ``len(loader)`` of them.
            epoch: its number.

        Raises:
            SpecError: there is no such batch, or no such epoch.
        """
        maker = self._maker_at(epoch)
        if maker.slots.is_filling and self._told != epoch:
            self._told = epoch
            maker.slots.expect(partial(maker.upcoming, epoch, 0))
        if self._frames is not None:
            self._frames.make_ahead(epoch)
        with closing(ReadAhead(maker.slots, self._ahead)) as ahead:
            # Many reads of a disk at once, instead of one page fault after the other.
            before_read = ahead.read if ahead.active else _nothing
            on_read = ahead.drop if self._drop_behind else _nothing
            pool = self._buffer_pool(maker, self._in_flight or _KEPT_BUFFERS)
            batch: B_co = maker.batch(epoch, number, pool, before_read, on_read)
            return batch

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_pool": None}

    def _buffer_pool(self, maker: BatchMaker, in_flight: int) -> BufferPool:
        columns = {name: ((maker.share.batch_size, *shape), dtype) for name, (shape, dtype) in maker.columns.items()}
        pool = self._pool
        if pool is None or pool.columns != columns:
            options = {} if self._allocate is None else {"allocate": self._allocate}
            # Two more than in flight: the batch that the loop has, and the one that it gets before it drops that.
            pool = self._pool = BufferPool(columns, spare=in_flight + 2, **options)
        return pool

    def _move_to(self, iteration: int, at: tuple[int, int]) -> None:
        if iteration == self._iterations:
            self._at = at
        if self._frames is not None:
            self._frames.make_ahead(at[0])


class _Iteration(Generic[B_co]):
    """One ``for`` over a loader; its threads end when it is freed."""

    def __init__(
        self,
        pipeline: Pipeline,
        share: Share,
        epoch: int,
        start: int,
        move_to: Callable[[tuple[int, int]], None],
        at_end: Callable[[], None],
    ) -> None:
        self._end = weakref.finalize(self, pipeline.stop)
        self._pipeline = pipeline
        self._share = share
        self._epoch, self._start = epoch, start
        self._move_to = move_to
        self._at_end = at_end
        self._taken = 0

    def __iter__(self) -> _Iteration[B_co]:
        return self

    def __next__(self) -> B_co:
        try:
            batch: B_co = self._pipeline.take()
        except StopIteration:
            is_whole = self._end.alive  # neither left early nor failed
            if is_whole:
                self._move_to((self._epoch + 1, 0))
            self._end()
            if is_whole:
                self._at_end()
            raise
        except BaseException:
            self._end()
            raise
        self._taken += 1
        self._move_to((self._epoch, self._share.after(self._taken, self._start)))
        return batch

    def __length_hint__(self) -> int:
        return self._share.batches(self._start) - self._taken

    def close(self) -> None:
        """End the threads and discard their batches."""
        self._end()


def _nothing(_base: Index) -> None:
    pass


def _by_epoch(batch_size: BatchSize) -> ByEpoch[int]:
    """Return the option ``batch_size``; one number holds from epoch 0 on."""
    given = batch_size if is_by_epoch(batch_size) else {0: _images(batch_size, "batch_size")}
    return checked_by_epoch("batch_size", given, _images)


def _images(value: Any, name: str) -> int:
    return whole_number(name, value, 1)


def _read_ahead(
    maker: BatchMaker, ahead: ReadAhead, epoch: int, start: int, limit_bytes: int, pipeline: Pipeline
) -> None:
    """Read the slots of all batches after the first before the batches are begun, some at a time.

    Runs in a thread of its own, at most ``limit_bytes`` ahead of the batches that are begun.
    """
    limit_bytes = min(limit_bytes, (available_memory_bytes() or 4 * limit_bytes) // 4)
    # The system reads whole pages, so a slot takes up to one page more than its bytes.
    slot_bytes = maker.slots.kept_bytes + mmap.PAGESIZE
    depth = max(int(limit_bytes / (slot_bytes * maker.share.batch_size)), 1)
    batches = maker.share.batches(start)
    first, together, skipped = 1, 1, 0
    while first < batches:
        stop = min(first + together, batches)
        if not pipeline.wait_begun(stop - depth):
            return
        _, slots = maker.drawn(epoch, start, first, stop)
        started = ahead.read(maker.slots.base(slots))
        # While all slots are in memory already, a look now and then is enough.
        skipped = 0 if started else min(max(2 * skipped, 1), _SKIPPED_STEPS_LIMIT)
        # Batches that are begun are being read; asking for their slots again would only delay the next ones.
        first = max(stop + skipped * together, pipeline.begun)
        together = min(2 * together, max(depth // 4, 1))


def batch_targets(slots: SlotArrays, targets: Targets) -> tuple[tuple[str, ...], bool]:
    """Return the meaning of the option ``targets`` of a `Loader`.

    Returns:
        the names of the targets; and True if a batch is the images alone or a tuple, False if it is a dict.

    Raises:
        SpecError: there is no such target, or the images are named among the targets.
    """
    if targets is None:
        return (("labels",) if "labels" in slots.target_names else ()), True
    names = (targets,) if isinstance(targets, str) else tuple(targets)
    for name in names:
        slots.column(name)
    if "images" in names:
        raise SpecError("targets are what comes with the images: leave 'images' out of them")
    return names, isinstance(targets, str) or not names


def _uniform(slots: SlotArrays, options: LoaderOptions) -> Order:
    unreadable = slots.unreadable()
    count, seed, block = len(slots) - len(unreadable), options["seed"], options["block"]
    order: Order
    if block is not None and not options["shuffle"]:
        raise SpecError("block was passed with shuffle=False: there is nothing to shuffle")
    if block is not None:
        order = BlockShuffle(count, seed, block, options["window"])
    else:
        order = Shuffle(count, seed) if options["shuffle"] else Sequential(count)
    return Skip(order, unreadable) if unreadable.size else order


def _weighted(slots: SlotArrays, options: LoaderOptions) -> Order:
    weights, balance = options["weights"], options["balance"]
    seed, draws, replacement = options["seed"], options["draws"], options["replacement"]
    if weights is not None and balance:
        raise SpecError("weights and balance=True were passed: choose one")
    values: npt.NDArray[Any]
    if balance:
        if "labels" not in slots.target_names:
            raise SpecError("balance=True needs labels, and these slots have none: pass weights")
        if slots.is_ragged("labels"):
            raise SpecError("balance=True needs one label for each image, and these are ragged: pass weights")
        values = slots.target("labels")
    elif isinstance(weights, Ragged):
        raise SpecError(f"weights must have a number for each of the {len(slots):,} slots, and these are ragged")
    else:
        values = np.asarray(weights)
        if values.shape != (len(slots),):
            raise SpecError(
                f"weights must have a number for each of the {len(slots):,} slots, not shape {values.shape}"
            )
    unreadable = slots.unreadable()
    values = np.delete(values, unreadable) if unreadable.size else values
    order: Order
    if balance:
        order = balanced(values, seed, count=draws, replacement=replacement)
    else:
        order = Weighted(values, seed, len(values) if draws is None else draws, replacement)
    return Skip(order, unreadable) if unreadable.size else order
