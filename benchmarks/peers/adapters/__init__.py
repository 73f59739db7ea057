"""The peers, an adapter each. The first line of an adapter's docstring names it before a colon.

An adapter has two functions, and imports its peer at its top, so that the time this takes can be told:

    build(photos, labels, folder, size, workers)
        Make of photographs (paths; the same may come again) and their labels (slot numbers) what its peer reads best,
        in this empty folder: uint8, size × size, three channels, resized with antialiasing where the peer can.
    read(folder, batch, workers, epoch)
        Yield an epoch: batches of images (N, 3, H, W) or (N, H, W, 3) with their labels, shuffled anew in each epoch,
        the last batch kept, every image once. What a peer keeps from one epoch to the next, such as workers, is kept
        with a cache.

Each does as its peer's own documentation says, with the settings that this recommends for speed and as many workers as
all others. ``requirements/NAME.txt`` begins with the peer's own package. Nothing is fetched from a network.
"""
