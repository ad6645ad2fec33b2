"""Workers, lines and brokers that are killed, and an outside ledger that says what came of it."""
