"""QUERY: the language in which workflows and journal records are selected.

    state:dead step:process-payment age:>10m
    (name:onboarding OR label.tier:premium) !stuck:backoff
    payload.customer_email:ann@example.com "two words"

Terms with a space between them must all hold; `OR`, `NOT` (or `!`) and parentheses say the rest. Text matches anywhere
in a field, in any case; with a `*` it has to match the whole of it, the star standing for anything. A word without a
field is looked for everywhere. What stands in quotes is taken as it is: no star, no operator. There are no regular
expressions: a query comes from a person in a hurry, and must not be able to take long.

    query = parse("state:dead age:>10m")
    hits = [row for row in rows if query.matches(row_view(row))]
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final, Literal, TypeAlias

from paigeant_console.model.looks import STUCK
from paigeant_console.model.query_terms import (
    AllOf,
    AnyOf,
    Everywhere,
    KeyedNumber,
    Node,
    Not,
    Number,
    Operator,
    Pattern,
    Text,
    Time,
    View,
    as_number,
    asks_for,
    comes_with_time,
    decided_without,
    narrows,
    needs_payload,
)
from paigeant_console.model.query_words import QueryError, Token, Word, tokens
from paigeant_console.model.time_span import duration, unit
from paigeant_console.model.trust import UNSIGNED, UNVERIFIED, statuses
from paigeant_core.clock import parse_rfc3339
from paigeant_core.journal import Kind, State

__all__ = [
    "FIELDS",
    "STUCK_WORDS",
    "Not",
    "Query",
    "QueryError",
    "Selected",
    "View",
    "parse",
    "saved_names",
    "use_saved",
    "words_of",
]

MAX_LENGTH: Final = 4096
"""Characters of a query."""
MAX_DEPTH: Final = 64
"""Parentheses within each other."""
MAX_TERMS: Final = 100
"""Terms of a query, those of saved ones in it too: what it costs to look at one workflow is bounded by that."""

_SAVED_NAME: Final = re.compile(r"@[A-Za-z0-9_-]{1,64}\Z")
_saved: dict[str, str] = {}
"""The saved queries of this process, see :func:`use_saved`."""

STUCK_WORDS: Final = tuple(STUCK)

_TEXT_FIELDS: Final = ("state", "step", "name", "stuck", "error", "worker", "id", "topic", "kind", "trust")
_NUMBER_FIELDS: Final = ("attempt", "hop", "run", "epoch")
_TIME_FIELDS: Final = ("created", "updated")
_KEYED_FIELDS: Final = ("label", "payload")
FIELDS: Final = (*_TEXT_FIELDS, *_NUMBER_FIELDS, "age", *_TIME_FIELDS, "label.X", "payload.X")
"""What can stand before a colon, as people write it."""

_ALIASES: Final = {
    "correlation_id": "id",
    "activity": "step",
    "created_at": "created",
    "updated_at": "updated",
    "at": "updated",
}
"""The names that `--json` has for them."""

_WORDS: Final[dict[str, Sequence[str]]] = {
    "state": [str(state) for state in State],
    "stuck": STUCK_WORDS,
    "kind": [str(kind) for kind in Kind],
}

Selected: TypeAlias = Literal["workflow", "record"]
"""What a query is asked of."""

_ONLY: Final[Mapping[str, tuple[Selected, str]]] = {
    "kind": ("record", "tail selects by it; state: tells where a workflow stands"),
    "trust": ("workflow", "list selects by it"),
}
"""Fields that one of the two has, and where they are of use."""


def words_of(field: str) -> Sequence[str]:
    """The words that a field can hold, so that one that cannot match is an error and no empty list; none: any text.

    Args:
        field: Its name in a query.
    """
    return statuses() if field == "trust" else _WORDS.get(field, ())


class Query:
    """A query that was understood. Two that mean the same by their form are equal, however they were written.

    Attributes:
        node: What it asks for.
        text: As it was written.
    """

    __slots__ = ("node", "text")

    def __init__(self, node: Node, text: str = "") -> None:
        self.node = node
        self.text = text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Query) and self.node == other.node

    def __hash__(self) -> int:
        return hash(self.node)

    def __repr__(self) -> str:
        return f"<Query {self.text!r}>"

    def matches(self, view: View) -> bool:
        """Whether a workflow or a record is selected.

        Args:
            view: It.
        """
        return self.node.matches(view)

    @property
    def selects_all(self) -> bool:
        """Whether nothing is asked for."""
        return self.node == AllOf(())

    @property
    def needs_payload(self) -> bool:
        """Whether the answer may depend on the payload, which costs a look into the message."""
        return needs_payload(self.node)

    @property
    def needs_trust(self) -> bool:
        """Whether the answer may depend on what signatures are worth, which costs verifying them."""
        return asks_for(self.node, "trust")

    def decided_without_trust(self, view: View) -> bool | None:
        """Whether a workflow is selected whose signatures nobody has verified yet; None: that depends on them.

        Args:
            view: It.
        """
        return decided_without(self.node, view, "trust")

    def narrows(self, other: Query) -> bool:
        """Whether what this one selects is among what another one selected, as where somebody typed one letter more.

        What time alone makes true is not: then False.

        Args:
            other: The query before.
        """
        return narrows(self.node, other.node) and not self.comes_with_time

    @property
    def comes_with_time(self) -> bool:
        """Whether time alone may make it select another one, so that it has to be asked anew."""
        return comes_with_time(self.node, STUCK_WORDS)


# -- reading -----------------------------------------------------------------------------------------------------------


def use_saved(queries: Mapping[str, str]) -> None:
    """Let `@NAME` in a query stand for a saved one, from now on.

    Args:
        queries: By name, without the `@`.
    """
    _saved.clear()
    _saved.update(queries)


def saved_names() -> list[str]:
    """What `@NAME` can stand for, in the order of the alphabet."""
    return sorted(_saved)


def parse(text: str, of: Selected | None = None, *, unverified: str = "") -> Query:
    """Read a query.

    Args:
        text: The query; an empty one selects everything. `@NAME` is what was saved under that name.
        of: What it will be asked of; a field that those never have is an error then. None: of either.
        unverified: Where nobody verifies signatures, what helps; what `trust` can then not be is an error. Empty:
            somebody does.

    Raises:
        QueryError: It cannot be read; the message says where, and what may have been meant.
    """
    if len(text) > MAX_LENGTH:
        raise QueryError(f"{len(text)} characters, at most {MAX_LENGTH} can be given", MAX_LENGTH)
    return Query(_Parser(tokens(text), len(text), _saved, [0], of, unverified).parse(), text)


class _Parser:
    """Recursive descent: `or := and (OR and)*`, `and := unary+`, `unary := NOT* (term | '(' or ')')`."""

    def __init__(
        self,
        tokens: list[Token],
        length: int,
        saved: Mapping[str, str],
        terms: list[int],
        of: Selected | None,
        unverified: str,
    ) -> None:
        self._tokens = tokens
        self._at = 0
        self._length = length
        self._saved = saved
        self._terms = terms  # so far, counted by all parsers of one query
        self._of = of
        self._unverified = unverified

    def parse(self) -> Node:
        if not self._tokens:
            return AllOf(())
        node = self._or(0)
        if self._at < len(self._tokens):
            # Only a closing parenthesis ends an `or` early.
            raise QueryError("a closing parenthesis without an opening one", self._position())
        return node

    def _peek(self) -> Token | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def _position(self) -> int:
        token = self._peek()
        if token is None:
            return self._length
        return token.position if isinstance(token, Word) else token[1]

    def _is_symbol(self, symbol: str) -> bool:
        token = self._peek()
        return token is not None and not isinstance(token, Word) and token[0] == symbol

    def _is_operator(self, *names: str) -> bool:
        token = self._peek()
        return isinstance(token, Word) and token.is_operator(*names)

    def _or(self, depth: int) -> Node:
        nodes: list[Node] = []
        while not nodes or self._is_operator("OR"):
            if nodes:
                self._at += 1
            node = self._and(depth)
            nodes.extend(node.nodes if isinstance(node, AnyOf) else [node])
        return nodes[0] if len(nodes) == 1 else AnyOf(tuple(nodes))

    def _and(self, depth: int) -> Node:
        nodes: list[Node] = []
        while True:
            if self._peek() is None or self._is_symbol(")") or self._is_operator("OR"):
                if not nodes:
                    raise QueryError("a term is missing", self._position(), "e.g. state:dead")
                return nodes[0] if len(nodes) == 1 else AllOf(tuple(nodes))
            if self._is_operator("AND"):
                # A space says it already; who writes it out means the same.
                self._at += 1
                if not nodes or self._peek() is None:
                    raise QueryError("a term is missing beside AND", self._position(), "e.g. state:dead AND age:>10m")
                continue
            node = self._unary(depth)
            nodes.extend(node.nodes if isinstance(node, AllOf) else [node])

    def _unary(self, depth: int) -> Node:
        negated = False
        while self._is_symbol("!") or self._is_operator("NOT"):
            negated = not negated
            self._at += 1
        node = self._primary(depth)
        if not negated:
            return node
        return node.node if isinstance(node, Not) else Not(node)

    def _primary(self, depth: int) -> Node:
        position = self._position()
        token = self._peek()
        if self._is_symbol("("):
            if depth >= MAX_DEPTH:
                raise QueryError(f"more than {MAX_DEPTH} parentheses within each other", position)
            self._at += 1
            node = self._or(depth + 1)
            if not self._is_symbol(")"):
                raise QueryError("a parenthesis is opened and not closed", position, "close it with )")
            self._at += 1
            return node
        if not isinstance(token, Word) or token.is_operator("OR", "AND"):
            raise QueryError("a term is missing", position, "e.g. state:dead")
        self._at += 1
        if _SAVED_NAME.match(token.text) and not any(token.quoted):
            return self._expanded(token)
        self._terms[0] += 1
        if self._terms[0] > MAX_TERMS:
            raise QueryError(f"more than {MAX_TERMS} terms", position)
        node = _term(token)
        if isinstance(node, Text) and self._of is not None:
            has, hint = _ONLY.get(node.name, (self._of, ""))
            if has != self._of:
                raise QueryError(f"a {self._of} has no {node.name}", position, hint)
        if self._unverified and isinstance(node, Text) and node.name == "trust":
            self._check_trust(node, position)
        return node

    def _check_trust(self, node: Text, position: int) -> None:
        """Refuse what can only be found out by verifying: it would select nothing, and all where it is negated."""
        if not any(map(node.pattern.matches, (UNSIGNED, UNVERIFIED))):
            problem = f"signatures are not verified here: trust is {UNSIGNED} or {UNVERIFIED}"
            raise QueryError(problem, position, self._unverified)

    def _expanded(self, word: Word) -> Node:
        """What was saved under a name; it may name others, but not itself."""
        name = word.text[1:]
        text = self._saved.get(name)
        if text is None:
            close = _close(name, list(self._saved))
            names = ", ".join("@" + key for key in self._saved) or "no others"
            # Where none are saved it is refused too: taken for a text, `!@mine` would select everything.
            saved = f"saved are {names}" if _saved else f'none is saved here; for the text write "{word.text}"'
            known = f"is @{close} meant?" if close else saved
            raise QueryError(f"no saved query {word.text!a}", word.position, known)
        others = {key: value for key, value in self._saved.items() if key != name}
        try:
            some = tokens(text[: MAX_LENGTH + 1])
            return _Parser(some, len(text), others, self._terms, self._of, self._unverified).parse()
        except QueryError as error:
            raise QueryError(f"in the saved {word.text}: {str(error).removeprefix('query: ')}", word.position) from None


def _term(word: Word) -> Node:
    colon = next((at for at, char in enumerate(word.text) if char == ":" and word.plain(at)), -1)
    if colon < 0:
        return Everywhere(_pattern(word, 0))
    name = word.text[:colon].lower()
    kind, dot, key = word.text[:colon].partition(".")
    kind = kind.lower()
    if kind in _KEYED_FIELDS:
        if not dot or not key:
            example = "label.tier:premium" if kind == "label" else "payload.email:ann"
            raise QueryError(f"{kind} needs a key", word.position, f"e.g. {example}")
        return _keyed_term(word, colon, kind, key)
    name = _ALIASES.get(name, name)
    if name in _TEXT_FIELDS:
        return _text_term(word, colon, name)
    if name in _NUMBER_FIELDS or name == "age":
        return _number_term(word, colon, name)
    if name in _TIME_FIELDS:
        return _time_term(word, colon, name)
    raise QueryError(f"there is no field {ascii(word.text[:colon])[:60]}", word.position, _nearest_field(name))


def _close(word: str, known: Sequence[str]) -> str:
    # Imported where somebody mistyped, and nowhere else.
    import difflib

    return next(iter(difflib.get_close_matches(word, known, n=1)), "")


def _nearest_field(name: str) -> str:
    close = _close(name, [*FIELDS, *_ALIASES, *_KEYED_FIELDS])
    if close:
        return f"is {close} meant? To look for a text with a colon, put it in quotes"
    return f"fields are {', '.join(FIELDS)}; to look for a text with a colon, put it in quotes"


def _value(word: Word, colon: int, name: str, example: str) -> str:
    value = word.text[colon + 1 :]
    if not value and word.end == word.position + colon + 1:
        raise QueryError(f"{name} needs a value", word.position, f"e.g. {name}:{example}")
    return value


def _text_term(word: Word, colon: int, name: str) -> Node:
    known = words_of(name)
    value = _value(word, colon, name, known[0] if known else "text")
    pattern = _field_pattern(word, colon)
    if known and not any(map(pattern.matches, known)):
        close = _close(value.lower(), known)
        hint = f"is {close} meant?" if close else f"there are {', '.join(known)}"
        raise QueryError(f"no {name} is called {ascii(value)[:60]}", word.position + colon + 1, hint)
    return Text(name, "", pattern)


def _keyed_term(word: Word, colon: int, name: str, key: str) -> Node:
    _value(word, colon, f"{name}.{ascii(key)[1:-1][:60]}", "*")
    operator, operand, at = _comparison(word, colon)
    if operator is not None and (than := as_number(operand)) is not None:
        return KeyedNumber(name, key, operator, than)
    if operator not in (None, "="):
        # Taken for a text that nothing has, it would select nothing, and all where it is negated.
        problem = f"{name}.{ascii(key)[1:-1][:60]} needs a number behind {operator}, not {ascii(operand)[:60]}"
        raise QueryError(problem, at, f'for the text itself put it in quotes: "{operator}..."')
    return Text(name, key, _field_pattern(word, colon))


def _number_term(word: Word, colon: int, name: str) -> Node:
    example = ">10m" if name == "age" else ">=3"
    _value(word, colon, name, example)
    operator, operand, at = _comparison(word, colon)
    if name != "age":
        than, width = as_number(operand), 0.0
    else:
        than, width = duration(operand), unit(operand)
    if than is None:
        what = "a span of time" if name == "age" else "a number"
        raise QueryError(f"{name} needs {what}, not {ascii(operand)[:60]}", at, f"e.g. {name}:{example}")
    return Number(name, operator or "=", than, width)


def _time_term(word: Word, colon: int, name: str) -> Node:
    _value(word, colon, name, "<10m")
    operator, operand, at = _comparison(word, colon)
    if (span := duration(operand)) is not None:
        return Time(name, operator or "=", span, unit(operand), ago=True)
    if operator in (None, "="):
        # A part of the time as it is written: created:2026-01-31.
        return Text(name, "", _field_pattern(word, colon))
    try:
        return Time(name, operator, parse_rfc3339(operand))
    except (ValueError, OverflowError):
        problem = f"{name} needs a time or a span of time, not {ascii(operand)[:60]}"
        raise QueryError(problem, at, f"e.g. {name}:>2026-01-31 or {name}:<10m") from None


def _comparison(word: Word, colon: int) -> tuple[Operator | None, str, int]:
    """The operator behind the colon, what follows it, and where that begins in the query."""
    rest = word.text[colon + 1 :]
    operators: tuple[Operator, ...] = (">=", "<=", ">", "<", "=")
    for operator in operators:
        if rest.startswith(operator) and word.plain(colon + 1):
            return operator, rest[len(operator) :], min(word.position + colon + 1 + len(operator), word.end)
    return None, rest, word.position + colon + 1


def _field_pattern(word: Word, colon: int) -> Pattern:
    operator, _, _ = _comparison(word, colon)
    if operator == "=":
        # name:=onboarding is that name and no longer one.
        return Pattern(_pattern(word, colon + 2).pieces, whole=True)
    return _pattern(word, colon + 1)


def _pattern(word: Word, start: int) -> Pattern:
    if start >= len(word.text):
        # Quotes and nothing between: looked for within a text, it would be in each.
        return Pattern(("",), whole=True)
    pieces = [""]
    for index in range(start, len(word.text)):
        if word.text[index] == "*" and word.plain(index):
            pieces.append("")
        else:
            pieces[-1] += word.text[index]
    return Pattern(tuple(piece.casefold() for piece in pieces))
