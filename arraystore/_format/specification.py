"""Every byte on disk that is not a pixel. This text is the specification of format version 1.

A store is a folder::

    train.store/
      store.json        the description of the store (below)
      images.npy        the pixels; or, if slots are encoded:
      encoded.npy, offsets.npy, shapes.npy and sums.npy    the JPEGs of all slots, and what goes with them (below)
      status.npy        uint8 (N,): 1 stored, 2 failed (its pixels are zeros); 0 is empty, never in a published store
      checksums.npy     uint64 (N,): xxh3_64, seed 0, of each slot's bytes: of its pixels, or of its JPEG
      TARGET.npy        one file for each target, axis 0 = N; `labels.npy` holds the main one; or, if it is ragged:
      TARGET.values.npy and TARGET.offsets.npy    the items of all slots, and where those of each slot lie
      samples.parquet   row i describes slot i
      dropped.parquet   only where bad sources were dropped: `row` in the manifest, `source`, `bytes`, `mtime`, `reason`

or one HDF5 file with the same names: datasets `images`, `status`, `checksums` and `targets/NAME` (`targets/NAME/values`
and `targets/NAME/offsets` if it is ragged), groups `samples` and `dropped` with one dataset a column, and a scalar
string dataset `store.json`; if slots are encoded, `encoded`, `offsets`, `shapes` and `sums` in place of `images`.

**images.npy** is a NumPy file, format 1.0: uint8, C order, shape (N, C, H, W), or (N, H, W, C) where `layout` is NHWC.
Its header MUST be the one that NumPy writes, padded with spaces so that the pixels start at byte 4096, which is a page
boundary. Slot i starts at 4096 + i x slot bytes, and the file MUST end with the last slot. In HDF5, `images` MUST be
contiguous, allocated early and without filters, and starts at a multiple of 4096; its byte offset is
`dset.id.get_offset()`. The HDF5 file has a superblock of version 2, and MUST end where the superblock says.

**Encoded slots** are JPEGs. A store has them if its `spec` has `encode`, an object with `quality`, `subsampling`,
`restart`, and `source` only where it is true. It then has no images.npy, and four files in its place::

    encoded.npy       uint8 (bytes,): the JPEGs of all slots, one after the other in the order of slots. Its header is
                      as that of images.npy, so that the first JPEG starts at byte 4096, and the file MUST end with
                      the last one
    offsets.npy       uint64 (N + 1,): where the JPEG of each slot begins, counted from byte 4096; the last is the end
    shapes.npy        int32 (N, 2): height and width of each slot; or (N, 3) where sources are kept as they are (below)
    sums.npy          uint64 (N, C, 2): of each channel of a slot before it was encoded, the sum of its pixels and that
                      of their squares; zeros if the slot failed

The JPEG of slot i has the bytes from offsets[i] up to offsets[i + 1]; a slot of status 2 has none, and readers give its
pixels as zeros. Offsets MUST begin with 0, MUST NOT fall, and MUST end with the number of bytes; a reader MUST refuse a
slot whose offsets fall or lie outside the file. In HDF5, the four datasets have the same types and shapes; `encoded`
MUST be contiguous, as `images` is, and offsets count from its first byte. A writer sets restart markers after every so
many columns of blocks as divide the columns, at most `restart`, so that each row of blocks begins behind a marker. A
reader MUST NOT rely on that, and takes any JPEG of the slot's sides. `shape` in store.json is that of a decoded slot;
`mean` and `std` are those of the pixels before they were encoded, which the sums give again without decoding.

**Slots of different shapes**: where `fit` in `spec` is "keep", slots are encoded and differ in height and width.
shapes.npy has those of each slot, and zeros of one of status 2; in `shape` both are null. `size` is one number, the
length of the shorter side, or the length that it had if that was less; the aspect ratio is that of the image. A reader
MUST refuse a slot whose JPEG has other sides than shapes.npy says. If `encode` has `source`, JPEGs are the bytes of
their sources, `size` is null, and shapes.npy has a third column: the orientation of EXIF, from 1 to 8, by which the
decoded image is turned to have that height and width; 0 of a slot of status 2. Sources of other formats were encoded,
and have the orientation 1.

**store.json** is UTF-8 JSON of at most 64 MiB, an object with these members; a reader MUST refuse a `format_version`
that it does not know and MUST ignore members that it does not know:

    format            "arraystore"
    format_version    1
    writer            name and version of the program that wrote it
    count             N
    shape             [C, H, W], or [H, W, C] where `layout` is NHWC: the shape of one slot; null for sides that differ
    spec              how images became slots: the fields of ImageSpec
    targets           name → {"dtype", "shape"}; of a ragged target, of its values, and "ragged": true
    classes           name of a target → names of its codes, code 0 first; or of its columns, where it is uint8 of
                      shape [N, names], with 1 where a row has a name; or of the numbers of masks, from 0 on
    mean, std         a number for each channel, 0 to 255, over all stored slots
    manifest_digest   xxh3_128, hexadecimal, of the manifest that was built, before any row was dropped
    root              the folder that relative sources start from, or null
    failed            how many slots have status 2
    origin            the folder or table from which the whole manifest was made, or null; optional
    left_out          suffix, with its dot or "" → how many files of the folder were no images; optional
    masks             name of a target that is a mask of each image → the number where there is no image; optional
    source_pixels     name of a target → "boxes" (left, top, right, bottom) or "keypoints" (x, y), where these are in
                      pixels of the upright source image and not of the slot; optional
    from_files        false where the sources are no files under `root` that `spec` makes the same pixels of: members of
                      archives, rows of tables, slots of other stores; optional
    source_options    how the sources were listed, for an update that is to list them likewise (below); optional
    resized           true where `spec` made the slots of slots of other sizes, so that it does not say which part of
                      its source image each shows; optional
    masks_are_files   false where a mask is no file, but an array, bytes, or part of another file; optional
    digests           name → xxh3_128, hexadecimal, of everything in the store except the pixels and this text; optional
    digest            xxh3_128, hexadecimal, of this text, with these 32 digits as zeros; present if `digests` is

**Options of the sources** are the members of `source_options`, each only where the caller gave it:

    root              the absolute folder that relative paths start from
    path_column       the column of paths in a table
    suffix            what was added to each path that did not end in it
    separator         of the cells of a CSV
    where             name of a column → the text that its cells must have
    allow_empty       true where class folders may be empty
    targets           the columns that became targets: a list of names, or name → kind
    classes           the names of the targets whose codes were fixed by the caller
    given             the names of the targets that the caller gave beside the sources; a source cannot give them
    decoders          of the files that functions of the caller decoded: suffixes, such as ".dcm", and first bytes, such
                      as "0x53494d" in hexadecimal digits. The functions are not recorded

**Ragged targets** have any number of items for each slot, such as boxes. The values are (total, ...), the items of all
slots in the order of slots. The offsets are int64 (N + 1,), little endian; the items of slot i are those from
offsets[i] up to offsets[i + 1]. A reader MUST refuse offsets that do not begin with 0, that fall, or that do not end
with total.

**Digests** have seed 0 and prove what `checksums` does not. In a folder, `digests` has the names of all files except
images.npy, encoded.npy and store.json, and a digest is taken of the file's bytes. In HDF5, it has the names of all
datasets except `images`, `encoded` and `store.json`, such as `status`, `targets/labels` and `samples/source`, and a
digest is taken of these bytes: a line of ASCII JSON, such as `["<u8", [12]]` and a line feed, with the type as NumPy
writes it ("string" for strings) and the shape; then the values in C order, in the bytes of that type; for strings, the
length of each as uint64, little endian, and its bytes. The 32 digits of `digest` are at the last place in the text
where they occur. HDF5 has checksums for its own structure, except its global heaps. Nothing covers bytes that no reader
uses: attributes, gaps between datasets, padding in a heap.

**samples.parquet** columns: `source` (string; binary where a name is not valid UTF-8), `label` (string, only if the
labels have classes), `height` and `width` (uint32, of the upright image, 0 if it failed), `bytes` (uint64, of the
encoded source), `mtime` (timestamp in µs, UTC; null if the source is not a file), `hash` (uint64, xxh3_64 of the
encoded source; null if it was an array or could not be read), `reason` (string, null unless the slot failed), `note`
(string, null unless the decoder noticed something in an image that is stored; the column is left out where no image has
one). Where images have masks, for all masks of an image, in the order of the names of their targets: `mask_stamp`
(uint64, xxh3_64 of two int64 for each mask, the bytes of its file and the time of its last change in µs, or what tells
another mask that is no file), `mask_hash` (uint64, xxh3_64 of what the masks hold, one after the other: of files their
bytes; 0 if one was not read) and `mask_checksum` (uint64, xxh3_64 of the
numbers). Then follows one column for each text of the manifest, and one for each target of masks with the paths of
their files, or such as `array 3`; where its name is that of a column above, `_text` stands behind it. `dropped.parquet`
has a column `mask_stamp` too.

**Masks** are targets of shape (N, H, W), uint8 or uint16, with the height and width of slots: the number of each pixel
in the file of the mask, moved as the pixels of its image are. Where there is no image, beside a padded one or in a slot
of status 2, they have the number in `masks`. In a folder, TARGET.npy of a mask has a header as that of images.npy. In
HDF5, its dataset MUST be contiguous. Where slots have different shapes, masks are a ragged target of single numbers: a
row has as many as shapes.npy says, the rows of the mask one after the other, and none in a slot of status 2.

**Under construction** a store lies in `TARGET.partial/`, together with these files, which are deleted when it is
published:

    plan.json         the key of the build; without this file, the folder holds no work. `finished` is the xxh3_128 of
                      store.json, once the store is whole and is about to get its name; `replaces` is then [device,
                      inode] of the store that has the name, or null. `beside` is in the plans of stores that one call
                      builds: a list of what `finished` will be of each of them
    ledger.npy        one row for each slot (`ledger_dtype`), with a check and the hash of its source (`name_hash`)
    encoded.log       the JPEGs of encoded slots in the order in which they were made, from byte 4096 on; for HDF5, from
                      byte 12288 on. Fields of the ledger's row say where that of a slot lies: `begin`, uint64, counted
                      from there, and `length`, uint64. If the JPEGs lie in the order of slots and without gaps, the
                      file becomes encoded.npy, or encoded.h5, by a rename before the store is published; otherwise they
                      are copied
    reasons.jsonl     {"slot": i, "reason": text}, a line for each slot that failed; and {"name": hash, "checksum":
                      number, "note": text} for a slot that is stored although its decoder noticed something; name and
                      checksum are those of its row of the ledger
    lock              locked (flock) by the build that is running: {"host", "pid", "began", "system"}
    followers         locked (flock, shared) by each process that reads claimed slots while another one fills the store
    filler.sock       where these processes send what they have decoded to the one that fills
    TARGET.npy        the masks of a target, written as the pixels are; for HDF5 it is copied at the end. Where slots
                      have different shapes, the numbers of all masks of a slot follow its JPEG in encoded.log instead
    moved.npy         pixels of slots that an earlier update has filled, on their way to other slots

A row of the ledger *claims* its slot if its `check` is the xxh3_64 of the row's other bytes, with the slot's number as
the seed. Rows may be torn or lost at any byte: a row that is not whole claims nothing, and every whole row can be read
by itself. The order of writing is fixed:

1. pixels or JPEGs, and masks, of finished runs, then fsync of their files;
2. lines of `reasons.jsonl`, then fsync;
3. rows of the ledger, then fsync;
4. when every slot is claimed, all other files, each with fsync, then fsync of the folder.
   Where one call builds several stores, this comes first for all of them, then `beside` in each plan.json, with fsync,
   and then what follows for one store after the other;
5. `finished` in plan.json, then fsync;
6. one rename, or one exchange of names with the store that is replaced, then fsync of the folder around it. After that
   the replaced store is deleted, and then the files above, plan.json last.

While a store under a name, or the partial folder of an HDF5 store, has a plan.json whose `finished` is the digest of
that store, the deleting is still to be done. On a volume that cannot exchange names, the replaced folder is first
renamed to `TARGET.partial.replaced`; if nothing has the target's name, it gets the name back.

A claim is withdrawn (its check set to zero, then fsync) before its slot is written again. A file of a published store
is never changed in place.

These rules give three guarantees. *A process is killed*: the next call keeps every claimed slot and decodes only the
others. A slot is claimed about a second after its pixels are written, so about a second of work is repeated. *The power
fails*: the same, on a volume that keeps what it has synced; the target is the whole new store, or what it was before.
*A volume loses what it has synced*: `verify` finds the damage, because each slot has a checksum.

Nothing is pickled; every array is read with `allow_pickle=False`; sizes are checked against the file before mapping.
"""

EMPTY, STORED, FAILED = 0, 1, 2
FORMAT_VERSION = 1
