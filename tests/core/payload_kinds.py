"""Kinds of fields that a payload model may have, for what is to hold of all of them."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import ipaddress
import pathlib
import re
import uuid
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple, NotRequired

import pydantic
import pydantic_core
from pydantic import AfterValidator, AliasChoices, AliasPath, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema, WithJsonSchema
from typing_extensions import TypeAliasType, TypedDict

Number = TypeAliasType("Number", Annotated[int, Field(ge=1)])


class Whole(enum.IntEnum):
    """Whole numbers."""

    ONE = 1
    TWO = 2


class Mixed(enum.Enum):
    """Of several kinds."""

    ONE = 1
    TEXT = "x"
    HALF = 2.5


class Text(enum.StrEnum):
    """Texts."""

    A = "a"


class Shouted(enum.StrEnum):
    """Its members' values are not the texts that they are."""

    A = "a"

    def __new__(cls, value: str) -> Shouted:
        """Make it loud."""
        member = str.__new__(cls, value.upper())
        member._value_ = value
        return member


class Rate(float, enum.Enum):
    """Floats."""

    LOW = 1.5
    HIGH = 2.0


class Exact(enum.Enum):
    """What JSON does not have."""

    HALF = decimal.Decimal("1.5")
    DAY = dt.date(2020, 1, 1)
    PAIR = [1, 2]  # noqa: RUF012 - what JSON has, and cannot be hashed


class Guessed(enum.Enum):
    """Anything."""

    A = "a"

    @classmethod
    def _missing_(cls, value: object) -> Guessed:
        return cls.A


class Called(enum.Enum):
    """Of several names, as enums have them before Python 3.13."""

    A = "a"

    def __init__(self, value: str) -> None:
        type(self)._value2member_map_["ab"] = self


class Bits(enum.IntFlag):
    """Any sum of them."""

    ONE = 1
    TWO = 2


class Opaque:
    """pydantic knows nothing of it."""


class Point(NamedTuple):
    """A pair with names."""

    x: int
    y: str = ""


class Part(TypedDict, total=False):
    """An object of its own."""

    x: int
    y: NotRequired[Annotated[str, Field(max_length=1)]]


class Strict(BaseModel):
    """Strictly taken, and nothing beside."""

    model_config = ConfigDict(extra="forbid", strict=True)

    x: int
    y: str = ""


class Shared(BaseModel):
    """Of kinds that are defined once and used twice."""

    x: Number = 1
    y: Number = 1
    z: list[Strict] = []
    n: Strict


class Stripped(BaseModel):
    """Texts are shorter than they came."""

    model_config = ConfigDict(str_strip_whitespace=True, coerce_numbers_to_str=True, str_max_length=2, extra="forbid")

    x: Annotated[str, Field(min_length=1)]
    y: Annotated[str, Field(max_length=1)] = ""


class Named(BaseModel):
    """Fields of several names."""

    model_config = ConfigDict(validate_by_name=True, extra="forbid")

    x: Annotated[int, Field(alias="y")] = 1
    z: Annotated[int, Field(validation_alias=AliasChoices("z", AliasPath("y", 0)))] = 1


