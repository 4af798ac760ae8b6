"""The report of one published version: a single HTML file for people."""

from groupwise.report.page import write_report
from groupwise.report.picture import write_picture

__all__ = ["write_picture", "write_report"]
