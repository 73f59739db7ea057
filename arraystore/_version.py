"""The one place of the version: the build system reads it here."""

__version__ = "0.1.0"
