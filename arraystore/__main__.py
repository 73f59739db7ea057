"""``python -m arraystore`` is the command ``arraystore``."""

from arraystore.cli import main

# Worker processes that are spawned import this module under another name, and must not start the command again.
if __name__ == "__main__":
    main()
