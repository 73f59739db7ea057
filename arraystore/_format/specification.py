"""Every byte on disk that is not a pixel. This text is the specification of format version 1.

A store is a folder::

    train.store/
      store.json        what this is (below)
      images.npy        the pixels
      status.npy        uint8 (N,): 1 stored, 2 failed (its pixels are zeros); 0 is empty, never in a published store
      checksums.npy     uint64 (N,): xxh3_64, seed 0, of each slot's bytes
      TARGET.npy        one file for each target, axis 0 = N; `labels.npy` holds the main one
      samples.parquet   row i describes slot i
      dropped.parquet   only where bad sources were dropped: `row` in the manifest, `source`, `bytes`, `mtime`, `reason`

or one HDF5 file with the same names: datasets `images`, `status`, `checksums` and `targets/NAME`, groups `samples` and
`dropped` with one dataset a column, and a scalar string dataset `store.json`.

**images.npy** is a NumPy file, format 1.0: uint8, C order, shape (N, C, H, W), or (N, H, W, C) where `layout` is NHWC.
Its header MUST be the one that NumPy writes, padded with spaces so that the pixels start at byte 4096, a page, and slot
i starts at 4096 + i x slot bytes. The file MUST end with the last slot. In HDF5, `images` MUST be contiguous, allocated
early and without filters, and starts at a multiple of 4096; its byte offset is `dset.id.get_offset()`. The HDF5 file
has a superblock of version 2 and MUST end where that says.

**store.json** is UTF-8 JSON of at most 64 MiB, an object with these members; a reader MUST refuse a `format_version`
that it does not know and MUST ignore members that it does not know:

    format            "arraystore"
    format_version    1
    writer            name and version of the program that wrote it
    count             N
    shape             [C, H, W] or [H, W, C]: the shape of one slot, as `layout` has it
    spec              how images became slots: the fields of ImageSpec
    targets           name → {"dtype", "shape"}
    classes           name of a target → names of its codes, code 0 first
    mean, std         a number a channel, 0 to 255, over all stored slots
    manifest_digest   xxh3_128, hexadecimal, of the manifest that was built, before any row was dropped
    root              the folder that relative sources start from, or null
    failed            how many slots have status 2
    origin            the folder or table that alone says all that was built, or null; optional
    digests           name → xxh3_128, hexadecimal, of all in the store that is neither a pixel nor this text; optional
    digest            xxh3_128, hexadecimal, of this text, with these 32 digits as zeros; where there are `digests`

**Digests** have seed 0 and prove what `checksums` does not. In a folder the names are those of all files but images.npy
and store.json, and a digest is of the file's bytes. In HDF5 the names are those of all datasets but `images` and
`store.json`, such as `status`, `targets/labels` and `samples/source`, and a digest is of these bytes: a line of ASCII
JSON, `["<u8", [12]]` and a line feed, with the type as NumPy writes it ("string" for strings) and the shape; then the
values in C order, in that type's bytes, or for strings of each its length as uint64, little endian, and its bytes.
The 32 digits of `digest` are where they last occur in the text. HDF5's own structure has HDF5's own checksums, but for
its global heaps; what no reader goes by is covered by nothing: attributes, gaps between parts, padding in a heap.

**samples.parquet** columns: `source` (string; binary where a name is not valid UTF-8), `label` (string, only where the
labels have classes), `height` and `width` (uint32, of the upright image, 0 if it failed), `bytes` (uint64, of the
encoded source), `mtime` (timestamp in µs, UTC; null where the source is no file), `hash` (uint64, xxh3_64 of the
encoded source; null where it was an array or could not be read), `reason` (string, null unless the slot failed), and
then one column for each text of the manifest.

**Under construction** a store lies in `TARGET.partial/`, beside these files, which go when it is published:

    plan.json         what is being built; the folder counts as begun once this has its name
    ledger.npy        a row a slot (`ledger_dtype`): what is known of it, sealed by a check of its own
    reasons.jsonl     {"slot": i, "reason": text}, a line for each slot that failed
    lock              held by the build that is running: {"host", "pid"}

A row of the ledger *claims* its slot if its `check` is the xxh3_64 of the row's other bytes, with the slot's number as
the seed. So rows may be torn or lost at any byte: what is not whole claims nothing, and nothing else is needed to read
the ones that are. The order of writing is fixed:

1. pixels of finished runs, then fsync of their file;
2. lines of `reasons.jsonl`, then fsync;
3. rows of the ledger, then fsync;
4. when every slot is claimed, all other files, each with fsync, then fsync of the folder;
5. one rename, then fsync of the folder around it. The files above are removed after it.

A claim is withdrawn (its check zeroed, then fsync) before its slot is written again. A file of a published store is
never changed in place.

What that promises. *A killed process*: every claimed slot is taken over by the next call, which decodes only the
others; a claim follows its pixels within about a second, so that much work is done twice. *Power loss*: the same,
on a volume that keeps what it has synced; the target is the whole new store, or what was there before. *A file system
that does not keep its word*: damage is found by `verify`, since each slot has a checksum.

Nothing is pickled; every array is read with `allow_pickle=False`; sizes are checked against the file before mapping.
"""

from __future__ import annotations

__all__ = ["EMPTY", "FAILED", "FORMAT_VERSION", "STORED"]

EMPTY, STORED, FAILED = 0, 1, 2
FORMAT_VERSION = 1
