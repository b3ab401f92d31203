"""What all pages have in common: one HTML file that needs nothing else, no network and no server."""

import html
import json
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from typing import Any

from ._plots import Figure


class Figures:
    """The figures in the order they stand in the page."""

    def __init__(self) -> None:
        self.all: list[Figure] = []

    def put(self, drawn: Figure, caption: str = "", kind: str = "") -> str:
        """Where this figure will be drawn; the caption is plain text."""
        self.all.append(drawn)
        height = drawn["layout"].get("height", 400)
        place = f'<div class="plot {kind}" style="height:{height:.0f}px" data-figure="{len(self.all) - 1}"></div>'
        if kind:
            place = f'<div class="scroll">{place}</div>'
        note = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
        return f"<figure>{place}{note}</figure>"


def document(
    title: str, header: str, sections: Iterable[str], footer: str, data: Mapping[str, Any], plotly: str
) -> str:  # fmt: skip
    """The whole page: the header and the sections are HTML, `data` is for the page's script, by name, and `plotly` the
    source of the Plotly JavaScript library."""
    assets = resources.files(__package__) / "assets"
    return "".join((
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        # Whatever is in the data, the page can load nothing and call nowhere. Plotly compiles its shaders.
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
        "script-src 'unsafe-inline' 'unsafe-eval'; img-src data: blob:; form-action 'none'; base-uri 'none'\">",
        f"<title>{esc(title)}</title>",
        f"<style>{(assets / 'page.css').read_text('utf-8')}</style></head><body>",
        header, "<main>", *filter(None, sections), "</main>",
        f"<footer>{esc(footer)}</footer>", *(_data(name, value) for name, value in data.items()),
        f"<script>{plotly.replace('</script', chr(60) + chr(92) + '/script')}</script>",
        f"<script>{(assets / 'page.js').read_text('utf-8')}</script></body></html>\n",
    ))  # fmt: skip


def esc(text: object) -> str:
    """Text as HTML."""
    return html.escape(str(text))


def _data(id: str, value: Any) -> str:
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    # No markup can begin inside: what is data stays data.
    text = text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return f'<script type="application/json" id="{id}">{text}</script>'


def section(title: str, *parts: str) -> str:
    """A part of the page with its heading; the parts are HTML."""
    return f"<section><h2>{esc(title)}</h2>{''.join(parts)}</section>"


def note(text: str) -> str:
    """A line in small letters."""
    return f'<p class="note">{esc(text)}</p>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of plain text."""
    top = "".join(f'<th scope="col">{esc(h)}</th>' for h in head)
    body = "".join("<tr>" + "".join(f"<td>{esc(c)}</td>" for c in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def rows_table(columns: Sequence[tuple[str, str]], label: str) -> str:
    """Where the page's script puts the rows of its data "trials": columns by name and class."""
    head = "".join(
        f'<th scope="col" class="{esc(kind)}" aria-sort="none"><button type="button">{esc(name)}</button></th>'
        for name, kind in columns
    )
    return "".join((
        '<div class="tools"><input type="search" id="filter" placeholder="Filter: words in any column" ',
        f'aria-label="{esc(label)}"><span class="note" id="told"></span></div>',
        f'<div class="scroll"><table><thead><tr id="head">{head}</tr></thead><tbody id="rows"></tbody></table></div>',
        '<div class="tools"><button type="button" id="more" hidden>Show more</button></div>',
    ))  # fmt: skip
