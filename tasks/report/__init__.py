"""The report of one published version: a single HTML file for people."""

from tasks.report.page import write_report
from tasks.report.picture import write_picture

__all__ = ["write_picture", "write_report"]
