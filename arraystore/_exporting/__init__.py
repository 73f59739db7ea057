"""From the slots of stores to the files of other programs."""
