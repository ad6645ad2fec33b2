"""When a failed step is tried again."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paigeant_core.errors import ConfigError, NonRetryable, RetryAfter
from paigeant_core.retry import RetryPolicy

DAYS = 30 * 86400
spans = st.floats(0, DAYS) | st.integers(0, DAYS)
policies = st.builds(
    RetryPolicy,
    max_attempts=st.integers(1, 10**6),
    backoff=st.sampled_from(["exponential", "constant"]),
    initial=spans,
    factor=spans,
    cap=spans,
    jitter=st.floats(0, 1),
)
attempts = st.integers(1, 50) | st.integers(1, 10**9)
chances = st.floats(0, 1)


def test_the_defaults_are_those_of_the_design() -> None:
    policy = RetryPolicy()
    assert policy.max_attempts == 3
    middle = [policy.delay(attempt, 0.5) for attempt in range(1, 9)]
    assert middle == [1, 2, 4, 8, 16, 32, 60, 60]
    assert (policy.delay(1, 0.0), policy.delay(1, 1.0)) == (0.9, 1.1)


def test_a_constant_wait_does_not_grow() -> None:
    policy = RetryPolicy(backoff="constant", initial=5, jitter=0)
    assert [policy.delay(attempt) for attempt in (1, 2, 30)] == [5, 5, 5]


@given(policies, attempts, st.none() | chances)
def test_a_wait_is_a_number_within_its_jitter_and_never_negative(
    policy: RetryPolicy, attempt: int, chance: float | None
) -> None:
    wait = policy.delay(attempt, chance)
    middle = policy.delay(attempt, 0.5)
    assert math.isfinite(wait)
    assert 0 <= middle <= policy.cap
    assert middle * (1 - policy.jitter) - 1e-6 <= wait <= middle * (1 + policy.jitter) + 1e-6
    assert wait >= 0


@given(policies.filter(lambda policy: policy.factor >= 1), st.integers(1, 2000))
def test_waits_do_not_shrink(policy: RetryPolicy, attempt: int) -> None:
    assert policy.delay(attempt + 1, 0.5) >= policy.delay(attempt, 0.5)


def test_the_whole_jitter_is_used() -> None:
    policy = RetryPolicy(initial=10, jitter=0.2)
    waits = [policy.delay(1) for _ in range(2000)]
    assert min(waits) < 8.5
    assert max(waits) > 11.5


def test_a_long_series_ends_at_the_cap() -> None:
    policy = RetryPolicy(factor=1.01, initial=1, cap=60, jitter=0, max_attempts=10**9)
    assert policy.delay(5000) == 60
    assert RetryPolicy(factor=1e6, cap=60, jitter=0).delay(10**6) == 60
    assert RetryPolicy(initial=0, factor=1e6).delay(10**6) == 0


def test_the_last_attempt_has_no_next() -> None:
    policy = RetryPolicy(max_attempts=3)
    assert policy.next_delay(ValueError(), 2, 0.5) == 2
    assert policy.next_delay(ValueError(), 3) is None
    assert policy.next_delay(RetryAfter(1), 3) is None
    assert RetryPolicy(max_attempts=1).next_delay(ValueError(), 1) is None


def test_non_retryable_is_never_tried_again() -> None:
    class Refused(NonRetryable):
        pass

    policy = RetryPolicy(max_attempts=10, retry_on=(BaseException,))
    assert policy.next_delay(NonRetryable(), 1) is None
    assert policy.next_delay(Refused(), 1) is None


def test_retry_after_says_when_whatever_the_policy_says() -> None:
    assert RetryPolicy(cap=1).next_delay(RetryAfter(90), 1) == 90
    assert RetryPolicy(retry_on=()).next_delay(RetryAfter(0), 1) == 0
    assert str(RetryAfter(2.5)) == "asked to be tried again in 2.5 s"


@pytest.mark.parametrize("seconds", [-1, -0.001, math.nan, math.inf, 1e10])
def test_retry_after_a_time_that_cannot_be_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match="must be from 0"):
        RetryAfter(seconds)


def test_exceptions_are_chosen_by_class() -> None:
    policy = RetryPolicy(retry_on=(OSError,), never_on=(FileNotFoundError,))
    assert policy.next_delay(ConnectionError(), 1) is not None
    assert policy.next_delay(FileNotFoundError(), 1) is None
    assert policy.next_delay(ValueError(), 1) is None


def group(*errors: Exception) -> ExceptionGroup[Exception]:
    return ExceptionGroup("unhandled errors in a TaskGroup", errors)


def test_of_a_group_what_is_in_it_decides() -> None:
    policy = RetryPolicy(retry_on=(OSError,), never_on=(FileNotFoundError,))
    assert policy.next_delay(group(ConnectionError(), group(TimeoutError())), 1) is not None
    assert policy.next_delay(group(ConnectionError(), ValueError()), 1) is None
    assert policy.next_delay(group(ConnectionError(), group(FileNotFoundError())), 1) is None
    assert RetryPolicy().next_delay(group(ValueError(), KeyError()), 1) is not None
    assert RetryPolicy().next_delay(group(ValueError(), group(NonRetryable())), 1) is None
    assert RetryPolicy(never_on=(ValueError,)).next_delay(group(ValueError()), 1) is None


def test_a_group_that_says_when_is_tried_again_at_the_latest_of_its_times() -> None:
    assert RetryPolicy(cap=1).next_delay(group(RetryAfter(90), group(RetryAfter(20), ValueError())), 1) == 90
    assert RetryPolicy(retry_on=()).next_delay(group(RetryAfter(5)), 1) == 5
    # The others in it must be such that are tried again.
    assert RetryPolicy(retry_on=(OSError,)).next_delay(group(RetryAfter(5), ValueError()), 1) is None
    assert RetryPolicy().next_delay(group(RetryAfter(5), NonRetryable()), 1) is None
    assert RetryPolicy(max_attempts=2).next_delay(group(RetryAfter(5)), 2) is None


def test_a_group_can_be_named_as_such() -> None:
    assert RetryPolicy(retry_on=(ExceptionGroup,)).next_delay(group(ValueError()), 1) is not None
    assert RetryPolicy(retry_on=(ExceptionGroup,)).next_delay(ValueError(), 1) is None
    assert RetryPolicy(never_on=(ExceptionGroup,)).next_delay(group(ValueError()), 1) is None
    assert RetryPolicy(never_on=(ExceptionGroup,)).next_delay(ValueError(), 1) is not None


def test_a_group_in_which_nothing_is_found_is_an_exception_like_others() -> None:
    deep = group(ValueError())
    for _ in range(1_000):
        deep = group(deep)
    assert RetryPolicy().next_delay(deep, 1) is not None
    assert RetryPolicy(retry_on=(OSError,)).next_delay(deep, 1) is None


@pytest.mark.parametrize(
    "setting",
    [
        {"max_attempts": 0},
        {"max_attempts": True},
        {"max_attempts": 1.5},
        {"max_attempts": "3"},
        {"backoff": "linear"},
        {"backoff": ["exponential"]},
        {"initial": -1},
        {"initial": math.nan},
        {"cap": math.inf},
        {"factor": None},
        {"factor": True},
        {"jitter": 1.1},
        {"jitter": -0.1},
        {"jitter": math.nan},
        {"unknown": 1},
        {"retry_on": []},
    ],
)
def test_a_policy_that_cannot_be_is_refused(setting: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        RetryPolicy.from_document(setting)


@given(policies)
def test_a_policy_rides_in_a_step(policy: RetryPolicy) -> None:
    assert RetryPolicy.from_document(policy.to_document()) == policy
    assert RetryPolicy.from_document(policy.to_document(whole=True)) == policy


def test_only_what_differs_rides_unless_all_is_asked_for() -> None:
    assert RetryPolicy().to_document() == {}
    assert RetryPolicy(max_attempts=5, retry_on=(OSError,)).to_document() == {"max_attempts": 5}
    assert set(RetryPolicy().to_document(whole=True)) == {
        "max_attempts",
        "backoff",
        "initial",
        "factor",
        "cap",
        "jitter",
    }
