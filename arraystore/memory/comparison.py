"""The report of several calls, as users meet it: the data, and the ways to show them."""

from pathlib import Path

from arraystore._common.checks import expanded
from arraystore._common.options import public
from arraystore.memory.measurement import ReportData
from arraystore.memory.showing.page import page
from arraystore.memory.showing.plot import draw
from arraystore.memory.showing.table import print_report

__all__ = ["MemoryReport"]


@public
class MemoryReport(ReportData):
    """Several calls that do the same, compared: as a table, a picture, a page of HTML, or JSON."""

    def print(self) -> None:
        """Print the table."""
        print_report(self)

    def plot(self, path: str | Path) -> None:
        """Draw the curves with matplotlib.

        Args:
            path: the file to write or to replace. Its suffix names the format: .png, .svg or .pdf.

        Raises:
            MissingExtraError: matplotlib is not installed.
            SpecError: the suffix names another format.
            OSError: the file cannot be written.
        """
        draw(self, expanded(path))

    def to_html(self) -> str:
        """Return a page of HTML that needs no other file: the curves, the table, the machine, and the command.

        Raises:
            MissingExtraError: matplotlib, which draws the curves, is not installed.
        """
        return page(self)
