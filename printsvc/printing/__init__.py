"""The print job: its states, and which printer takes it. Pure."""
