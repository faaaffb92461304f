"""What the agent has to do with CUPS (`lane`, `server`) and with the printers behind it (`printer`)."""
