"""What the console knows, in plain Python: no Textual, no Rich."""
