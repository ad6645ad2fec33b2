"""`keygen`: make a key that workflows are signed with, or one that tokens are encrypted for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from paigeant_console.commands._call import Call, command
from paigeant_console.output import note

__all__ = ["keygen"]

MAX_PUBLIC: Final = 16 * 1024
"""Characters of an OpenSSH public key file that are looked at."""


@command
def keygen(
    call: Call,
    file: Annotated[str, typer.Argument(metavar="FILE", help="Where the private key goes; it must not exist.")],
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Who signs with it, a principal of trust.toml.")
    ] = None,
    algorithm: Annotated[
        str, typer.Option("--algorithm", metavar="ALG", help="Ed25519, or ES256 where that is asked for.")
    ] = "Ed25519",
    audience: Annotated[
        str, typer.Option("--audience", metavar="A", help="The environment that it signs for, as in trust.toml.")
    ] = "",
    ssh: Annotated[
        bool, typer.Option("--ssh", help="Make none: FILE is a public Ed25519 key of OpenSSH, for an ssh-agent.")
    ] = False,
    topic_key: Annotated[
        bool, typer.Option("--topic-key", help="Make the key that the tokens of a topic are encrypted for instead.")
    ] = False,
) -> None:
    """Make a key: the private half in FILE, for its owner alone; the public half, and the line for trust.toml, printed.

    FILE is what PAIGEANT_KEY names for `dispatch` and `worker`. It is never written over and never printed.
    With --topic-key it goes into the tokens.toml of workers, and what is printed into that of whoever dispatches.
    """
    if topic_key:
        _topic_key(call, file, name, audience)
        return
    if ssh:
        _ssh(call, file, name)
        return
    from paigeant_console.safe_text import safe
    from paigeant_core.errors import ConfigError
    from paigeant_core.security.keys import SigningKey

    if name is None:
        raise ConfigError("keygen needs --name NAME: who signs with the key")
    key = SigningKey.generate(name, algorithm=algorithm, audience=audience)
    key.save(file)
    public = key.public_document()
    line = _line(public)
    if call.out.as_json:
        call.out.document(
            {"file": file, "name": name, "audience": audience, "kid": key.kid, "jwk": public, "trust": line}
        )
        return
    # A key of 43 characters is cut nowhere: it is there to be copied.
    call.out.line(safe(json.dumps(public), 1000))
    call.out.line(safe(line, 1000))
    note(f"the private key is in {file}; the first line is the public JWK, the second goes to {name} in trust.toml")


def _line(public: Mapping[str, Any]) -> str:
    # The fields of a key and no more: kid and alg follow from them.
    fields = ", ".join(f'{field} = "{public[field]}"' for field in ("kty", "crv", "x", "y") if field in public)
    return f"keys = [{{ {fields} }}]"


def _ssh(call: Call, file: str, name: str | None) -> None:
    """Print what trust.toml says of a key that stays in an ssh-agent."""
    from paigeant_console.safe_text import safe
    from paigeant_core.errors import ConfigError
    from paigeant_core.security.ssh_agent import document_of, kid_of, public_line

    try:
        text = Path(file).read_text(encoding="utf-8")[:MAX_PUBLIC]
    except (OSError, UnicodeDecodeError):
        raise ConfigError(f"{file}: it cannot be read; name the .pub file of a key") from None
    try:
        public = public_line(text)
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from None
    document, kid = document_of(public), kid_of(public)
    line = _line(document)
    if call.out.as_json:
        call.out.document({"file": file, "name": name, "kid": kid, "jwk": document, "trust": line})
        return
    call.out.line(safe(line, 1000))
    note(f"the line goes to {name or 'an operator'} in trust.toml; ssh-add the key, and leave out PAIGEANT_KEY")


def _topic_key(call: Call, file: str, name: str | None, audience: str) -> None:
    from paigeant_console.safe_text import safe
    from paigeant_core.errors import ConfigError
    from paigeant_core.tokens import TopicKey

    if name is not None or audience:
        raise ConfigError("a topic key is nobody's in particular: leave out --name and --audience")
    key = TopicKey.generate()
    key.save(file)
    public = key.public_document()
    if call.out.as_json:
        call.out.document({"file": file, "kid": key.kid, "jwk": public})
        return
    call.out.line(safe(json.dumps(public), 1000))
    note(f"the whole key, which opens tokens, is in {file}; the line is its public half, which encrypts them")
