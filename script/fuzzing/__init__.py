"""Decoders under fire: targets for atheris, whose seeds the test suite replays."""
