"""Runs the code blocks of examples.md, which are the conceptual guide's own."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import Any

_TEXT = Path(__file__).with_name("examples.md").read_text("utf-8")

EXAMPLES: dict[str, str] = dict(re.findall(r"^## (.+?)\n\n```python\n(.+?)^```", _TEXT, re.MULTILINE | re.DOTALL))
"""The code of each example by its heading."""


async def run(title: str, *, model: object = None, **names: Any) -> dict[str, Any]:
    """Run an example as the top level of a program that awaits, and return its names.

    Args:
        title: its heading.
        model: what stands in place of the guide's "openai:gpt-4".
        names: what the guide takes as given: its agents, a transport, what an earlier example made.
    """
    code = EXAMPLES[title]
    if model is not None:
        assert '"openai:gpt-4"' in code
        code = code.replace('"openai:gpt-4"', "model")
    namespace: dict[str, Any] = {"model": model, **names}
    compiled = compile(code, f"examples.md: {title}", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    waiting = eval(compiled, namespace)
    if inspect.isawaitable(waiting):
        await waiting
    return namespace
