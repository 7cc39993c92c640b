"""Opening the page in the browser."""

import html
import tempfile
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def opened(url: str) -> Iterator[None]:
    """Open an address in the user's browser; while the block runs, the file that leads there exists.

    Command lines can be read by all who have an account on this machine, and who has the token can look. So the browser is
    given a file that only this user can read, which leads to the address.
    """
    with tempfile.TemporaryDirectory(prefix="blendtorch-view-") as folder:  # for this user alone, as mkdtemp makes it
        page = Path(folder) / "view.html"
        page.touch(0o600)
        page.write_text(
            '<!doctype html><meta charset="utf-8"><meta name="referrer" content="no-referrer">'
            f'<title>blendtorch</title><meta http-equiv="refresh" content="0; url={html.escape(url)}">'
            f'<a href="{html.escape(url)}">the page of blendtorch view</a>\n',
            encoding="utf-8",
        )
        webbrowser.open(page.as_uri())
        yield
