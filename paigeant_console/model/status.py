"""What the frame says: where this is, how the feed does, how many workflows stand where; as pieces of lines."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from paigeant_console.model.looks import URGENT, look
from paigeant_console.model.text import GAP, Piece, Span, clip, count, spans_width, width_of
from paigeant_console.model.times import age, day_and_time
from paigeant_console.safe_text import SafeText, cells, joined, literal, safe

__all__ = ["Place", "Status", "context_pieces", "feed_sentence", "no_writes", "signing", "tabs_line"]

_SPACE: Final = literal(" ")
_NO_WRITES: Final = literal(", and takes no writes; `doctor` tells more")
LAG_FROM: Final = 2.0
"""Seconds behind the journal that are worth a word."""
_URL_RANK: Final = 3
_URL_CELLS: Final = 24
"""Cells of the URL for which less important things are left out."""


class Status(Protocol):
    """What is said of the feed; see :class:`paigeant_console.feed.FeedStatus`."""

    @property
    def phase(self) -> str:
        """What it does."""
        ...

    @property
    def reason(self) -> str:
        """Why it is not live."""
        ...

    @property
    def records(self) -> int:
        """Read so far."""
        ...

    @property
    def last_at(self) -> float | None:
        """When the newest was journalled."""
        ...

    @property
    def retry_in(self) -> float | None:
        """Seconds to the next try."""
        ...

    @property
    def gap(self) -> tuple[float, float] | None:
        """From when to when nothing was seen."""
        ...

    @property
    def met(self) -> bool:
        """Whether the broker has answered once."""
        ...

    @property
    def policy(self) -> str:
        """Why the trust policy is not the newest."""
        ...

    @property
    def refusal(self) -> str:
        """Why the broker takes no writes; empty: it does."""
        ...

    @property
    def quiet_s(self) -> float:
        """Seconds without a word."""
        ...

    @property
    def rate(self) -> float:
        """Records a second."""
        ...

    @property
    def counts(self) -> Mapping[str, int]:
        """Workflows in memory, by state."""
        ...

    @property
    def left(self) -> Mapping[str, int]:
        """How many have left memory, by the state in which they ended."""
        ...


@dataclass(frozen=True, slots=True)
class Place:
    """Where the console is.

    Attributes:
        context: its name in the configuration; may be empty.
        url: the broker's, without its password.
        topic: the topic.
        read_only: operations are refused.
        production: a mistake here is dear.
        signing: what is done about signatures, in a few words; None: nothing.
    """

    context: SafeText
    url: SafeText
    topic: SafeText
    read_only: bool = False
    production: bool = False
    signing: SafeText | None = None


def signing(signer: str | None, url: str, *, verifies: bool) -> SafeText | None:
    """Who signs here, whether anybody verifies, and what this broker cannot find out; None: it is unsigned."""
    if signer is None and not verifies:
        return None
    said = [literal("verifies, no key")]
    if signer is not None:
        said = [literal("signs as "), safe(signer, 24)]
        if not verifies:
            said.append(literal(", no policy"))
    if url.startswith("amqp"):
        # Its fence is eventual: see docs/security.md.
        said.append(literal(", cannot see rollbacks"))
    return joined(said)


def context_pieces(
    place: Place, status: Status, now: float, width: int, *, paused: bool, ascii_only: bool
) -> list[Piece]:
    """The first line: where, what may be done there, and how fresh it is."""
    pieces = []
    if place.context:
        style = "danger" if place.production else "strong"
        pieces.append(Piece(((joined((literal(" "), place.context, literal(" "))), style),)))
    at = len(pieces)
    pieces.append(Piece(((literal("topic "), "dim"), (place.topic, "strong")), rank=1))
    pieces.append(Piece(((place.signing or literal("unsigned"), "dim"),), rank=5, right=True))
    if status.phase == "live":
        rate = literal(f"{_rounded(status.rate)}/s")
        pieces.append(Piece(((rate, "dim"),), rank=4, right=True))
    if paused:
        pieces.append(Piece(((literal(" PAUSED "), "badge"),), right=True))
    pieces.append(Piece(_freshness(status, now), right=True))
    badge: Span = (literal(" READ-ONLY "), "badge") if place.read_only else (literal(" WRITE "), "write")
    pieces.append(Piece((badge,), right=True))
    kept, url = _beside_url(pieces, place.url, width, ascii_only=ascii_only)
    return [*kept[:at], Piece(((url, ""),), rank=_URL_RANK), *kept[at:]]


def _beside_url(
    pieces: Sequence[Piece], url: SafeText, width: int, *, ascii_only: bool
) -> tuple[list[Piece], SafeText]:
    """What stands beside the URL, and as much of the URL as there is room for.

    It is cut before anything is left out, but not to less than tells one broker from another.
    """
    kept = list(pieces)

    def room() -> int:
        return width - sum(spans_width(piece.spans) + GAP for piece in kept)

    while room() < min(width_of(url), _URL_CELLS) and (less := [one for one in kept if one.rank > _URL_RANK]):
        kept.remove(max(less, key=lambda one: one.rank))
    cut = max(12, room())
    return kept, url if width_of(url) <= cut else cells(url, cut, ellipsis="~" if ascii_only else "…")


def _freshness(status: Status, now: float) -> tuple[Span, ...]:
    if status.phase == "live" and status.refusal:
        return ((literal("no writes"), "error"),)
    if status.phase == "live":
        behind = now - status.last_at if status.last_at is not None else 0.0
        if status.rate and behind > LAG_FROM * 5:
            return (literal("live"), "ok"), (literal(" last event "), "dim"), (age(behind), "dim")
        return ((literal("live"), "ok"),)
    words = {
        "connecting": ("connecting", "warn"),
        "catching_up": ("catching up", "warn"),
        "reconnecting": ("reconnecting" if status.met else "connecting", "error"),
        "stale": ("stale", "error"),
        "failed": ("not connected", "error"),
    }
    word, style = words.get(status.phase, ("unknown", "warn"))
    return ((literal(word), style),)


def feed_sentence(status: Status, now: float) -> SafeText | None:
    """What is to be said of the feed in a sentence; None where it is simply live."""
    if status.phase == "live" and status.refusal:
        return no_writes(status.refusal)
    if status.phase == "live" and status.gap is not None:
        after, until = (day_and_time(at, now) for at in status.gap)
        said = literal(": the journal was trimmed, or begun anew")
        return joined((literal("nothing seen from "), after, literal(" to "), until, said))
    if status.phase == "live" and status.policy:
        return safe(status.policy, 300)
    if status.phase == "connecting":
        return literal("connecting to the broker …")
    if status.phase == "catching_up":
        if not status.records:
            return literal("catching up with the journal …")
        behind = joined((literal(", now at records "), age(now - (status.last_at or now)), literal(" old")))
        return joined((literal("catching up: "), count(status.records), literal(" records read"), behind))
    reason = safe(status.reason, 200)
    if status.phase == "reconnecting":
        wait = literal(f"; next try in {max(1, round(status.retry_in or 0))}s")
        return joined((literal("connection lost: " if status.met else "not connected yet: "), reason, wait))
    if status.phase == "stale":
        return literal(f"stale: no word from the broker for {int(status.quiet_s)}s; what you see may be old")
    if status.phase == "failed":
        return joined((literal("not connected: "), reason))
    return None


def no_writes(refusal: str) -> SafeText:
    """That nothing moves, as the broker takes no writes.

    Args:
        refusal: why not, in the transport's words.
    """
    return joined((literal("no workflow moves: "), safe(refusal, 100), _NO_WRITES))


def tabs_line(
    titles: Mapping[str, SafeText],
    view: str,
    counts: Mapping[str, int],
    width: int,
    *,
    left: Collection[str] = (),
    ascii_only: bool,
) -> list[Span]:
    """The second line: the views with their numbers, and how many workflows are in which state.

    Titles and words are left out as the line gets shorter, and the least urgent counts.

    Args:
        titles: the views.
        view: the one that is shown.
        counts: workflows in memory, by state.
        width: cells there are.
        left: states of which some have left memory: there are more than are counted.
        ascii_only: write ASCII only.
    """
    figures = _counts(counts, left, ascii_only=ascii_only)
    words = _counts(counts, left, ascii_only=ascii_only, words=True)
    for short, shown in ((False, words), (False, figures), (True, figures)):
        tabs = _tabs(titles, view, short=short)
        if spans_width(tabs) + 2 + spans_width(_spaced(shown)) <= width:
            return _between(tabs, _spaced(shown), width)
    tabs = _tabs(titles, view, short=True)
    if spans_width(tabs) + 8 > width:
        tabs = _tabs(titles, view, short=None)
    while figures and spans_width(tabs) + 1 + spans_width(_spaced(figures)) > width:
        figures.pop()
    return clip(_between(tabs, _spaced(figures), width), width, ascii_only=ascii_only)


def _between(left: list[Span], right: list[Span], width: int) -> list[Span]:
    room = max(1, width - spans_width(left) - spans_width(right))
    return [*left, (literal(" " * room), ""), *right]


def _spaced(spans: list[Span]) -> list[Span]:
    """Spans with a space between."""
    return [piece for index, span in enumerate(spans) for piece in (((_SPACE, ""),) if index else ()) + (span,)]


def _tabs(titles: Mapping[str, SafeText], view: str, *, short: bool | None) -> list[Span]:
    """The views; with `short` by their first word, with None the others by number alone."""
    spans: list[Span] = []
    for number, (name, title) in enumerate(titles.items(), start=1):
        if spans:
            spans.append((literal(" " if short is None else "  "), ""))
        word = title if short is False else literal(title.partition(" ")[0])
        if name == view:
            spans.append((joined((literal(f"{number} "), word)), "tab"))
        elif short is None:
            spans.append((literal(str(number)), "key"))
        else:
            spans += [(literal(f"{number} "), "key"), (word, "dim")]
    return spans


def _counts(counts: Mapping[str, int], left: Collection[str], *, ascii_only: bool, words: bool = False) -> list[Span]:
    """How many workflows are in which state, the urgent ones first."""
    spans: list[Span] = []
    for state in URGENT:
        number = counts.get(str(state), 0)
        if number or state in left:
            here = look(state)
            parts = [here.mark(ascii_only), count(number, more=state in left), *([here.word] if words else [])]
            spans.append((joined(parts, _SPACE), here.style or "strong"))
    return spans


def _rounded(rate: float) -> str:
    """A rate in two digits, so that it changes seldom."""
    if rate >= 100:
        digits = len(str(int(rate))) - 2
        return f"{round(rate / 10**digits) * 10**digits:,}"
    return f"{rate:.0f}" if rate >= 10 else f"{rate:.1f}"
