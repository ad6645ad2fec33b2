"""The contexts of config.toml, for a console that goes from one to another."""

from __future__ import annotations

from dataclasses import dataclass

from paigeant_console.config import Flags, Settings, load

__all__ = ["NO_CONTEXTS", "Contexts"]


@dataclass(frozen=True, slots=True)
class Contexts:
    """What a console can go to.

    Attributes:
        names: of the contexts.
        read_only: ``--read-only`` was given, and holds wherever it goes.
    """

    names: tuple[str, ...] = ()
    read_only: bool = False

    def settings(self, name: str) -> Settings:
        """What holds in a context; the file is read anew.

        Args:
            name: of the context.

        Raises:
            ConfigError: there is none of that name, or the file cannot be read.
        """
        return load(Flags(context=name, read_only=self.read_only))


NO_CONTEXTS = Contexts()
