"""The ledger and its neighbors, torn and damaged at every byte: only whole rows claim, and the next call mends all."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.faults import contents, wrong_claims
from support.store_contract import BAD, build, message_of

from arraystore import BadImagesError, ImageSpec, Store, StoreError
from arraystore._format.ledger import Ledger, claimed_rows, ledger_dtype, read_ledger, read_reasons, with_checks
from arraystore._format.slot_file import PAGE_BYTES
from arraystore._format.specification import EMPTY
from arraystore._stores.unfinished import partial

COUNT = 12
SPEC = ImageSpec(size=1)
DTYPE = ledger_dtype(SPEC)
ROW_BYTES = DTYPE.itemsize
SIZE = PAGE_BYTES + COUNT * ROW_BYTES
Rows = np.ndarray[Any, np.dtype[np.void]]


class Unfinished:
    """A build that stopped when all was done but to publish, to be copied, damaged and finished."""

    def __init__(self, source: Path, folder: Path, name: str) -> None:
        self.source, self.folder, self.name = source, folder, name
        for place in ("done", "kept"):
            (folder / place).mkdir()
        self.ram = build(source, bad="keep")
        build(source, folder / "done" / name, bad="keep")
        self.oracle = contents(folder / "done")
        with pytest.raises(BadImagesError):
            build(source, folder / "kept" / name)
        self.partial = partial.partial_of(folder / "kept" / name)

    def read(self, file: str) -> bytes:
        return (self.partial / file).read_bytes()

    def target(self) -> Path:
        """A copy that may be damaged; the one before is gone."""
        shutil.rmtree(self.folder / "copy", ignore_errors=True)
        shutil.copytree(self.folder / "kept", self.folder / "copy")
        return self.folder / "copy" / self.name

    def finish(self, file: str, data: bytes | None) -> None:
        """With this file damaged so, nothing wrong is claimed, and the same call makes the undisturbed bytes."""
        target = self.target()
        damaged = partial.partial_of(target) / file
        damaged.unlink() if data is None else damaged.write_bytes(data)
        if file != "plan.json" and data is not None:
            assert wrong_claims(target, self.ram) == []
        build(self.source, target, bad="keep")
        assert contents(target.parent) == self.oracle


@pytest.fixture(params=["x.store", "x.h5"])
def unfinished(mixed: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Unfinished:
    return Unfinished(mixed, tmp_path, request.param)


def claims(folder: Path, data: bytes) -> list[int]:
    (folder / "ledger").write_bytes(data)
    return np.flatnonzero(claimed_rows(read_ledger(folder / "ledger", COUNT, SPEC))).tolist()


def flipped(data: bytes, at: int, bits: int = 0xFF) -> bytes:
    return data[:at] + bytes([data[at] ^ bits]) + data[at + 1 :]


# --- the rows --------------------------------------------------------------------------------------------------------


@pytest.fixture
def ledger(tmp_path: Path) -> bytes:
    """A ledger that claims every slot."""
    file = Ledger(tmp_path / "whole", COUNT, SPEC)
    data = np.frombuffer(random.randbytes(COUNT * ROW_BYTES), np.uint8).reshape(COUNT, ROW_BYTES).copy()
    data[:, -1] |= 1  # a row that lacks nothing but zeros would be whole
    rows = data.reshape(-1).view(DTYPE)
    rows["status"] = 1 + rows["status"] % 2
    file.claim(0, rows)
    file.close()
    return (tmp_path / "whole").read_bytes()


def test_a_ledger_that_was_cut_claims_its_whole_rows(tmp_path: Path, ledger: bytes) -> None:
    assert len(ledger) == SIZE
    for length in range(PAGE_BYTES, SIZE + 1):
        assert claims(tmp_path, ledger[:length]) == list(range((length - PAGE_BYTES) // ROW_BYTES)), length
    for length in (0, 1, 9, 127, 128, 4095):
        assert claims(tmp_path, ledger[:length]) == []


def test_a_changed_byte_withdraws_its_row_alone(tmp_path: Path, ledger: bytes) -> None:
    for at in range(PAGE_BYTES, SIZE):
        row = (at - PAGE_BYTES) // ROW_BYTES
        others = [slot for slot in range(COUNT) if slot != row]
        assert claims(tmp_path, flipped(ledger, at, 1 << random.randrange(8))) == others, at
    for at in range(0, PAGE_BYTES, 37):  # the header says nothing that is not known
        assert claims(tmp_path, flipped(ledger, at)) == list(range(COUNT))


def test_rows_that_were_swapped_claim_nothing(tmp_path: Path, ledger: bytes) -> None:
    rows = np.frombuffer(ledger, DTYPE, offset=PAGE_BYTES).copy()
    for one, other in ((0, 1), (3, 11), (5, 6)):
        swapped = rows.copy()
        swapped[[one, other]] = rows[[other, one]]
        expected = [slot for slot in range(COUNT) if slot not in (one, other)]
        assert claims(tmp_path, ledger[:PAGE_BYTES] + swapped.tobytes()) == expected
    assert claims(tmp_path, ledger[:PAGE_BYTES] + np.roll(rows, 1).tobytes()) == []


def rows_of(least: int, most: int) -> st.SearchStrategy[Rows]:
    """Rows of any bytes: to draw each field by itself takes far longer."""
    return st.integers(least, most).flatmap(
        lambda count: st.binary(min_size=count * ROW_BYTES, max_size=count * ROW_BYTES).map(
            lambda data: np.frombuffer(data, DTYPE).copy()
        )
    )


@given(rows_of(0, 40), st.integers(0, 1000))
def test_what_is_sealed_is_claimed_at_its_slot_and_nowhere_else(rows: Rows, start: int) -> None:
    done = with_checks(rows, start)
    place = np.zeros(start + len(rows), DTYPE)
    place[start:] = done
    written = rows["status"] != EMPTY
    np.testing.assert_array_equal(claimed_rows(place)[start:], written)
    assert not claimed_rows(place)[:start].any()
    assert not claimed_rows(np.r_[np.zeros(1, DTYPE), place])[start + 1 :].any()
    assert not done["check"][~written].any()
    for name in DTYPE.names or ():
        if name != "check":
            np.testing.assert_array_equal(done[name], rows[name])


@given(st.data())
def test_no_garbage_is_a_claim(data: st.DataObject) -> None:
    rows = np.frombuffer(data.draw(st.binary(min_size=20 * ROW_BYTES, max_size=20 * ROW_BYTES)), DTYPE)
    assert not claimed_rows(rows).any()


@given(
    st.lists(
        st.one_of(
            st.tuples(st.integers(0, 29), rows_of(1, 12)),
            st.sets(st.integers(0, 29), max_size=9),
            st.none(),
        ),
        max_size=12,
    )
)
def test_a_ledger_keeps_what_was_claimed_and_not_withdrawn(acts: list[Any]) -> None:
    """Claims, withdrawals and reopening in any order, against a list that is kept beside it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.npy"
        file, expected, known = Ledger(path, 30, SPEC), np.zeros(30, DTYPE), np.zeros(30, bool)
        for act in acts:
            if act is None:
                file.close()
                path.write_bytes(bytes(100) + path.read_bytes()[100:])  # the header is made anew
                file = Ledger(path, 30, SPEC)
            elif isinstance(act, set):
                file.withdraw(np.array(sorted(act), np.int64))
                known[list(act)] = False
            else:
                start, rows = act
                rows = rows[: 30 - start]
                file.claim(start, rows)
                expected[start : start + len(rows)] = rows
                known[start : start + len(rows)] = rows["status"] != EMPTY
            np.testing.assert_array_equal(claimed_rows(file.rows), known)
        for name in DTYPE.names or ():
            if name != "check":  # what was withdrawn stays readable, too
                np.testing.assert_array_equal(file.rows[name], expected[name])
        np.testing.assert_array_equal(np.load(path, allow_pickle=False), file.rows)
        np.testing.assert_array_equal(read_ledger(path, 30, SPEC), file.rows)
        file.close()


