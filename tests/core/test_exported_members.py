"""What the library promises by name."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

import pytest

import paigeant_core
from paigeant_core import errors
from paigeant_core.errors import ConfigError, PaigeantError

IN_THE_GUIDE = (
    "ActivitySpec",
    "PlannerAgentDeps",
    "WorkflowDispatcher",
    "create_planner_agent",
    "get_transport",
)


def test_the_names_are_sorted_and_none_stands_twice() -> None:
    assert list(paigeant_core.__all__) == sorted(set(paigeant_core.__all__))


@pytest.mark.parametrize("name", paigeant_core.__all__)
def test_every_name_can_be_imported(name: str) -> None:
    assert getattr(paigeant_core, name) is not None


def test_the_guides_names_are_there() -> None:
    assert all(hasattr(paigeant_core, name) for name in IN_THE_GUIDE)


def test_every_exception_is_there_and_in_one_tree() -> None:
    found = {
        name: member
        for name, member in vars(errors).items()
        if inspect.isclass(member) and issubclass(member, BaseException)
    }
    assert set(found) <= set(paigeant_core.__all__)
    assert all(issubclass(member, PaigeantError) for member in found.values())


def test_every_exception_has_a_code_of_its_own() -> None:
    codes = [
        vars(member)["code"]
        for member in vars(errors).values()
        if inspect.isclass(member) and issubclass(member, PaigeantError)
    ]
    assert len(codes) == len(set(codes))


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = paigeant_core.nonsense


def test_every_module_of_the_library_says_what_it_is_for() -> None:
    for module in pkgutil.walk_packages(paigeant_core.__path__, "paigeant_core."):
        try:
            loaded = importlib.import_module(module.name)
        except ConfigError:
            continue  # an extra that is not installed
        assert loaded.__doc__ or module.name.endswith("__about__"), module.name
