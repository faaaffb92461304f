"""What the agent has to do with CUPS (`lane`, `server`) and the printers behind it (`printer`, `describe`)."""
