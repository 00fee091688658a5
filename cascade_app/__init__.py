"""Cascade Studio: explore Stable Cascade in the browser, one negative at a time."""

__version__ = "0.1.0"
