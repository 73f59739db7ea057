"""The plugin for pytest, in test runs of its own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arraystore._common.wording import readable
from arraystore.memory.measurement import Curve, Measurement
from arraystore.memory.pytest_plugin import _too_much

pytest_plugins = ["pytester"]

TAKE = """
import mmap, time
import pytest

def take(megabytes):
    # Held for several readings, as what a test takes usually is.
    block = mmap.mmap(-1, megabytes * 10**6, flags=mmap.MAP_PRIVATE)
    for at in range(0, len(block), mmap.PAGESIZE):
        block[at] = 1
    time.sleep(0.15)
"""


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makeconftest('pytest_plugins = ["arraystore.memory.pytest_plugin"]')
    return pytester


OPTIONS = ("-p", "no:cacheprovider", "-p", "no:randomly", "--strict-markers")


def run(suite: pytest.Pytester, tests: str) -> pytest.RunResult:
    suite.makepyfile(TAKE + tests)
    # A process of its own: what other tests have freed here is no memory that a test would have to ask for.
    return suite.runpytest_subprocess(*OPTIONS)


def test_growth_beyond_the_limit_fails_the_test(suite: pytest.Pytester) -> None:
    result = run(
        suite,
        """
@pytest.mark.memory_limit("30 MB")
def test_much():
    take(100)

@pytest.mark.memory_limit("300 MB")
def test_little():
    take(100)

@pytest.mark.memory_limit(30_000_000)
class TestMany:
    def test_in_a_class(self):
        take(100)

    @pytest.mark.memory_limit("300 MB")
    def test_the_closest_marker_counts(self):
        take(100)

def test_without_a_limit():
    take(100)

@pytest.mark.memory_limit("30 MB")
def test_its_own_failure_is_told():
    take(100)
    assert "its own failure" == ""

@pytest.fixture
def made():
    return take(100)

@pytest.mark.memory_limit("30 MB")
def test_what_was_set_up_before_does_not_count(made):
    assert made is None
""",
    )
    result.assert_outcomes(passed=4, failed=3)
    result.stdout.fnmatch_lines_random(
        [
            "*anonymous memory grew by 1?? MB, from * MB to * MB after 0.?? s, and memory_limit allows 30 MB",
            "E*its own failure*",
            "FAILED *test_much*",
            "FAILED *test_in_a_class*",
            "FAILED *test_its_own_failure_is_told*",
        ]
    )


def test_the_fixture_gives_the_running_trace(suite: pytest.Pytester) -> None:
    result = run(
        suite,
        """
from arraystore.memory.trace import MemoryTrace
traces = []

def test_that_watches(memory_trace):
    assert isinstance(memory_trace, MemoryTrace)
    take(100)
    traces.append(memory_trace)

def test_what_it_saw():
    measurement = traces[0].measurement
    assert 90e6 < measurement.peak() - measurement.start_bytes < 150e6

@pytest.mark.memory_limit("30 MB")
def test_both(memory_trace):
    take(100)

@pytest.mark.memory_limit("200 MB")
def test_both_within_the_limit(memory_trace):
    take(100)
""",
    )
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(["*anonymous memory grew by 1?? MB, from *and memory_limit allows 30 MB"])


def test_a_marker_that_cannot_be(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
import pytest

@pytest.mark.memory_limit
def test_none():
    pass

@pytest.mark.memory_limit(limit="30 MB")
def test_named():
    pass

@pytest.mark.memory_limit("a lot")
def test_words():
    pass
"""
    )
    result = suite.runpytest_inprocess(*OPTIONS)
    result.assert_outcomes(failed=3)
    result.stdout.fnmatch_lines_random(
        [
            "memory_limit takes one size: @pytest.mark.memory_limit('200 MB')",
            "memory_limit: a size in bytes must be a number, or a text such as '8 GB' or '500 MiB', not 'a lot'",
        ]
    )


def test_the_marker_is_listed(suite: pytest.Pytester) -> None:
    result = suite.runpytest_inprocess(*OPTIONS, "--markers")
    result.stdout.fnmatch_lines(["@pytest.mark.memory_limit(limit): fail the test if its anonymous memory grows by *"])


sizes = st.integers(0, 10**10)


@given(readings=st.lists(sizes, min_size=1), start=sizes, limit=sizes)
def test_growth_is_from_the_start_to_the_peak(readings: list[int], start: int, limit: int) -> None:
    curve = Curve(tuple(i / 4 for i in range(len(readings))), tuple(readings))
    message = _too_much(Measurement("a test", "finished", curve=curve, start_bytes=start), limit)
    growth = max(readings) - start
    assert (message is not None) == (growth > limit)
    if message is not None:
        assert message == (
            f"anonymous memory grew by {readable(growth)}, from {readable(start)} to {readable(max(readings))} after "
            f"{readings.index(max(readings)) / 4:.2f} s, and memory_limit allows {readable(limit)}"
        )
