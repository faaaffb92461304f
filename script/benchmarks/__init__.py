"""Measurements behind script/bench."""
