"""A report as text for a terminal: tables of rich."""

from collections.abc import Iterator, Mapping

from blendtorch.btt.auditing.audit import Report
from blendtorch.btt.auditing.comparing import written_iou
from blendtorch.btt.auditing.statistics import UNREADABLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

_MOST_PLACES = 3  # of a finding
_MOST_PICTURES = 20  # in the table of what was rendered again


def show(report: Report, console: Console) -> None:
    """Print a report.

    Parameters
    ----------
    report : Report
    console : rich.console.Console
    """
    counted = report.statistics
    console.print(Text(f"{counted.samples} samples, {counted.pictures} pictures in {report.folder} ({report.writer})", "bold"))
    table = Table.grid(padding=(0, 2))
    rows = {
        "objects": _counts(counted.classes, counted.objects),
        "pictures without objects": str(counted.empty),
        "splits": _counts(counted.splits, counted.pictures),
        "tiny (under 1/1000 of the picture)": _part(counted.tiny, counted.objects),
        "truncated by the border": _part(counted.truncated, counted.objects),
        "hidden (less than half is seen)": "" if counted.hidden is None else _part(counted.hidden, counted.objects),
        "ignored": _reasons(counted.ignored),
        "left out": _reasons(counted.left_out),
    }
    for name, value in rows.items():
        if value:
            table.add_row(f"  {name}", Text(value))
    console.print(table)
    for finding in counted.findings:
        console.print(Text(f"{finding.what}: {len(finding.where)}", "bold red" if finding.wrong else "yellow"))
        for line in _some(finding.where):
            console.print(Text(f"  {line}"))
    for text in report.changed:
        console.print(Text(f"Not as it was when the samples were made: {text}", "yellow"))
    if report.compared:
        _show_compared(report, console)
    if others := [each for each in report.compared if each.other and not each.problems]:
        text = f"{len(others)} pictures look otherwise now that what has made them has changed: "
        console.print(Text(f"{text}{others[0].picture}, {others[0].other}", "yellow"))
    if report.changed and not report.agree:
        console.print(Text("Another renderer may move edges by pixels: --min-iou 0.98 allows that", "yellow"))
    console.print(Text(" ".join(verdict(report)), "bold green" if report.exit_code == 0 else "bold red"))


def verdict(report: Report) -> list[str]:
    """Say in a few sentences what is to be thought of it."""
    text = []
    if not report.agree:
        bad = sum(bool(each.problems) for each in report.compared)
        text.append(f"{bad} of {len(report.compared)} pictures, or their labels, are not what was rendered again.")
    elif report.compared:
        text.append(f"All labels of the {len(report.compared)} pictures that were rendered again agree.")
    wrong = [
        f"{each.what} ({len(each.where)}{f'; {each.where[0]}' if each.what == UNREADABLE else ''})"
        for each in report.statistics.findings
        if each.wrong
    ]
    if wrong:
        text.append(f"What cannot be right: {', '.join(wrong)}.")
    return text or ["Nothing is wrong with what can be told without rendering."]


def _show_compared(report: Report, console: Console) -> None:
    table = Table(box=None, padding=(0, 2), header_style="bold", title="Rendered again, the worst first", title_justify="left")
    for title in ("picture", "objects", "box IoU", "mask IoU", "pixels that differ"):
        table.add_column(title, justify="left" if title == "picture" else "right", no_wrap=True)
    for each in report.compared[:_MOST_PICTURES]:
        differing = "-" if each.differing is None else f"{each.differing:.2%}"
        cells = (each.picture, str(each.objects), written_iou(each.box_iou), written_iou(each.mask_iou), differing)
        table.add_row(*cells, style="red" if each.problems else "")
    console.print(table)
    for each in report.compared:
        for line in _some(each.problems):
            console.print(Text(f"  {each.picture}: {line}", "red"))
    if report.format_box_iou is not None or report.format_mask_iou is not None:
        moved = f", a box {report.format_box_px:.2g} px off" if report.format_box_px else ""
        kept = f"box IoU {written_iou(report.format_box_iou)}, mask IoU {written_iou(report.format_mask_iou)}{moved}"
        text = f"The format {report.writer} keeps of what was rendered, at worst: {kept}"
        console.print(Text(text, "yellow" if report.moves_boxes else ""))


def _counts(counts: Mapping[str, int], total: int) -> str:
    each = ", ".join(f"{count} {name}" for name, count in counts.items())
    return f"{total}: {each}" if each else ""


def _part(count: int, total: int) -> str:
    return f"{count} ({count / total:.0%})" if count else "0"


def _reasons(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in counts.items())


def _some(lines: list[str]) -> Iterator[str]:
    yield from lines[:_MOST_PLACES]
    if len(lines) > _MOST_PLACES:
        yield f"and {len(lines) - _MOST_PLACES} more"
