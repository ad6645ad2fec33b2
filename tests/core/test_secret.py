"""Secrets show stars, whoever asks and however."""

from __future__ import annotations

import copy
import gc
import json
import logging
import pickle

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paigeant_core.secret import STARS, RedactingFilter, Secret, conceal, redact

VALUE = "s3ntinel-0123456789"


@given(st.text())
def test_nothing_but_reveal_gives_the_text(value: str) -> None:
    secret = Secret(value)
    assert secret.reveal() == value
    shown = [
        str(secret),
        repr(secret),
        f"{secret}",
        f"{secret!r}",
        "%s" % secret,  # noqa: UP031 - the old form is one of those in question
        ", ".join([secret]),  # noqa: FLY002 - one of those in question
        secret + "",
        json.loads(json.dumps(secret)),
        pickle.loads(pickle.dumps(secret)),
        json.loads(json.dumps({"a": [secret]}))["a"][0],
    ]
    assert {item.strip("'") for item in shown} == {STARS}
    assert f"{secret:>5}" == "  ***"
    with pytest.raises(TypeError):
        msgspec.json.encode(secret)


def test_a_pickle_holds_no_secret() -> None:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert VALUE.encode() not in pickle.dumps([Secret(VALUE)], protocol)


def test_secrets_are_equal_by_what_they_hide_and_to_no_text() -> None:
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert Secret("a") != STARS
    assert len({Secret("a"), Secret("a"), Secret("b")}) == 2
    assert copy.deepcopy(Secret("a")) == copy.copy(Secret("a")) == Secret("a")


def test_what_this_process_holds_is_taken_out_of_any_text() -> None:
    one, same = Secret(VALUE), Secret(VALUE)
    del one
    gc.collect()
    assert redact(f"failed with {VALUE}!") == f"failed with {STARS}!"
    del same
    gc.collect()
    assert redact(VALUE) == VALUE


def test_of_what_is_concealed_only_the_secrets_of_this_process_are_gone() -> None:
    secret = Secret(VALUE)
    assert conceal(f"Basic authentication with {secret.reveal()}") == f"Basic authentication with {STARS}"


@pytest.mark.parametrize(
    "text",
    [
        "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhbm4ifQ.c2ln",
        "eyJhbGciOiJkaXIifQ..aXY.Y2lwaGVy.dGFn",
        "Authorization: Bearer abcdefgh-ijkl",
        "Basic dXNlcjpwYXNzd29yZA==",
    ],
)
def test_what_looks_like_a_token_is_taken_out(text: str) -> None:
    assert redact(f"before {text} after").startswith("before ")
    assert text.rsplit(maxsplit=1)[-1] not in redact(f"before {text} after")
    assert redact(f"before {text} after").endswith(f"{STARS} after")


def test_other_words_stay() -> None:
    for text in ("eyJ is how a JWT begins", "a Bearer of news", "hop 3 of 0f3e4d5c6b7a", "ey"):
        assert redact(text) == text


def test_a_filter_keeps_tokens_out_of_a_log(caplog: pytest.LogCaptureFixture) -> None:
    secret = Secret(VALUE)
    caplog.handler.addFilter(RedactingFilter())
    log = logging.getLogger("somebody.else")
    log.warning("calling with %s", secret.reveal())
    log.warning("nothing of note")
    try:
        raise ValueError(secret.reveal())
    except ValueError:
        log.exception("it failed")
    assert VALUE not in caplog.text
    assert "nothing of note" in caplog.text
    assert RedactingFilter().filter(logging.LogRecord("a", 10, "f", 1, "%d", ("no number",), None))
    assert f"ValueError: {STARS}" in caplog.text
