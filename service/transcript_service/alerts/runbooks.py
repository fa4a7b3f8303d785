"""Runbooks: Markdown files (`prometheus/runbooks`, in the wheel `alerts/pages`) as plain pages."""

from __future__ import annotations

import re
from html import escape
from pathlib import Path
from typing import Final

from markdown_it import MarkdownIt

# An alert's name and nothing else: no dot and no slash can lead out of the folder.
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9]{0,99}", re.ASCII)

_FILE_LINK: Final = re.compile(r'href="([A-Za-z][A-Za-z0-9]*)\.md"', re.ASCII)

# Raw HTML in a runbook is shown as text ("html" off), so a page holds no script.
_MARKDOWN: Final = MarkdownIt("commonmark", {"html": False, "linkify": False}).enable("table")

_STYLE: Final = """
:root { color-scheme: light dark; }
body { font: 1rem/1.6 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2rem; }
pre { overflow-x: auto; padding: .8rem; border: 1px solid; border-radius: .4rem; }
code { font: .9rem ui-monospace, monospace; }
table { border-collapse: collapse; } th, td { border: 1px solid; padding: .3rem .6rem; }
"""


def folder(configured: Path | None) -> Path:
    """Where they are: unless configured, in the wheel or in the checkout."""
    packaged, checkout = Path(__file__).with_name("pages"), Path(__file__).parents[3]
    return configured or (packaged if packaged.is_dir() else checkout / "prometheus/runbooks")


def page(pages: Path, name: str) -> str | None:
    """The runbook of an alert as an HTML page, `None` where there is none.

    Read at each request: they are small and may change.
    """
    if not _NAME.fullmatch(name):
        return None
    try:
        text = (pages / f"{name}.md").read_text(encoding="utf-8")
    except OSError:
        return None
    # As files they link to each other with their ending, as pages without.
    body = _FILE_LINK.sub(r'href="\1"', _MARKDOWN.render(text))
    return _page(name, f'<p><a href="../runbooks">All runbooks</a></p>{body}')


def index(pages: Path) -> str:
    """A page that links to all of them, in alphabetical order."""
    names = sorted(f.stem for f in pages.glob("*.md") if _NAME.fullmatch(f.stem))
    links = "".join(f'<li><a href="runbooks/{name}">{name}</a></li>' for name in names)
    return _page("Runbooks", f"<h1>Runbooks</h1><ul>{links}</ul>")


def _page(title: str, body: str) -> str:
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style></head><body><main>{body}</main></body></html>"
    )
