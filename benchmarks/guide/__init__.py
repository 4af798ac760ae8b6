"""What makes the pages of docs/guide when the site is built: their code is run, and their numbers come from published versions.

No part of the wheel. docs/decisions/0013-site.md says why it is made as it is.
"""
