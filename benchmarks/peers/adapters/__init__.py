"""The peers, an adapter each. The first line of an adapter's docstring names it before a colon.

An adapter has two functions, and imports its peer at its top:

    build(photos, labels, folder, size, workers)
        Make of photographs (paths; the same may come again) and their labels (slot numbers) the form that the peer
        reads best, in this empty folder: uint8, size × size, three channels, antialiased where the peer can.
    reader(folder, batch, workers)
        Open the folder and return a function of an epoch's number, which yields batches of images (N, 3, H, W) or
        (N, H, W, 3) with their labels, shuffled anew in each epoch, the last batch kept, every image once.

Each does as its peer's own documentation says, with the settings that this recommends for speed and as many workers as
all others. ``requirements/NAME.txt`` begins with the peer's own package. Nothing is fetched from a network.
"""