# --- the next call ---------------------------------------------------------------------------------------------------

DAMAGE: dict[str, Callable[[bytes], bytes | None]] = {
    "gone": lambda _data: None,
    "empty": lambda _data: b"",
    "cut in the header": lambda data: data[: random.randrange(1, PAGE_BYTES)],
    "cut": lambda data: data[: random.randrange(PAGE_BYTES, SIZE)],
    "a byte": lambda data: flipped(data, random.randrange(PAGE_BYTES, SIZE)),
    "no header": lambda data: bytes(PAGE_BYTES) + data[PAGE_BYTES:],
    "a header of garbage": lambda data: random.randbytes(PAGE_BYTES) + data[PAGE_BYTES:],
    "rows of garbage": lambda data: data[: PAGE_BYTES + 3 * ROW_BYTES] + random.randbytes(9 * ROW_BYTES),
    "a sector of zeros": lambda data: data[: PAGE_BYTES + 512] + bytes(512) + data[PAGE_BYTES + 1024 :],
    "a page of zeros": lambda data: data[:PAGE_BYTES] + bytes(SIZE - PAGE_BYTES),
    "rows moved up": lambda data: data[:PAGE_BYTES] + data[PAGE_BYTES + ROW_BYTES :] + bytes(ROW_BYTES),
    "too long": lambda data: data + data,
}


