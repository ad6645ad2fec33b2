"""Golden chains: signed messages as files, each with its verdict, for whoever verifies them in another language."""
