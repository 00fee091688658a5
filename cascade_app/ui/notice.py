"""The notice of acceptable use at the foot of the page, where people come whom nobody knows."""

from __future__ import annotations

from html import escape

from cascade_app import published
from cascade_app.settings import Settings

OURS = (
    "The pictures here are made by a model, and marked as such in their files. Do not ask for sexual pictures of minors, for "
    "pictures of real people that they would not want, to deceive or to harass anyone, or for what is against the law. "
    "You answer for what you make with it."
)
APACHE = "https://www.apache.org/licenses/LICENSE-2.0"
_TERMS = {"apache-2.0": APACHE, published.LICENSE: f"https://huggingface.co/{published.DECODER_REPOSITORY}/blob/main/LICENSE"}


def acceptable_use(settings: Settings) -> str:
    """The text to show; "" for none."""
    by_default = OURS if settings.hosted else ""
    return {"auto": by_default, "off": ""}.get(settings.acceptable_use, settings.acceptable_use)


def notice(text: str, *, checkpoint: str, license: str) -> str:
    """`text` and the terms: those of the weights the page starts with, and the program's."""
    if not text:
        return ""
    terms = _TERMS.get(license.lower())
    weights = _link(terms, license) if terms else escape(license)
    return (
        f'<section class="cs-notice" id="acceptable-use" aria-label="Acceptable use"><p>{escape(text)}</p>'
        f"<p>Licences: {weights} for the weights of {escape(checkpoint)}, {_link(APACHE, 'Apache-2.0')} for this program.</p>"
        "</section>"
    )


def _link(url: str, text: str) -> str:
    return f'<a href="{escape(url)}" target="_blank" rel="noopener noreferrer">{escape(text)}</a>'