class Kept(BaseModel):
    """Anything beside is of a kind."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, int]

    x: int | SkipJsonSchema[None] = None
    y: Annotated[Any, Field(json_schema_extra={"type": "integer"})] = 1


class Free(BaseModel):
    """With a constructor of its own."""

    x: int

    def __init__(self, **data: Any) -> None:
        """Take nothing, too."""
        super().__init__(x=5, **{name: value for name, value in data.items() if name != "x"})


class Tree(BaseModel):
    """In itself, with a check of its own behind."""

    model_config = ConfigDict(json_schema_extra={"required": ["y"]})

    x: list[Tree] = Field([], max_length=1)
    y: Tree | None = None

    @pydantic.field_validator("x")
    @classmethod
    def at_most_one(cls, value: list[Tree]) -> list[Tree]:
        """Count."""
        return value[:1]


@dataclasses.dataclass
class Data:
    """A dataclass."""

    x: int
    y: int = dataclasses.field(default=1, init=False)


@pydantic.dataclasses.dataclass(config=ConfigDict(extra="forbid", str_to_upper=True))
class Upper:
    """Texts are longer than they came."""

    x: Annotated[str, Field(min_length=2)]


def fewer(value: Iterable[Any]) -> Any:
    """Each once."""
    return sorted(set(value))


def odd(value: int) -> int:
    """Leave out an even one."""
    if value % 2 == 0:
        raise pydantic_core.PydanticOmit
    return value


BASE = Field(max_length=3)
STRIPPED = AfterValidator(str.strip)
OMITTED = pydantic.OnErrorOmit[int]
Code = TypeAliasType("Code", Annotated[str, Field(max_length=3)])

KINDS: list[Any] = [
    # Plain ones, and with bounds.
    *(int, float, bool, str, bytes, complex, None, Any, object, Hashable, Opaque, decimal.Decimal, fractions.Fraction),
    *(Annotated[kind, Field(gt=1, le=2)] for kind in (int, float, decimal.Decimal, fractions.Fraction, int | float)),
    Annotated[float, Field(le=2**53)],
    Annotated[decimal.Decimal, Field(gt=decimal.Decimal("0.09999999999999999999999"))],
    *(Annotated[decimal.Decimal, Field(max_digits=3, decimal_places=1, lt=decimal.Decimal("0.1"))], pydantic.ByteSize),
    Annotated[int, Field(multiple_of=2)],
    pydantic.StrictInt,
    pydantic.StrictStr,
    pydantic.StrictBool,
    pydantic.FiniteFloat,
    Annotated[pydantic.ByteSize, Field(ge=1)],
    Annotated[int | str, Field(gt=3)],
    Annotated[str | None, Field(min_length=2)],
    # Texts and bytes with lengths.
    *(Annotated[kind, BASE] for kind in (str, bytes, pydantic.SecretStr, pydantic.SecretBytes, pydantic.AnyUrl)),
    *(Annotated[kind, BASE] for kind in (pydantic.Base64Str, pydantic.Base64Bytes, pydantic.Base64UrlStr)),
    Annotated[bytes, Field(min_length=3)],
    Annotated[pydantic.SecretBytes, Field(min_length=3)],
    Annotated[str, Field(min_length=3)],
    Annotated[str, Field(coerce_numbers_to_str=True, max_length=3)],
    Annotated[str, pydantic.StringConstraints(strip_whitespace=True, min_length=1, max_length=3)],
    Annotated[str, pydantic.StringConstraints(to_upper=True, min_length=2, max_length=3)],
    Annotated[str, pydantic.StringConstraints(to_lower=True, min_length=2, pattern="^a")],
    # Behind validators.
    *(Annotated[str, STRIPPED, BASE], Annotated[str, STRIPPED, pydantic.StringConstraints(max_length=3)]),
    *(Annotated[str, BASE, STRIPPED], Annotated[int, AfterValidator(abs), Field(ge=0)]),
    *(
        Annotated[kind, AfterValidator(fewer), Field(max_length=1)]
        for kind in (list[int], tuple[int, ...], Sequence[int])
    ),
    Annotated[dict[str, int], AfterValidator(lambda value: {}), Field(max_length=1)],
    Annotated[int, BeforeValidator(lambda _: 5)],
    Annotated[int, pydantic.WrapValidator(lambda value, check: 5)],
    Annotated[int, pydantic.PlainValidator(lambda value: 5)],
    Annotated[Opaque, pydantic.PlainValidator(lambda value: Opaque())] | int,
    Annotated[Literal["a"], BeforeValidator(str.lower)],
    Annotated[Any, WithJsonSchema({"type": "integer"})],
    Annotated[str, pydantic.Strict()],
    # Of a few values.
    Whole,
    Mixed,
    Text,
    Shouted,
    Rate,
    Exact,
    Guessed,
    Called,
    Bits,
    Literal[1, "a"],
    Literal[True],
    Literal[1],
    Literal[0, 2],
    Literal["1"],
    *(Literal[None, "a"], Literal[b"a"], Literal[Text.A], Literal[Shouted.A], Literal[Whole.ONE], Literal["a", "b"]),
    # Times, addresses and the like.
    *(dt.date, dt.datetime, dt.time, dt.timedelta, pydantic.PastDate, pydantic.AwareDatetime),
    Annotated[dt.date, Field(ge=dt.date(2020, 1, 1))],
    Annotated[dt.timedelta, Field(ge=dt.timedelta(0))],
    ipaddress.IPv4Address,
    ipaddress.IPv4Network,
    ipaddress.IPv4Interface,
    ipaddress.IPv6Address,
    ipaddress.IPv6Network,
    pydantic.IPvAnyAddress,
    pydantic.IPvAnyNetwork,
    pydantic.AnyUrl,
    pydantic.HttpUrl,
    pydantic.PostgresDsn,
    uuid.UUID,
    pydantic.UUID4,
    pathlib.Path,
    re.Pattern,
    pydantic.Json,
    pydantic.Json[int],
    Annotated[pydantic.Json[list[int]], BASE],
    *(pydantic.ImportString, pydantic.Secret[int], pydantic.Base64Str, type, Callable[[], int]),
    # Of many.
    list,
    dict,
    tuple,
    list[int],
    set[int],
    frozenset[int],
    tuple[int, str],
    tuple[int, ...],
    Sequence[int],
    collections.deque[int],
    Iterable[int],
    Mapping[str, int],
    dict[int, int],
    dict[Whole, int],
    Point,
    Part,
    collections.OrderedDict[str, int],
    collections.Counter[str],
    collections.defaultdict[str, int],
    tuple[OMITTED, int],
    *(
        Annotated[kind, Field(min_length=1, max_length=1)]
        for kind in (
            list[int],
            set[int],
            frozenset[int],
            tuple[int, ...],
            collections.deque[int],
            Iterable[int],
            dict[int, int],
        )
    ),
    Annotated[list[OMITTED], Field(max_length=1)],
    Annotated[list[Annotated[int, AfterValidator(odd)]], Field(max_length=1)],
    Annotated[list[OMITTED | str], Field(max_length=1)],
    Annotated[Sequence[int], BASE],
    Annotated[tuple[OMITTED, ...], Field(max_length=1)],
    list[pydantic.OnErrorOmit[str]],
    # Objects.
    Strict,
    Stripped,
    Named,
    Kept,
    Shared,
    Free,
    Tree,
    Data,
    Upper,
    pydantic.RootModel[Annotated[list[int], BASE]],
    Strict | Stripped,
    Code,
    list[Code],
    tuple[Code, Code],
    list[Stripped],
    Annotated[list[Tree], Field(max_length=1)],
    dict[str, Strict],
    Data | int | None,
]
