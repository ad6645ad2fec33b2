"""The styles of a widget's parts, as its spans and cells name them."""

from __future__ import annotations

from typing import Final

from rich.style import Style
from textual.widget import Widget

__all__ = ["NO_STYLE", "ComponentStyles"]

NO_STYLE: Final = Style.null()


class ComponentStyles(dict[str, Style]):
    """Styles by name, each asked of Textual once; that of the empty name is the widget's own.

    Args:
        widget: The widget.
        prefix: What its component classes begin with, before two dashes and the name.
    """

    def __init__(self, widget: Widget, prefix: str) -> None:
        super().__init__()
        self._widget = widget
        self._prefix = prefix

    def __missing__(self, name: str) -> Style:
        style = self[name] = self._read(name)
        return style

    def reread(self) -> bool:
        """Ask Textual again for the styles in use; whether one of them has changed."""
        styles = {name: self._read(name) for name in self}
        if styles == self:
            return False
        self.update(styles)
        return True

    def _read(self, name: str) -> Style:
        if not name:
            return self._widget.rich_style
        try:
            full = self._widget.get_component_rich_style(f"{self._prefix}--{name}")
        except KeyError:
            return NO_STYLE
        part = self._widget.get_component_rich_style(f"{self._prefix}--{name}", partial=True)
        # The colour as it comes out on this background, but a background only where the rule names one: the style of a
        # cell must not cover the cursor's.
        return Style(color=full.color if part.color else None, bgcolor=part.bgcolor) + part.without_color