def test_a_build_with_a_damaged_ledger_is_finished(unfinished: Unfinished) -> None:
    for damage in DAMAGE.values():
        unfinished.finish("ledger.npy", damage(unfinished.read("ledger.npy")))


def test_reasons_that_were_cut_are_those_of_whole_lines(unfinished: Unfinished) -> None:
    data, whole = unfinished.read("reasons.jsonl"), {bad.slot: bad.reason for bad in unfinished.ram.bad()}
    assert sorted(whole) == BAD
    file = unfinished.folder / "reasons"
    ends = np.cumsum([len(line) for line in data.splitlines(keepends=True)])
    for length in range(len(data) + 1):
        file.write_bytes(data[:length])
        reasons, _ = read_reasons(file)
        assert reasons.items() <= whole.items()
        assert len(reasons) == np.count_nonzero(ends - 1 <= length)  # the end of a line may be missing


def test_a_build_with_damaged_reasons_is_finished(unfinished: Unfinished) -> None:
    data = unfinished.read("reasons.jsonl")
    cuts = [data[: random.randrange(len(data))] for _ in range(4)]
    for damaged in (None, b"", data[:-1], b"\xff\n" + data, data + b'{"slot": 3, "rea', b"\0" * 700, *cuts):
        unfinished.finish("reasons.jsonl", damaged)


@given(st.lists(st.one_of(st.binary(), st.sampled_from([b'{"slot": 1e999, "reason": ""}', b"[" * 99_999, b"[]"]))))
def test_no_line_of_reasons_can_do_more_than_be_passed_over(lines: list[bytes]) -> None:
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(b"\n".join([*lines, b'{"slot": 3, "reason": "whole"}']))
        assert read_reasons(Path(file.name)) == ({3: "whole"}, {})


@pytest.mark.parametrize("unfinished", ["x.store"], indirect=True)
def test_a_plan_that_was_cut_is_told_with_what_to_do(unfinished: Unfinished) -> None:
    target = unfinished.target()
    plan = partial.partial_of(target) / "plan.json"
    data = plan.read_bytes()
    damaged = [data[:length] for length in range(0, len(data) - 1, 3)]
    for content in (*damaged, b"[]", b"{}", b"\xff" + data, bytes(len(data)), b"[" * 100_000):
        plan.write_bytes(content)
        before = contents(target.parent)
        with pytest.raises(StoreError, match=r"discard (this .+|it) with fresh=True$") as told:
            build(unfinished.source, target, bad="keep")
        assert str(told.value).startswith(str(plan.parent))
        assert before == contents(target.parent)
    build(unfinished.source, target, bad="keep", fresh=True)
    assert contents(target.parent) == unfinished.oracle


@pytest.mark.parametrize("unfinished", ["x.store"], indirect=True)
def test_a_plan_with_a_changed_byte_is_refused_or_harmless(unfinished: Unfinished) -> None:
    data = unfinished.read("plan.json")
    for at in random.sample(range(len(data)), 40):
        changed = flipped(data, at, 1 << random.randrange(8))
        message = message_of(StoreError, unfinished.finish, "plan.json", changed)
        assert not message or "with fresh=True" in message


def test_names_in_a_plan_lead_nowhere_else(unfinished: Unfinished, store_beside: Store) -> None:
    """What is discarded with fresh=True is what lies in the partial folder, whatever its plan says."""
    assert store_beside.path is not None
    for targets in (
        '["../../beside.store/checksums", "labels"]',
        f'{{"{store_beside.path}/checksums": 1}}',
        "5",
        "[1, null]",
    ):
        before = contents(store_beside.path)
        target = unfinished.target()
        (partial.partial_of(target) / "plan.json").write_text(f'{{"targets": {targets}}}')
        build(unfinished.source, target, bad="keep", fresh=True)
        assert contents(target.parent) == unfinished.oracle
        assert contents(store_beside.path) == before


@pytest.fixture
def store_beside(tmp_path: Path) -> Store:
    return build(np.zeros((1, 2, 2, 3), np.uint8), tmp_path / "beside.store")
