"""Settings: which broker, which topic, and what may be done there.

Flags come before PAIGEANT_* in the environment, these before config.toml, and that before the defaults. A context (a
named broker in the file) counts as the file; one named by `--context` counts as a flag, so that `--context staging`
means staging whatever PAIGEANT_URL says:

    context = "staging"

    [contexts.staging]
    url = "redis://staging:6379/0"
    topic = "workflows"

    [contexts.prod]
    url = "rediss://:secret@prod:6380/0"
    read_only = false
    production = true

    [console]
    theme = "high-contrast"

    [console.keys]
    retry = "f5"
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import msgspec

from paigeant_console.user_directories import NoHome, user_directory
from paigeant_core.errors import ConfigError
from paigeant_core.json_values import is_text
from paigeant_core.names import check_topic
from paigeant_core.urls import mask_url, parse_url

__all__ = [
    "THEMES",
    "Context",
    "File",
    "Flags",
    "Look",
    "Settings",
    "config_path",
    "load",
    "load_look",
    "read_only_in_environment",
    "said_in_environment",
]

PROGRAM: Final = "paigeant-console"
DEFAULT_URL: Final = "memory://"
DEFAULT_TOPIC: Final = "workflows"

THEMES: Final = ("ansi", "dark", "light", "high-contrast")
"""What the console can be drawn in; the first leaves all colours to the terminal."""

Source: TypeAlias = Literal["flag", "environment", "context", "file", "default"]

_TRUE: Final = frozenset(["1", "true", "yes", "on"])
_FALSE: Final = frozenset(["0", "false", "no", "off"])


class Flags(msgspec.Struct, frozen=True, kw_only=True):
    """What was said on the command line; None and False: nothing."""

    url: str | None = None
    topic: str | None = None
    context: str | None = None
    read_only: bool = False


_NO_FLAGS: Final = Flags()


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """A named broker of the file."""

    url: str | None = None
    topic: str | None = None
    read_only: bool | None = None
    production: bool = False
    """Operations there ask for more than `--yes`."""


class File(msgspec.Struct, frozen=True, kw_only=True):
    """What config.toml says."""

    context: str | None = None
    """The context that is used when none is named."""
    url: str | None = None
    topic: str | None = None
    read_only: bool | None = None
    operator: str | None = None
    contexts: Mapping[str, Context] = {}
    console: Mapping[str, Any] = {}
    queries: Mapping[str, str] = {}
    """Saved queries by name: `@NAME` stands for one."""


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """How the console looks, and what its keys are."""

    theme: str | None = None
    """One of `THEMES`; None: nobody said."""
    ascii: bool = False
    """Draw with ASCII alone."""
    mouse: bool = False
    """Let the terminal report the mouse."""
    clipboard: bool = True
    """Ask the terminal to copy; else what is copied goes to a file."""
    keys: Mapping[str, tuple[str, ...]] = {}
    """The user's own keys: Textual's names of them by the action's ID."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for this command."""

    url: str
    """With its password; show `masked_url`."""
    topic: str
    context: str
    """The context's name; empty: none."""
    read_only: bool
    production: bool
    operator: str | None
    """Who acts; None: user and host of this process."""
    sources: Mapping[str, Source]
    """Where each of the values came from."""
    path: Path | None
    """Where the file is, or would be; None: this user has no home directory."""
    queries: Mapping[str, str]
    """Saved queries by name."""
    contexts: tuple[str, ...]
    """All contexts by name."""

    @property
    def masked_url(self) -> str:
        """The URL for people."""
        return mask_url(self.url)


def config_path(environ: Mapping[str, str] | None = None) -> Path | None:
    """Where the file is: PAIGEANT_CONFIG, else config.toml in the user's configuration directory; None: there is none.

    Args:
        environ: The environment; by default this process's.
    """
    environ = os.environ if environ is None else environ
    if override := environ.get("PAIGEANT_CONFIG"):
        return Path(override)
    try:
        return user_directory("config") / "config.toml"
    except NoHome:
        return None


