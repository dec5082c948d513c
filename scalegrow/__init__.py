"""scalegrow: when growing a smaller checkpoint beats training from scratch, by how much, which warm start."""

__version__ = "0.1.0"
