"""The memory profiler: curves of the memory of any call, and a comparison of the ways to load images.

`sampler` runs as a process of its own and reads the memory of another process. `trace` runs it beside a block of code,
`pytest_plugin` beside a test, and `calls` beside functions in fresh processes. `profile` compares the `strategies` to
load images; `stages` reports its progress, and `machine` describes the computer. The data stand in `measurement`;
`comparison` adds the ways to show them, which are in `showing`.
"""

from arraystore.memory.calls import mark, profile_memory
from arraystore.memory.comparison import MemoryReport
from arraystore.memory.trace import MemoryTrace

__all__ = ["MemoryReport", "MemoryTrace", "mark", "profile_memory"]
