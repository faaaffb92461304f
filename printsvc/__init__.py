"""printsvc: every dose gets a printed certificate that the world can check, and can prove it."""

__version__ = "0.1.0"
