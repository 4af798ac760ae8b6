"""lme4 in a process of its own, where R has it: the seconds of ``lmer`` alone and of the whole process."""

from __future__ import annotations

import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

SCRIPT = """
suppressMessages(library(lme4))
arguments <- commandArgs(trailingOnly = TRUE)
rows <- read.csv(arguments[1], stringsAsFactors = TRUE)
for (name in strsplit(arguments[3], ",")[[1]]) rows[[name]] <- factor(rows[[name]])
seconds <- system.time(fit <- lmer(as.formula(arguments[2]), rows, REML = TRUE))["elapsed"]
cat(seconds, format(REMLcrit(fit), digits = 15), "\\n")
"""


@dataclass(frozen=True)
class Lme4:
    """Seconds of the fit and of the whole process, and the REML criterion."""

    seconds: float
    process: float
    criterion: float


def run_lme4(csv: Path, formula: str, factors: str) -> Lme4 | None:
    """Fit by REML; None where R or lme4 is not installed. ``factors`` are the grouping columns, with commas between."""
    if shutil.which("Rscript") is None:
        return None
    if subprocess.run(["Rscript", "-e", "library(lme4)"], capture_output=True, check=False).returncode:
        return None
    start = time.perf_counter()
    done = subprocess.run(["Rscript", "-e", SCRIPT, str(csv), formula, factors], capture_output=True, text=True, check=True)
    seconds, criterion = done.stdout.split()[-2:]
    return Lme4(float(seconds), time.perf_counter() - start, float(criterion))


NOT_INSTALLED = "lme4 is not installed (Debian: r-cran-lme4) and is left out"
