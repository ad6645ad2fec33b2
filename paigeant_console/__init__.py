"""The operations console of Paigeant, on a terminal and as commands."""
