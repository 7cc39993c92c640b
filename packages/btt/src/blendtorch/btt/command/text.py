"""Plain text for terminals and logs."""

import textwrap
from collections.abc import Iterator, Sequence


def columns(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Write cells side by side; the last may be of any length."""
    *padded, last = cells
    return "".join(f"{cell:{width}}   " for cell, width in zip(padded, widths, strict=True)) + last


def fields(pairs: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Write names and values below each other; values may have several lines."""
    width = max(len(name) for name, _ in pairs)
    for name, value in pairs:
        first, *others = value.splitlines() or [""]
        yield f"  {name:{width}}   {first}"
        yield from (f"  {'':{width}}   {line}" for line in others)


def listing(title: str, items: Sequence[str]) -> Iterator[str]:
    """Write a numbered list under a title, or that there is nothing to list."""
    if not items:
        yield f"{title}: none"
        return
    yield f"{title}:"
    for number, item in enumerate(items, 1):
        first, *others = item.splitlines()
        yield f"{number:3}. {first}"
        yield from textwrap.indent("\n".join(others), "     ").splitlines()
