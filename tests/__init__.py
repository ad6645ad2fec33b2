"""The tests. A package, so that no `tests` package of an installed distribution is imported in its place."""
