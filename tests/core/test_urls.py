"""Broker URLs are read strictly and shown without their password."""

from __future__ import annotations

from urllib.parse import quote, unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from paigeant_core.errors import ConfigError
from paigeant_core.transports import get_transport
from paigeant_core.transports.memory import MemoryTransport
from paigeant_core.urls import SCHEMES, each_address, has_password, mask_url, parse_url, password_in

SECRET = "Ω019"
"""Stands in passwords alone: no other part of a URL made here has one of these."""
passwords = st.text(f"{SECRET}:/?#@[]%&=;.~, \\", min_size=1, max_size=20).filter(lambda text: set(text) & set(SECRET))
schemes = st.sampled_from([scheme for scheme in SCHEMES if scheme != "memory"])
users = st.sampled_from(["", "ann"])
hosts = st.sampled_from(["broker.example", "a.example:6666,b.example,[::2]:77", "[::2],b.example"])
rests = st.sampled_from(["", "/", "/db", "/%2f", "/db?client_name=x", "?name=x&heartbeat=y", "#fragment"])


def leaks(shown: str) -> bool:
    # An encoded Ω is %CE%A9: its 9 is among the secrets.
    return bool(set(shown) & set(SECRET))


@given(schemes, users, passwords, hosts, rests)
@example("redis", "ann", "0/Ω", "broker.example", "")
@example("redis", "ann", "0#Ω", "broker.example", "")
@example("redis", "ann", "0?Ω", "broker.example", "")
@example("amqp", "", "Ω@Ω", "broker.example", "/%2f")
@example("redis", "ann", "[Ω", "broker.example", "")
@example("redis", "ann", "0,Ω/", "broker.example", "")
@example("redis", "ann", "Ω,0:0?0", "broker.example,b.example", "")
def test_a_password_is_never_shown(scheme: str, user: str, password: str, host: str, rest: str) -> None:
    assert not leaks(mask_url(f"{scheme}://{user}:{quote(password, safe='')}@{host}{rest}"))
    assert not leaks(mask_url(f"{scheme}://{user}:{password}@{host}{rest}"))


@given(
    schemes, passwords, st.sampled_from(["password", "Pass", "ssl_key_password", "token", "client_secret", "api-key"])
)
def test_an_option_that_sounds_like_a_password_is_never_shown(scheme: str, password: str, option: str) -> None:
    shown = mask_url(f"{scheme}://broker.example/db?a=b&{option}={quote(password, safe='')}")
    assert not leaks(shown)
    assert shown == f"{scheme}://broker.example/db?a=b&{option}=***"


@given(schemes, passwords, st.integers(0, 3))
def test_a_password_of_a_url_in_an_option_is_never_shown(scheme: str, password: str, times: int) -> None:
    for inner in (f"http://ann:{quote(password, safe='')}@api.example/", f"http://ann:{password}@api.example"):
        value = inner
        for _ in range(times):
            value = quote(value, safe="")
        assert not leaks(unquote(mask_url(f"{scheme}://broker.example/db?management={value}&a=b")))


def test_a_url_in_an_option_is_shown_without_its_password() -> None:
    shown = "amqp://broker/?management=" + quote("http://ann:***@api:15672", safe="*")
    assert mask_url("amqp://broker/?management=" + quote("http://ann:secret@api:15672", safe="")) == shown
    assert mask_url(shown) == shown
    assert mask_url("amqp://broker/?a=" + "http://h?a=" * 5000 + "x") == "amqp://broker/?a=***"


@given(passwords)
@example("//0")
def test_text_that_is_no_url_is_not_shown(password: str) -> None:
    for text in (f"ann:{password}@broker.example", f"redis:ann:{password}@broker.example", f"//ann:{password}@broker"):
        assert not leaks(mask_url(text))


@given(st.text(max_size=60) | st.text("redis:/@?#[]&=%\udc80 ", max_size=40))
def test_masking_never_fails(text: str) -> None:
    assert isinstance(mask_url(text), str)
    assert mask_url(mask_url(text)) == mask_url(text)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("memory://", "memory://"),
        ("memory://demo", "memory://demo"),
        ("redis://localhost:6379/0", "redis://localhost:6379/0"),
        ("redis://ann:secret@localhost:6379/0", "redis://ann:***@localhost:6379/0"),
        ("redis://:secret@localhost", "redis://:***@localhost"),
        ("amqps://ann@broker/%2f?heartbeat=10", "amqps://ann@broker/%2f?heartbeat=10"),
        ("redis://ann:@localhost", "redis://ann:***@localhost"),
        ("amqp://ann:secret@one:5672,two/prod", "amqp://ann:***@one:5672,two/prod"),
        ("redis://[::1]:6379,[::2]/0", "redis://[::1]:6379,[::2]/0"),
        (
            "redis+sentinel://one,two/main/0?sentinel_password=x",
            "redis+sentinel://one,two/main/0?sentinel_password=***",
        ),
    ],
)
def test_the_rest_of_a_url_is_shown(url: str, shown: str) -> None:
    assert mask_url(url) == shown


