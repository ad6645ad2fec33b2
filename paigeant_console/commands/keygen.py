"""`keygen`: make a key that workflows are signed with, or one that tokens are encrypted for."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from paigeant_console.commands._call import Call, command
from paigeant_console.output import note

__all__ = ["keygen"]


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
    from paigeant_console.safe_text import safe
    from paigeant_core.errors import ConfigError
    from paigeant_core.security.keys import SigningKey

    if name is None:
        raise ConfigError("keygen needs --name NAME: who signs with the key")
    key = SigningKey.generate(name, algorithm=algorithm, audience=audience)
    key.save(file)
    public = key.public_document()
    # The fields of a key and no more: kid and alg follow from them.
    line = ", ".join(f'{field} = "{public[field]}"' for field in ("kty", "crv", "x", "y") if field in public)
    line = f"keys = [{{ {line} }}]"
    if call.out.as_json:
        call.out.document(
            {"file": file, "name": name, "audience": audience, "kid": key.kid, "jwk": public, "trust": line}
        )
        return
    # A key of 43 characters is cut nowhere: it is there to be copied.
    call.out.line(safe(json.dumps(public), 1000))
    call.out.line(safe(line, 1000))
    note(f"the private key is in {file}; the first line is the public JWK, the second goes to {name} in trust.toml")


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
