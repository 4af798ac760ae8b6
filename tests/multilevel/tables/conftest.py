"""A hand-made fit: a small crossed and nested model over cells of simulated rows, with a dense normal joint distribution."""

import datetime
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_array
from scipy.special import ndtri

from multilevel.catalogue.table_assembly import Heading
from multilevel.cells.statistics import CellStatistics, Labels
from multilevel.design.model import Design, DesignColumn, Factor, GroupBlock
from multilevel.families.link import Link
from multilevel.fit.container import Fit, Summary, VarianceComponent
from multilevel.fit.shared_rows import Rows
from multilevel.linear.joint_normal import inside_range


def entries(rows: Rows) -> np.ndarray:
    """Rows of coefficients entry by entry, however they are kept."""
    return np.asarray(rows @ np.eye(rows.shape[1]))


@dataclass(frozen=True)
class DenseJoint:
    mean: np.ndarray
    covariance: np.ndarray

    def combine(self, rows: csr_array, interval: float) -> Summary:
        estimate = rows @ self.mean
        error = np.sqrt(np.maximum(np.sum((rows @ self.covariance) * entries(rows), axis=1), 0.0))
        half = ndtri(0.5 + interval / 2) * error
        return Summary(estimate, error, estimate - half, estimate + half)

    def respond(self, rows: csr_array, weights: csr_array, response: Callable, slope: Callable, interval: float) -> Summary:
        eta = rows @ self.mean
        gradient = (weights.toarray() * slope(eta)) @ entries(rows)
        estimate = weights @ response(eta)
        error = np.sqrt(np.sum((gradient @ self.covariance) * gradient, axis=1))
        half = ndtri(0.5 + interval / 2) * error
        return Summary(estimate, error, estimate - half, estimate + half)

    def on_response_scale(self, summary: Summary, link: Link, interval: float) -> Summary:
        return inside_range(summary, link, interval)

    def spread_about(self, rows: csr_array, centre: csr_array) -> np.ndarray:
        return self.combine(csr_array(entries(rows) - centre.toarray()), 0.95).std_error

    def draws(self, size: int, seed: int) -> np.ndarray:
        return np.random.default_rng(seed).multivariate_normal(self.mean, self.covariance, size)


@dataclass(frozen=True)
class Example:
    """Rows with region, department > category, a sale flag, a department-level predictor u, and their fit."""

    rows: pd.DataFrame
    fit: Fit

    @property
    def eta(self) -> Callable[[str, str, float, float], float]:
        """Linear predictor of a category (which settles department and u), a region, sale, from the fit's coefficients."""
        design, mean = self.fit.design, self.fit.joint.mean
        beta = dict(zip([c.label for c in design.population], mean, strict=False))
        regions, departments, categories = (block.factor for block in design.blocks)
        p = len(design.population)
        starts = design.starts

        def predictor(category: str, region: str, sale: float) -> float:
            i = list(categories.levels).index(category)
            d = list(departments.levels).index(categories.parents[i])
            u = self.rows.loc[self.rows.category == category, "u"].iloc[0]
            total = beta["Intercept"] + beta["sale"] * sale + beta["u"] * u + beta["sale:u"] * sale * u
            total += mean[p + starts[0] + list(regions.levels).index(region)]
            total += mean[p + starts[1] + d]
            return float(total + mean[p + starts[2] + 2 * i] + mean[p + starts[2] + 2 * i + 1] * sale)

        return predictor


HEADING = Heading("example", datetime.date(2026, 11, 1), "run", "likelihood")


@pytest.fixture
def heading() -> Heading:
    return HEADING


def simulated_rows(seed: int = 3) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    departments = {"food": ["bread", "milk", "fish"], "home": ["lamp", "soap"], "fun": ["ball"]}
    u = {"food": 0.3, "home": -0.5, "fun": 1.1}
    parent = {category: department for department, names in departments.items() for category in names}
    categories = rng.choice(list(parent), size=400, p=[0.3, 0.2, 0.05, 0.2, 0.15, 0.1])
    rows = pd.DataFrame({"category": categories})
    rows["department"] = rows.category.map(parent)
    rows["u"] = rows.department.map(u)
    rows["region"] = np.where(rows.category == "lamp", "north", rng.choice(["north", "south", "west"], size=400, p=[0.5, 0.3, 0.2]))
    rows["sale"] = (rng.random(400) < np.where(rows.region == "north", 0.7, 0.3)).astype(float)
    rows["y"] = 1.0 + 0.5 * rows.sale + 0.2 * rows.u + rng.normal(size=400)
    return rows


def example(family: str = "gaussian", *, log_outcome: bool = False, engine: str = "likelihood") -> Example:
    rows = simulated_rows()
    if family == "binomial":
        rows["y"] = (rows.y > 1.0).astype(float)
    elif family == "poisson" or log_outcome:
        rows["y"] = np.exp(rows.y) if log_outcome else np.floor(np.exp(rows.y))
    cells = cells_of(rows, family, log_outcome=log_outcome)
    design = design_of(cells, rows)
    fit = fit_of(design, family, engine)
    return Example(rows, fit)


