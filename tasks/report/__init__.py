"""The report of one published version: a single HTML file for people."""

from tasks.report.page import write_report

__all__ = ["write_report"]
