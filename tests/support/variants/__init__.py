"""The variants of each format that the test suites of Pillow and OpenCV name, each made here.

A module a format, with a function `files`: the name of each variant, and its file.
"""
