"""Tables with images in them: Parquet, and streams of Arrow, which `datasets` opens in place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from arraystore._common.lazy import lazy
from arraystore._exporting.columns import Columns
from arraystore._exporting.runs import Run
from arraystore._exporting.writing import hugging_face
from arraystore._exporting.writing.shards import Shards

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.ipc as pa_ipc
    import pyarrow.parquet as pa_parquet
else:
    pa, pa_ipc, pa_parquet = lazy("pyarrow"), lazy("pyarrow.ipc"), lazy("pyarrow.parquet")

# Of a group of rows, which is what a reader takes into memory at once to see one of them.
_GROUP_BYTES = 16 << 20
_GROUP_ROWS = 1000


class Tables:
    """Writes batches of rows to files of one schema, in groups that depend on the rows alone.

    Args:
        shards: the files.
        form: of them.
        schema: of the rows.
    """

    def __init__(self, shards: Shards, form: Literal["parquet", "arrow"], schema: pa.Schema) -> None:
        self._shards, self._form, self._schema = shards, form, schema
        self._writer: Any = None
        self._waiting: list[pa.RecordBatch] = []
        self._rows = self._bytes = 0

    def add(self, batch: pa.RecordBatch, sizes: Sequence[int]) -> None:
        """Take rows, each of about so many bytes."""
        start = 0
        for at, size in enumerate(sizes):
            if self._shards.wants_next(size):
                self._take(batch, start, at)
                start = at
                self._open_next()
            self._rows, self._bytes = self._rows + 1, self._bytes + size
            if self._rows >= _GROUP_ROWS or self._bytes >= _GROUP_BYTES:
                self._take(batch, start, at + 1)
                start = at + 1
                self._write()
        self._take(batch, start, len(sizes))

    def finish(self) -> None:
        """Write what waits, and close the files."""
        if self._writer is None:
            self._open_next()  # a table without rows
        self._close()
        self._shards.finish()

    def abandon(self) -> None:
        """Close the files as they are, because the export has failed; nothing to do after `finish`."""
        if self._writer is not None and self._form == "parquet":
            self._writer.is_open = False  # otherwise it writes to the closed file when it is deleted
        self._writer = None
        self._shards.abandon()

    def _take(self, batch: pa.RecordBatch, start: int, stop: int) -> None:
        if stop > start:
            self._waiting.append(batch.slice(start, stop - start))

    def _write(self) -> None:
        if self._waiting:
            group = pa.Table.from_batches(self._waiting, self._schema).combine_chunks()
            self._writer.write_table(group, max(len(group), 1))
        self._waiting.clear()
        self._rows = self._bytes = 0

    def _open_next(self) -> None:
        self._close()
        file = self._shards.open_next()
        if self._form == "arrow":
            self._writer = pa_ipc.new_stream(file, self._schema)
        else:
            self._writer = pa_parquet.ParquetWriter(
                file,
                self._schema,
                compression="none",  # JPEG and PNG are as small as they get
                use_dictionary=False,
                write_statistics=[name for name in self._schema.names if name != hugging_face.IMAGE],
            )

    def _close(self) -> None:
        if self._writer is not None:
            self._write()
            self._writer.close()
            self._writer = None
        self._shards.close()


class ImageTables:
    """Writes an export as tables. It is a writer, see `arraystore._exporting.forms`."""

    def __init__(self, shards: Shards, form: Literal["parquet", "arrow"], columns: Columns, suffix: str) -> None:
        self._shards, self._columns, self._suffix = shards, columns, suffix
        self._schema = hugging_face.schema_of(columns)
        self._tables = Tables(shards, form, self._schema)

    def add(self, run: Run) -> None:
        """See `arraystore._exporting.forms`."""
        names = [stem + self._suffix for stem in run.stems]
        first = hugging_face.image_column(run.images, names)
        batch = hugging_face.batch_of(self._schema, self._columns, names, first, run.values)
        sizes = [len(image) for image in run.images]
        for column in self._columns.masks:
            sizes = [size + len(mask) for size, mask in zip(sizes, run.values[column.name], strict=True)]
        self._tables.add(batch, sizes)

    def finish(self) -> None:
        """See `arraystore._exporting.forms`."""
        self._tables.finish()

    def abandon(self) -> None:
        """See `arraystore._exporting.forms`."""
        self._tables.abandon()

    @property
    def files(self) -> int:
        """How many there are."""
        return self._shards.files

    @property
    def size_bytes(self) -> int:
        """What they hold."""
        return self._shards.size_bytes
