"""A study's published versions in a folder: staged, checked, renamed into place, the pointer moved last."""