def load(flags: Flags = _NO_FLAGS, environ: Mapping[str, str] | None = None) -> Settings:
    """Put the settings together.

    Args:
        flags: What the command line says.
        environ: The environment; by default this process's.

    Raises:
        ConfigError: A value that cannot be, an empty flag, an unknown key or context, a file that cannot be read.
    """
    for flag, value in (("--url", flags.url), ("--topic", flags.topic), ("--context", flags.context)):
        if value == "":
            # What a script meant is not what holds where nothing is said.
            raise ConfigError(
                f"{flag} is empty, as where a script's variable is not set: give it a value, or leave it out"
            )
    environ = os.environ if environ is None else environ
    path = config_path(environ)
    file = _read(path, required=bool(environ.get("PAIGEANT_CONFIG")))
    name = flags.context or environ.get("PAIGEANT_CONTEXT") or file.context or ""
    context = _context(file, name, path) if name else Context()
    # A context that was named on the command line is as good as its values written there.
    named = context if flags.context else Context()
    sources: dict[str, Source] = {}

    def pick(key: str, *found: tuple[Source, str | None]) -> str:
        source, value = next((source, value) for source, value in found if value)
        sources[key] = source
        return value or ""

    url = pick(
        "url",
        ("flag", flags.url),
        ("context", named.url),
        ("environment", environ.get("PAIGEANT_URL")),
        ("context", context.url),
        ("file", file.url),
        ("default", DEFAULT_URL),
    )
    topic = pick(
        "topic",
        ("flag", flags.topic),
        ("context", named.topic),
        ("environment", environ.get("PAIGEANT_TOPIC")),
        ("context", context.topic),
        ("file", file.topic),
        ("default", DEFAULT_TOPIC),
    )
    parse_url(url)
    check_topic(topic)
    read_only, sources["read_only"] = _read_only(flags, environ, context, file)
    operator = environ.get("PAIGEANT_OPERATOR") or file.operator
    if operator is not None and not is_text(operator):
        raise ConfigError(
            f"PAIGEANT_OPERATOR is {ascii(operator)[:80]}: that is no UTF-8, and the audit could not keep it"
        )
    sources["operator"] = "environment" if environ.get("PAIGEANT_OPERATOR") else "file" if file.operator else "default"
    return Settings(
        url=url,
        topic=topic,
        context=name,
        read_only=read_only,
        production=context.production,
        operator=operator,
        sources=sources,
        path=path,
        queries=file.queries,
        contexts=tuple(sorted(file.contexts)),
    )


def load_look(
    environ: Mapping[str, str] | None = None, *, theme: str | None = None, ascii: bool = False, mouse: bool = False
) -> Look:
    """Put together how the console looks: the arguments are the command line's.

    Args:
        environ: The environment; by default this process's.
        theme: What the command line says; None: nothing.
        ascii: Likewise.
        mouse: Likewise.

    Raises:
        ConfigError: A value that cannot be, a file that cannot be read.
    """
    environ = os.environ if environ is None else environ
    path = config_path(environ)
    table = _read(path, required=bool(environ.get("PAIGEANT_CONFIG"))).console
    theme = theme or environ.get("PAIGEANT_THEME") or table.get("theme")
    if theme is not None and theme not in THEMES:
        raise ConfigError(f"no theme {repr(theme)[:40]}; there are {', '.join(THEMES)}")

    def switch(name: str, default: bool) -> bool:
        said = said_in_environment(environ, f"PAIGEANT_{name.upper()}")
        return bool(table.get(name, default)) if said is None else said

    keys: Mapping[str, tuple[str, ...]] = {}
    if table.get("keys"):
        from paigeant_console.keymap import read_keys

        keys = read_keys(table["keys"], f"{path}: console.keys")
    return Look(
        theme=theme,
        ascii=ascii or switch("ascii", False),
        mouse=mouse or switch("mouse", False),
        clipboard=switch("clipboard", True),
        keys=keys,
    )


def read_only_in_environment(environ: Mapping[str, str]) -> bool | None:
    """What PAIGEANT_READ_ONLY says; None: nothing.

    Args:
        environ: The environment.

    Raises:
        ConfigError: It is neither yes nor no.
    """
    return said_in_environment(environ, "PAIGEANT_READ_ONLY")


