"""TARGET: where the activities of a worker are written down."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import paigeant_core
from paigeant_console.exit_codes import Signalled
from paigeant_core.errors import ConfigError
from paigeant_core.worker import Worker

__all__ = ["load_target"]

_LIBRARY: Final = Path(paigeant_core.__file__).parent


def load_target(target: str) -> Worker:
    """Import what TARGET names and find the worker in it.

    The current directory is importable, and so is the directory of a file. Importing runs the code there: TARGET comes
    from whoever types the command, never from a message.

    Args:
        target: `file.py`, `file.py:name`, `pkg.module` or `pkg.module:name`.

    Raises:
        ConfigError: No such file or module, it raised while it was imported, or there is not exactly one worker; one
            sentence.
    """
    place, colon, name = target.rpartition(":")
    if not colon:
        place, name = target, ""
    elif not place or not name:
        raise ConfigError(f"TARGET {_shown(target)}: write file.py, file.py:name or pkg.module:worker")
    _importable(Path.cwd())
    module = _from_file(place) if place.endswith(".py") or os.sep in place else _from_module(place)
    return _named(module, place, name) if name else _only(module, place)


def _from_file(place: str) -> ModuleType:
    path = Path(place).resolve()
    if not path.is_file():
        raise ConfigError(f"TARGET {_shown(place)}: there is no such file")
    _importable(path.parent)
    # A file may be called like a module that is loaded already, e.g. json.py.
    name = path.stem if path.stem.isidentifier() and path.stem not in sys.modules else f"_paigeant_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"TARGET {_shown(place)}: this is no Python file")
    module = importlib.util.module_from_spec(spec)
    # As an import does: dataclasses and pickles look their module up by name.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Signalled:
        raise
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever somebody's module raises becomes a sentence
        del sys.modules[name]
        raise _not_imported(place, error) from None
    return module


def _from_module(place: str) -> ModuleType:
    if not all(part.isidentifier() for part in place.split(".")):
        raise ConfigError(f"TARGET {_shown(place)}: this is neither a file.py nor the name of a module")
    try:
        return importlib.import_module(place)
    except ModuleNotFoundError as error:
        # The module itself or a package around it; one that it imports is its own affair.
        if error.name is not None and (place == error.name or place.startswith(f"{error.name}.")):
            raise ConfigError(
                f"TARGET {_shown(place)}: there is no module {error.name}; for a file write {error.name}.py"
            ) from None
        raise _not_imported(place, error) from None
    except Signalled:
        raise
    except (Exception, SystemExit) as error:  # noqa: BLE001 - as above
        raise _not_imported(place, error) from None


def _importable(directory: Path) -> None:
    if str(directory) not in sys.path:
        sys.path.insert(0, str(directory))


def _not_imported(place: str, error: BaseException) -> ConfigError:
    """The last line of what a traceback would have told, and where it was raised."""
    try:
        text = error.msg if isinstance(error, SyntaxError) else str(error)
    except Exception:  # noqa: BLE001 - somebody's exception may have any __str__
        text = ""
    said = f"{type(error).__name__}: {text}" if text else type(error).__name__
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<frozen")]
    # The first frames are this module's own.
    frames = [frame for frame in frames if frame.filename not in (__file__, importlib.__file__)]
    # What the library refuses is to be mended where it was called.
    frames = [frame for frame in frames if _LIBRARY not in Path(frame.filename).parents] or frames
    if isinstance(error, SyntaxError) and error.filename:
        where = f" ({_relative(error.filename)}:{error.lineno})"
    else:
        where = f" ({_relative(frames[-1].filename)}:{frames[-1].lineno})" if frames else ""
    return ConfigError(f"TARGET {_shown(place)} cannot be imported: {said}{where}")


def _relative(filename: str) -> str:
    try:
        return str(Path(filename).relative_to(Path.cwd()))
    except ValueError:
        return filename


def _named(module: ModuleType, place: str, name: str) -> Worker:
    found: Any = module
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            known = ", ".join(_workers(module)) or "none"
            raise ConfigError(f"TARGET {_shown(place)} has no {_shown(name)}; workers in it: {known}") from None
    if not isinstance(found, Worker):
        raise ConfigError(f"TARGET {_shown(f'{place}:{name}')} is a {type(found).__name__}, not a Worker")
    return found


def _only(module: ModuleType, place: str) -> Worker:
    workers = _workers(module)
    if len(workers) == 1:
        return next(iter(workers.values()))
    if not workers:
        raise ConfigError(f"TARGET {_shown(place)} has no Worker; write worker = Worker() and register its activities")
    first, count = next(iter(workers)), len(workers)
    raise ConfigError(f"TARGET {_shown(place)} has {count} workers ({', '.join(workers)}); name one: {place}:{first}")


def _workers(module: ModuleType) -> dict[str, Worker]:
    """The workers at the top of a module by name; one that has two names counts once."""
    found: dict[int, tuple[str, Worker]] = {}
    for name, value in vars(module).items():
        if isinstance(value, Worker):
            found.setdefault(id(value), (name, value))
    return dict(found.values())


def _shown(value: str) -> str:
    return value if len(value) <= 200 else value[:199] + "…"
