"""A study in Python: refused in the words of a study file, read from one, written to one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from multilevel.errors import StudyError

if TYPE_CHECKING:
    from pydantic._internal._model_construction import ModelMetaclass

    from groupwise.study.study import Study
else:
    ModelMetaclass = type(BaseModel)


class ToldAsStudyError(ModelMetaclass):
    """What is wrong with the arguments of a call is a StudyError that says what would be right, as of a file."""

    def __call__(self, *arguments: Any, **fields: Any) -> Any:
        """A new object; raises StudyError."""
        try:
            return super().__call__(*arguments, **fields)
        except ValidationError as error:
            from groupwise.study.study_file import explain

            raise StudyError(explain(error, self.__name__)) from error


class StudyObject(BaseModel, metaclass=ToldAsStudyError):
    """What a study has as an object in Python."""

    @classmethod
    def read(cls, path: Path | str) -> Study:
        """A study file, checked.

        Parameters
        ----------
        path : path
            The YAML file.

        Returns
        -------
        Study
            The study.

        Raises
        ------
        StudyError
            The file cannot be read, or a field is wrong; the message names the field, the value and what would be right.

        Examples
        --------
        >>> study = gw.Study(name="s", formula="y ~ 1 + (1 | g)", source={"parquet": "y.parquet"})
        >>> gw.Study.read(study.write("study.yaml")) == study
        True
        """
        from groupwise.study.study_file import load_study

        return load_study(path)

    def write(self, path: Path | str) -> Path:
        """Write the study as a YAML file, fields with their default left out.

        Parameters
        ----------
        path : path
            The file, replaced whole where it is there.

        Returns
        -------
        Path
            The file.

        Raises
        ------
        StudyError
            The file cannot be written.

        Examples
        --------
        >>> gw.Study(name="s", formula="y ~ 1 + (1 | g)", source={"parquet": "y.parquet"}).write("study.yaml").name
        'study.yaml'
        """
        from groupwise.study.study import Study
        from groupwise.study.study_file import write_study_file

        assert isinstance(self, Study)
        return write_study_file(self, Path(path))
