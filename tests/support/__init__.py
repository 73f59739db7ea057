"""What tests share: images, faults, stores to compare."""
