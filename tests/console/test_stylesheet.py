"""When the style sheet is read, and which rules parts of widgets have; with the private parts of Textual it needs."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.widget import Widget

from paigeant_console.stylesheet import ParsedOnce
from paigeant_console.terminal import ConsoleAppBase


def test_a_style_sheet_is_read_again_only_where_its_variables_mean_something_else() -> None:
    sheet = ParsedOnce(variables={"a": "red"})
    sheet.add_source("X { color: $a; }")
    first = sheet.rules
    sheet.set_variables({"a": "red"})
    sheet.reparse()
    assert sheet.rules is first
    sheet.set_variables({"a": "blue"})
    sheet.reparse()
    assert [rule.styles.color.hex for rule in sheet.rules] == ["#0000FF"]
    sheet.add_source("Y { color: $a; }", read_from=("", "Y"))
    assert len(sheet.rules) == 2, "what comes later is read too"


class _Parts(Widget, can_focus=True):
    """A widget of which a part has a style of its own."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"parts--one"}

    def colour(self) -> str:
        return self.get_component_styles("parts--one").color.hex


class _Sheets(ConsoleAppBase):
    CSS = """
    .parts--one { color: #000001; }
    _Parts:focus > .parts--one { color: #000002; }
    _Parts.-own > .parts--one { color: #000003; }
    .-odd .parts--one { color: #000004; }
    #named > .parts--one { color: #000005; }
    """
    AUTO_FOCUS = None

    def compose(self) -> ComposeResult:
        yield from (_Parts(), _Parts(), _Parts(id="named"))


async def test_parts_of_widgets_have_the_rules_of_the_place_where_they_stand() -> None:
    app = _Sheets()
    async with app.run_test() as pilot:
        one, other, named = app.query(_Parts)

        async def colours() -> list[str]:
            await pilot.pause()
            return [widget.colour() for widget in (one, other, named)]

        assert await colours() == ["#000001", "#000001", "#000005"]
        other.focus()
        assert await colours() == ["#000001", "#000002", "#000005"]
        one.add_class("-own")
        assert await colours() == ["#000003", "#000002", "#000005"]
        one.remove_class("-own")
        app.set_focus(None)
        app.add_class("-odd")
        assert await colours() == ["#000004", "#000004", "#000005"]
        app.stylesheet.add_source(".parts--one { color: #000006 !important; }")
        app.refresh_css()
        assert await colours() == ["#000006"] * 3
