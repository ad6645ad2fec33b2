"""Widgets of the console. Each draws what a model tells it, knows no screen and no broker, and takes safe text only."""

from __future__ import annotations

from paigeant_console.widgets.columns import Cell, Column, RowSource, Span
from paigeant_console.widgets.line_table import LineTable

__all__ = ["Cell", "Column", "LineTable", "RowSource", "Span"]
