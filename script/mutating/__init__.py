"""Altered codes: what an attacker or a bad scanner could make of genuine ones."""
