"""Pages for people: one way to fill a template, and the policy that tells a browser what the page may do."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib.resources.abc import Traversable
from typing import TYPE_CHECKING

import markupsafe

from groupwise.printable import printable_lines

if TYPE_CHECKING:
    import jinja2

_NOTHING = ("default-src 'none'", "base-uri 'none'", "form-action 'none'")


def page_environment() -> jinja2.Environment:
    """Templates whose every value is escaped, and written out where it is a control or invisible character; an unknown name is an error."""
    import jinja2

    return jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_shown)


def static_page(templates: Traversable, name: str, **values: object) -> str:
    """``name.html.j2`` filled with ``values``, with the style of ``name.css`` and no script."""
    css = (templates / f"{name}.css").read_text(encoding="utf-8")
    template = page_environment().from_string((templates / f"{name}.html.j2").read_text(encoding="utf-8"))
    return template.render(css=as_markup(css), policy=content_security_policy(styles=(css,)), **values)


def content_security_policy(scripts: Sequence[str] = (), styles: Sequence[str] = ()) -> str:
    """The policy of one page: no network, no frame, no form, no ``eval``; of scripts and styles, those given here and no others.

    Parameters
    ----------
    scripts, styles : the texts of the page's ``<script>`` and ``<style>`` elements, character by character.

    Notes
    -----
    A hash admits an element by its content (W3C, Content Security Policy Level 3, section 6.7.3.3), so a script that a name managed to
    write into the page would not run.
    """
    allowed = (("script-src", scripts), ("style-src", styles))
    parts = [f"{name} {' '.join(map(_hash, texts)) or "'none'"}" for name, texts in allowed]
    return "; ".join([*_NOTHING, *parts, "img-src data:"])


def as_markup(text: str) -> markupsafe.Markup:
    """Text that is HTML already."""
    return markupsafe.Markup(text)


def _shown(value: object) -> object:
    is_plain = isinstance(value, str) and not isinstance(value, markupsafe.Markup)
    return printable_lines(str(value)) if is_plain else value


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode('ascii')}'"
