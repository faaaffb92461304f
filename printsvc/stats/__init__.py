"""Counting doses, certificates and papers. Pure."""