@pytest.mark.parametrize(
    "url",
    [
        *("", "localhost", "http://x", "redis:x", "redis:/x", "redis://h:port", "redis://[x", "a b://"),
        *("redis://h,", "redis://,h", "amqp://h,,i", "amqp://ann:secret@,", "amqp://h:1,i:port", "redis://h,[::1"),
        *("amqp+sentinel://h", "redis+sentinels://h"),
    ],
)
def test_what_is_no_broker_is_refused(url: str) -> None:
    with pytest.raises(ConfigError):
        parse_url(url)


@pytest.mark.parametrize(
    "url", ["redis://", "redis:///0", "rediss:///", "amqp://", "amqp:///%2f", "amqps://?heartbeat=5"]
)
def test_a_server_without_a_host_is_refused_in_words(url: str) -> None:
    with pytest.raises(ConfigError, match=r"^the broker URL names no host; write e\.g\. (redis|amqp)s?://host"):
        get_transport(url)


@pytest.mark.parametrize("character", ["\n", "\x00", "\x1b", " ", "\x7f"])
def test_control_characters_are_refused(character: str) -> None:
    with pytest.raises(ConfigError, match="control"):
        parse_url(f"redis://host{character}/0")


@given(passwords)
def test_a_refusal_does_not_quote_the_url(password: str) -> None:
    for url in (f"redis://ann:{password}@h\n", f"http://ann:{password}@h", f"ann:{password}@h"):
        with pytest.raises(ConfigError) as refused:
            parse_url(url)
        assert not leaks(str(refused.value).replace("redis://host:6379/0", ""))  # its example of a URL


@st.composite
def addresses(draw: st.DrawFn) -> str:
    host = draw(st.sampled_from(["a", "b.example", "10.0.0.7", "[::1]", "[fe80::2]"]))
    return host + draw(st.just("") | st.integers(1, 65535).map(":{}".format))


@given(schemes, st.sampled_from(["", "ann@", "ann:secret@", "ann:a,b@"]), st.lists(addresses(), min_size=1), rests)
def test_several_addresses_are_read_each_with_all_the_rest(scheme: str, login: str, each: list[str], rest: str) -> None:
    url = f"{scheme}://{login}{','.join(each)}{rest}"
    found = each_address(url)
    assert found == [f"{scheme}://{login}{address}{rest}" for address in each]
    assert [each_address(one) for one in found] == [[one] for one in found]
    assert parse_url(url) == parse_url(found[0])
    assert password_in(url) == password_in(found[-1])
    assert ",".join(each) in mask_url(url)


@given(st.text(max_size=60) | st.text("redis+amqp:/@?#[]&=%,\udc80 ", max_size=40))
def test_any_text_has_an_address(text: str) -> None:
    assert each_address(text)
    assert isinstance(password_in(text), str)


def test_a_memory_brokers_name_is_one_name() -> None:
    assert each_address("memory://one,two") == ["memory://one,two"]


def test_whether_there_is_a_password() -> None:
    assert has_password("redis://ann:secret@[::1]:1,[::2]/0")
    assert has_password("redis://ann:secret@h")
    assert not has_password("redis://ann@h")
    assert not has_password("redis://[x")


def test_the_url_comes_from_the_environment_then_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAIGEANT_URL", "memory://from-the-environment")
    assert get_transport().url == "memory://from-the-environment"
    assert get_transport("memory://given").url == "memory://given"
    monkeypatch.delenv("PAIGEANT_URL")
    assert isinstance(get_transport(), MemoryTransport)


def test_one_name_is_one_memory_broker() -> None:
    one, other, third = get_transport("memory://one"), get_transport("memory://one/"), get_transport("memory://two")
    assert isinstance(one, MemoryTransport)
    assert isinstance(other, MemoryTransport)
    assert isinstance(third, MemoryTransport)
    assert one.broker is other.broker
    assert one.broker is not third.broker