def said_in_environment(environ: Mapping[str, str], name: str) -> bool | None:
    """What a variable says that is yes or no; None: nothing."""
    value = environ.get(name, "").strip().lower()
    if not value:
        return None
    if value in _TRUE:
        return True
    if value in _FALSE:
        return False
    raise ConfigError(f"{name} is {ascii(value)[:40]}; set it to 1 or 0")


def _read_only(flags: Flags, environ: Mapping[str, str], context: Context, file: File) -> tuple[bool, Source]:
    # Here a context is the file whoever named it: a variable that was set as a brake is not to be lifted by a name.
    if flags.read_only:
        return True, "flag"
    if (said := read_only_in_environment(environ)) is not None:
        return said, "environment"
    if context.read_only is not None:
        return context.read_only, "context"
    if file.read_only is not None:
        return file.read_only, "file"
    return False, "default"


# -- the file ----------------------------------------------------------------------------------------------------------

_FILE_KEYS: Final[Mapping[str, type]] = {
    "context": str,
    "url": str,
    "topic": str,
    "read_only": bool,
    "operator": str,
    "contexts": dict,
    "console": dict,
    "queries": dict,
}
_CONSOLE_KEYS: Final[Mapping[str, type]] = {
    "theme": str,
    "ascii": bool,
    "mouse": bool,
    "clipboard": bool,
    "keys": dict,
}
_CONTEXT_KEYS: Final[Mapping[str, type]] = {"url": str, "topic": str, "read_only": bool, "production": bool}
_TYPE_NAMES: Final[Mapping[type, str]] = {str: "text in quotes", bool: "true or false", dict: "a table"}


def _read(path: Path | None, *, required: bool) -> File:
    if path is None:
        return File()
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        if required:
            raise ConfigError(f"{path}: there is no such file, and PAIGEANT_CONFIG names it") from None
        return File()
    except OSError as error:
        raise ConfigError(f"{path}: it cannot be read: {error.strerror or type(error).__name__}") from None
    import tomllib

    try:
        document = tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        # The parser's message names line and column, and quotes nothing but a character.
        raise ConfigError(f"{path}: this is no TOML: {error}") from None
    _check(document, _FILE_KEYS, path, "")
    _check(document.get("console", {}), _CONSOLE_KEYS, path, "console.")
    for name, text in document.get("queries", {}).items():
        if not (name.isascii() and name.replace("_", "").replace("-", "").isalnum() and len(name) <= 64):
            raise ConfigError(f"{path}: queries.{ascii(name)[:80]}: a name is letters, digits, '_' and '-'")
        if not isinstance(text, str):
            raise ConfigError(f"{path}: queries.{name} must be {_TYPE_NAMES[str]}")
    contexts = {}
    for name, table in document.pop("contexts", {}).items():
        if not isinstance(table, dict):
            raise ConfigError(f"{path}: contexts.{name} must be a table: [contexts.{name}]")
        _check(table, _CONTEXT_KEYS, path, f"contexts.{name}.")
        contexts[name] = Context(**table)
    return File(**document, contexts=contexts)


def _check(table: Mapping[str, Any], keys: Mapping[str, type], path: Path, prefix: str) -> None:
    for key, value in table.items():
        if key not in keys:
            raise ConfigError(f"{path}: unknown key {ascii(prefix + key)[:80]}; {_nearest(key, keys, prefix)}")
        if not isinstance(value, keys[key]):
            raise ConfigError(f"{path}: {prefix}{key} must be {_TYPE_NAMES[keys[key]]}")


def _nearest(key: str, known: Mapping[str, Any], prefix: str = "") -> str:
    import difflib

    close = difflib.get_close_matches(key, known, n=1)
    if close:
        return f"is {prefix}{close[0]} meant?"
    return f"known are {', '.join(prefix + name for name in known)}" if known else "there are none"


def _context(file: File, name: str, path: Path | None) -> Context:
    try:
        return file.contexts[name]
    except KeyError:
        where = path or "any config.toml, as there is no home directory"
        raise ConfigError(f"no context {ascii(name)[:80]} in {where}; {_nearest(name, file.contexts)}") from None
