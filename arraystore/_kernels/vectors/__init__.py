"""Kernels of vector instructions, which only some processors have."""
