"""The one family of errors that a user may see: each message names the study, field or column, the value, and what to do."""


class GroupwiseError(Exception):
    """Anything that groupwise refuses or cannot do; its message is written for the user."""


class StudyError(GroupwiseError):
    """A study file, a flow parameter or a command-line option is wrong."""


class FormulaError(StudyError):
    """A formula cannot be read, or asks for something that is not on the list."""


class SourceError(GroupwiseError):
    """The database, the Parquet files or the relation of line items cannot be used."""


class DataError(GroupwiseError):
    """The rows break what the study or its expectations need."""


class RecordError(GroupwiseError):
    """Great Expectations itself failed, or counted otherwise than the scan; this says nothing about the rows."""


class FitError(GroupwiseError):
    """The model cannot be fitted to these statistics."""


class GateError(GroupwiseError):
    """The fit finished but failed a gate, so nothing may be published."""


class PublishError(GroupwiseError):
    """The tables could not be put in place; what was published before is untouched."""


class ResourceError(GroupwiseError):
    """The machine does not give what a run needs: room on a disk, a folder that can be written to, memory, an answering server."""


class GateWarning(UserWarning):
    """A fit in memory failed a gate: it can be looked at, and is not published."""
