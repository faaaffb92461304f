"""One use case a file: load, decide by a pure function, act."""
