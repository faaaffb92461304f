"""Codes, signatures, keys and verdicts. Pure: bytes in, values out, the clock passed in."""
