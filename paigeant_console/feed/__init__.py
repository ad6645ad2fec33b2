"""The feed: what keeps the console's view of one topic up to date, in a thread of its own."""

from __future__ import annotations

from paigeant_console.feed.changes import Subscription
from paigeant_console.feed.reader import Feed
from paigeant_console.feed.ring import RING
from paigeant_console.feed.status import FeedStatus, Phase

__all__ = ["RING", "Feed", "FeedStatus", "Phase", "Subscription"]
