"""A plugin for pytest: a marker that limits the memory of a test, and a fixture that measures it.

A test suite loads it with ``pytest_plugins = ["arraystore.memory.pytest_plugin"]`` in its outermost conftest.py::

    @pytest.mark.memory_limit("200 MB")
    def test_a_build_takes_no_second_copy(): ...
"""

from collections.abc import Generator, Iterator
from contextlib import ExitStack

import pytest

from arraystore._common.checks import parse_bytes
from arraystore._common.wording import readable
from arraystore.errors import SpecError
from arraystore.memory.measurement import Measurement
from arraystore.memory.trace import MemoryTrace

__all__ = ["memory_trace", "pytest_configure", "pytest_runtest_call"]

_RUNNING = pytest.StashKey[tuple[MemoryTrace, ExitStack]]()


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line(
        "markers",
        "memory_limit(limit): fail the test if its anonymous memory grows by more than this, in bytes or as '200 MB'.",
    )


@pytest.fixture
def memory_trace(request: pytest.FixtureRequest) -> Iterator[MemoryTrace]:
    """The running `MemoryTrace` of the test, which begins when this fixture is set up."""
    with ExitStack() as stack:
        trace = stack.enter_context(MemoryTrace())
        request.node.stash[_RUNNING] = trace, stack
        yield trace


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Run a test that has a limit inside a `MemoryTrace`, and fail it if it takes more."""
    marker = item.get_closest_marker("memory_limit")
    if marker is None:
        return (yield)
    if len(marker.args) != 1 or marker.kwargs:
        pytest.fail("memory_limit takes one size: @pytest.mark.memory_limit('200 MB')", pytrace=False)
    try:
        limit_bytes = parse_bytes(marker.args[0])
    except SpecError as error:
        pytest.fail(f"memory_limit: {error}", pytrace=False)
    with ExitStack() as stack:
        # The trace of the fixture, if the test uses it: it ends here, before the fixture does.
        trace, running = item.stash.get(_RUNNING, None) or (stack.enter_context(MemoryTrace()), stack)
        result = yield
        running.close()
    message = _too_much(trace.measurement, limit_bytes)
    if message is not None:
        pytest.fail(message, pytrace=False)
    return result


def _too_much(measurement: Measurement, limit_bytes: int) -> str | None:
    """Return the message for a test that took more than its limit; None for any other."""
    peak, start = measurement.peak(), measurement.start_bytes
    if peak - start <= limit_bytes:
        return None
    seconds = measurement.curve.seconds[measurement.curve.anonymous.index(peak)]
    return (
        f"anonymous memory grew by {readable(peak - start)}, from {readable(start)} to {readable(peak)} after "
        f"{seconds:.2f} s, and memory_limit allows {readable(limit_bytes)}"
    )