def cells_of(rows: pd.DataFrame, family: str, *, log_outcome: bool) -> CellStatistics:
    keys = ["category", "department", "region", "sale", "u"]
    outcome = np.log(rows.y) if log_outcome else rows.y
    grouped = rows.assign(z=outcome).groupby(keys, sort=True)
    table = grouped.agg(
        n=("y", "size"), total=("y", "sum"), mean=("z", "mean"), ss=("z", lambda v: ((v - v.mean()) ** 2).sum())
    ).reset_index()
    gaussian = family == "gaussian"
    labels = {}
    for name in ("region", "department", "category"):
        values, codes = np.unique(table[name].to_numpy(str), return_inverse=True)
        labels[name] = Labels(codes.astype(np.int32), values.astype(object))
    c = len(table)
    return CellStatistics(
        family=family,
        log_outcome=log_outcome,
        groups=labels,
        labels={},
        numbers={"sale": table.sale.to_numpy(), "u": table.u.to_numpy()},
        features=(),
        n=table.n.to_numpy(np.int64),
        weight=table.n.to_numpy(float),
        mean=table[["mean"]].to_numpy() if gaussian else np.empty((c, 0)),
        cross=table.ss.to_numpy().reshape(c, 1, 1) if gaussian else np.empty((c, 0, 0)),
        size=table.n.to_numpy(float),
        total=table.total.to_numpy(float),
        offset=np.zeros(c),
        once={},
    )


def design_of(cells: CellStatistics, rows: pd.DataFrame) -> Design:
    sale, u = cells.numbers["sale"], cells.numbers["u"]
    one = np.ones(cells.n_cells)
    population = (
        DesignColumn("Intercept", one),
        DesignColumn("sale", sale),
        DesignColumn("u", u, kind="group_level", constant_within="department"),
        DesignColumn("sale:u", sale * u, kind="cross_level"),
    )
    parent = rows.drop_duplicates("category").set_index("category").department
    category = cells.groups["category"]
    order = np.lexsort((category.values.astype(str), parent[category.values].to_numpy(str)))
    levels = category.values[order]
    codes = np.argsort(order)[category.codes].astype(np.int32)
    factors = (
        Factor("region", ("region",), cells.groups["region"].codes, cells.groups["region"].values),
        Factor("department", ("department",), cells.groups["department"].codes, cells.groups["department"].values),
        Factor("department:category", ("department", "category"), codes, levels, parent[levels].to_numpy(object), "department"),
    )
    blocks = (
        GroupBlock(factors[0], (population[0],)),
        GroupBlock(factors[1], (population[0],)),
        GroupBlock(factors[2], (population[0], DesignColumn("sale", sale))),
    )
    return Design(cells, population, blocks)


def fit_of(design: Design, family: str, engine: str) -> Fit:
    rng = np.random.default_rng(11)
    size = len(design.population) + design.n_effects
    mean = rng.normal(size=size) * 0.4
    root = rng.normal(size=(size, size)) * 0.05
    covariances = (np.array([[0.2]]), np.array([[0.1]]), np.array([[0.3, 0.05], [0.05, 0.2]]))
    components = tuple(
        VarianceComponent(block.factor.name, column.label, None, "sd", float(np.sqrt(covariances[i][k, k])), 0.1, 0.05, 1.0, i)
        for i, block in enumerate(design.blocks)
        for k, column in enumerate(block.columns)
    )
    correlation = VarianceComponent("department:category", "Intercept", "sale", "correlation", 0.2, 0.2, -0.5, 0.7, 2)
    residual = VarianceComponent("residual", "sigma", None, "sd", 1.0, 0.05, 0.9, 1.1)
    gaussian = family == "gaussian"
    return Fit(
        design=design,
        family=family,
        engine=engine,
        method="reml" if gaussian else "laplace",
        interval=0.95,
        joint=DenseJoint(mean, root @ root.T),
        components=(*components, correlation, *([residual] if gaussian else [])),
        covariances=covariances,
        conditional_variance=tuple(np.full((b.factor.n_levels, len(b.columns)), 0.01) for b in design.blocks),
        shrinkage=tuple(np.full((b.factor.n_levels, len(b.columns)), 0.25) for b in design.blocks),
        sigma=1.0 if gaussian else None,
        log_likelihood=-500.0,
        n_parameters=9,
    )


@pytest.fixture
def gaussian() -> Example:
    return example()


@pytest.fixture
def binomial() -> Example:
    return example("binomial")


@pytest.fixture
def poisson() -> Example:
    return example("poisson")


@pytest.fixture
def lognormal() -> Example:
    return example(log_outcome=True)
