"""How the style sheet is read and applied: less often than Textual does by itself.

Textual promises nothing about a style sheet's `_process_component_classes` and a node's `_pseudo_classes_cache_key`:
each use has a test in `tests/console/test_stylesheet.py`.
"""

from __future__ import annotations

from collections.abc import Hashable

from textual.css.styles import RulesMap
from textual.css.stylesheet import Stylesheet
from textual.dom import DOMNode

__all__ = ["ParsedOnce"]


class ParsedOnce(Stylesheet):
    """A style sheet that is read again only where a theme has changed what its variables mean.

    Textual reads all of it anew for each screen that it shows for the first time, which takes longer than all the rest.
    And it looks through all rules for each part of each widget, a dozen in each; here those of like widgets are known.
    """

    def __init__(self, *, variables: dict[str, str]) -> None:
        super().__init__(variables=variables)
        self._read_with = variables
        self._stale = False
        self._path: Hashable = ()
        """All that selectors can tell of the widget whose parts are styled now, and of what it is in."""
        self._part_rules: dict[Hashable, RulesMap] = {}

    def set_variables(self, variables: dict[str, str]) -> None:
        """Take up what variables mean.

        Args:
            variables: by name.
        """
        if variables != self._read_with:
            super().set_variables(variables)
            self._read_with = variables
            self._stale = True

    def reparse(self) -> None:
        """Read all of it again, where that would come out otherwise."""
        if self._stale:
            super().reparse()
            self._stale = False
            self._part_rules.clear()

    def parse(self) -> None:
        """Read what has not been read yet."""
        super().parse()
        self._part_rules.clear()

    def apply(
        self, node: DOMNode, *, animate: bool = False, cache: dict[tuple[object, ...], RulesMap] | None = None
    ) -> None:
        """Style a widget, or the nameless node that Textual makes for a part of one.

        Args:
            node: what to style.
            animate: as in Textual.
            cache: as in Textual.
        """
        if type(node) is not DOMNode:
            super().apply(node, animate=animate, cache=cache)
            return
        part = node.classes, self._path
        rules = self._part_rules.get(part)
        if rules is None:
            super().apply(node)
            self._part_rules[part] = node.styles.base.get_rules()
        else:
            self.replace_rules(node, rules)

    def _process_component_classes(self, node: DOMNode) -> None:
        self._path = tuple((type(at), at.id, at.classes, at._pseudo_classes_cache_key) for at in node.css_path_nodes)
        super()._process_component_classes(node)
