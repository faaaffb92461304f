"""Codes of every format made without the service's own encoders: what its readers and its verifier are tried with.

Nothing here imports `printsvc`. Each maker is the shortest that can be written from the specification.
"""
