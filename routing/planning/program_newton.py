"""Prices of counters without an LP solver: the smoothed dual by projected Newton with block elimination.

The prices minimise

    F(y) = b.y + sum_j m_j tau log(1 + sum_i exp(s_ji / tau)),   y >= 0,
    s_ji = w_j d_ji - sum_c y_c u_c(j, i),

for falling tau. Counters of one budget with `group_by` never meet in one query. Their block of the Hessian is
diagonal, and eliminating it leaves a system in the K other counters: O(K^2 T) for T values. Two or more such
budgets need a sparse factorisation.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_array
from scipy.sparse.linalg import spsolve

from routing.arrays import FloatArray, IntArray
from routing.budgets.counters import UNKNOWN
from routing.planning.newton_prices import MAX_EXACT_QUERIES
from routing.planning.program import RoutingProgram, solve_program
from routing.planning.smoothed_dual import TAUS, WARM_TAUS, SmoothedDual

TOLERANCE = 1e-4
"""Largest gap, as a share of the objective, between the prices' dual value and a feasible routing."""

WIDE_GAP = 1e-3
MAX_EXACT_ROWS = 2000
"""Rows up to which the linear program replaces prices with a wide gap, which may be 1 % off."""


def newton_program_prices(
    program: RoutingProgram,
    start: FloatArray | None = None,
    taus: Sequence[float] | None = None,
    tolerance: float = TOLERANCE,
) -> FloatArray:
    """Return the prices of a program's counters, [K].

    Parameters
    ----------
    program : RoutingProgram
    start : ndarray of float64, shape [K], optional
        Prices of the last solution, which need fewer smoothing steps.
    taus : sequence of float, optional
        Smoothing of each stage, in units of quality, falling.
    tolerance : float
        Smoothing goes on below the last tau until a feasible routing certifies that the dual value is within
        this share of the optimum, or until tau reaches its minimum. Small programs are then solved exactly.

    Examples
    --------
    >>> from routing.budgets.budget import Budget
    >>> from routing.budgets.counters import Counters
    >>> from routing.budgets.terms import QueryTerms
    >>> from routing.estimators.base import Estimates
    >>> counters = Counters.of((Budget("total", limit=1.0),), ("a", "b"))
    >>> estimates = Estimates(np.array([[0.9, 0.2], [0.4, 0.3]]), np.ones((2, 2)))
    >>> prices = newton_program_prices(RoutingProgram.of(counters, estimates, QueryTerms(), np.array([1.0])))
    >>> bool(0.4 <= prices[0] <= 0.9)
    True
    """
    prices = np.zeros(len(program.counters))
    rows = program.payable.any(1) & (program.mass > 0)
    if not rows.any() or not program.binding.any():
        return program.price_of_closed(prices)
    smoothed = _SmoothedProgram(program, rows)
    y = np.full(smoothed.size, 0.3) if start is None else smoothed.scaled(start)
    stages = taus or (TAUS if start is None else WARM_TAUS)
    y = smoothed.descend(y, stages, tolerance)
    limit = MAX_EXACT_ROWS if smoothed.gap > max(WIDE_GAP, tolerance) else MAX_EXACT_QUERIES
    if smoothed.gap > tolerance and int(rows.sum()) <= limit:
        # The smoothed dual can lose its curvature before it is certified.
        try:
            return solve_program(program).prices
        except RuntimeError:  # HiGHS failed: prices without certificate are better than none.
            pass
    prices[smoothed.columns] = y / smoothed.unit
    return program.price_of_closed(prices)


class _SmoothedProgram(SmoothedDual[list[FloatArray]]):
    """The smoothed dual per query, in scaled units; variables are the binding counters."""

    def __init__(self, program: RoutingProgram, rows: NDArray[np.bool_]) -> None:
        self.columns = np.flatnonzero(program.binding)
        self.size = len(self.columns)
        place = np.full(len(program.counters) + 1, self.size)  # Rows without a counter use the last place.
        place[self.columns] = np.arange(self.size)
        mass = program.mass[rows] / program.mass[rows].sum()
        payable = program.payable[rows].T
        self.quality = np.where(payable, program.quality[rows].T, -1e3)
        self.real = np.where(payable, program.quality[rows].T, 0.0)
        self.place: list[IntArray] = []
        self.draw: list[FloatArray] = []
        self.grouped: list[bool] = []
        for number, budget in enumerate(program.counters.budgets):
            column = program.columns[rows, number]
            variable = place[np.where(column == UNKNOWN, len(program.counters), column)]
            if (variable < self.size).any():
                self.place.append(variable)
                self.draw.append(np.where(payable, program.draw(number)[rows].T, 0.0))
                self.grouped.append(budget.group_by is not None)
        # Draws in units of their mean, so that prices of all counters have the same magnitude.
        total, count = np.zeros(self.size + 1), np.zeros(self.size + 1)
        for variable, draw in zip(self.place, self.draw, strict=True):
            total += np.bincount(variable, mass * draw.sum(0), self.size + 1)
            count += np.bincount(variable, mass * (draw > 0).sum(0), self.size + 1)
        unit = np.where(total > 0, total / np.maximum(count, 1e-300), 1.0)
        for number, variable in enumerate(self.place):
            self.draw[number] = np.where(variable < self.size, self.draw[number] / unit[variable], 0.0)
        self.unit = unit[: self.size]
        super().__init__(program.limits[self.columns] / self.unit / program.mass[rows].sum(), mass)
        self.fixed = np.ones(self.size, dtype=bool)
        for variable, grouped in zip(self.place, self.grouped, strict=True):
            if grouped:
                self.fixed[variable[variable < self.size]] = False

    def scaled(self, prices: FloatArray) -> FloatArray:
        """Return prices of all counters as variables of this program."""
        return np.maximum(prices[self.columns] * self.unit, 0.0)

    def scores(self, y: FloatArray) -> FloatArray:
        """Return the scores, [M, n]."""
        padded = np.append(y, 0.0)
        score = self.quality.copy()
        for variable, draw in zip(self.place, self.draw, strict=True):
            score -= padded[variable] * draw
        return score

    def scaled_scores(self, y: FloatArray, tau: float) -> FloatArray:
        """Return the scores divided by tau, [M, n]."""
        z = self.scores(y)
        z /= tau
        return z

    def gradient(self, share: FloatArray) -> tuple[FloatArray, list[FloatArray]]:
        """Return the gradient, [K], and the draw of each query on each budget, [n]."""
        spend = [(share * draw).sum(0) for draw in self.draw]
        return self.limit - self._by_variable([self.mass * each for each in spend]), spend

    def _by_variable(self, amounts: Sequence[FloatArray]) -> FloatArray:
        """Return the sums of amounts, [n] for each budget, by variable."""
        total = np.zeros(self.size + 1)
        for variable, amount in zip(self.place, amounts, strict=True):
            total += np.bincount(variable, amount, self.size + 1)
        return total[: self.size]

    def newton_step(
        self,
        share: FloatArray,
        draws: list[FloatArray],
        gradient: FloatArray,
        free: NDArray[np.bool_],
        tau: float,
    ) -> FloatArray:
        """Return the step of the free variables, without limits to its length."""
        fixed, grouped = np.flatnonzero(free & self.fixed), np.flatnonzero(free & ~self.fixed)
        several = sum(self.grouped) > 1
        dense = np.zeros((self.size + 1, int(self.fixed.sum()) + 1))
        position = np.full(self.size + 1, dense.shape[1] - 1)
        position[: self.size][self.fixed] = np.arange(dense.shape[1] - 1)
        diagonal = np.zeros(self.size + 1)
        blocks: list[tuple[IntArray, IntArray, FloatArray]] = []
        for a, draw in enumerate(self.draw):
            weighted = share * draw
            for b in range(len(self.draw)):
                if self.grouped[b] and a != b:
                    continue  # Filled by symmetry, or a block of two budgets with groups.
                moment = self.mass * ((weighted * self.draw[b]).sum(0) - draws[a] * draws[b]) / tau
                if self.grouped[b]:
                    diagonal += np.bincount(self.place[a], moment, self.size + 1)
                else:
                    column = position[self.place[b]]
                    np.add.at(dense, (self.place[a], column), moment)
            if self.grouped[a] and several:
                for b in range(a):
                    if self.grouped[b]:
                        moment = self.mass * ((weighted * self.draw[b]).sum(0) - draws[a] * draws[b]) / tau
                        blocks.append((self.place[a], self.place[b], moment))
        ridge = dense[fixed, position[fixed]]
        core = dense[np.ix_(fixed, position[fixed])]
        core[np.diag_indices_from(core)] += 1e-9 + 1e-4 * (ridge.mean() if len(ridge) else 0.0)
        coupling = dense[np.ix_(grouped, position[fixed])]
        block = diagonal[grouped]
        block = block + 1e-10 + 1e-4 * (block.mean() if len(block) else 0.0)
        step = np.zeros(self.size)
        if blocks:
            step[free] = -self._sparse_solve(core, coupling, block, blocks, fixed, grouped, gradient, free)
            return step[free]
        # Eliminate the diagonal block of the groups.
        scaled = coupling / block[:, None]
        if len(fixed):
            schur = core - coupling.T @ scaled
            right = gradient[fixed] - scaled.T @ gradient[grouped]
            step[fixed] = -np.linalg.solve(schur, right)
        step[grouped] = -(gradient[grouped] / block + scaled @ step[fixed])
        return step[free]

    def _sparse_solve(
        self,
        core: FloatArray,
        coupling: FloatArray,
        block: FloatArray,
        blocks: list[tuple[IntArray, IntArray, FloatArray]],
        fixed: NDArray[np.intp],
        grouped: NDArray[np.intp],
        gradient: FloatArray,
        free: NDArray[np.bool_],
    ) -> FloatArray:
        """Return H^-1 g of the free variables with several budgets with groups."""
        rows, columns, values = [], [], []

        def add(row: NDArray[np.intp], column: NDArray[np.intp], value: FloatArray) -> None:
            rows.append(row)
            columns.append(column)
            values.append(value)

        add(np.repeat(fixed, len(fixed)), np.tile(fixed, len(fixed)), core.ravel())
        across = np.repeat(grouped, len(fixed)), np.tile(fixed, len(grouped))
        add(*across, coupling.ravel())
        add(across[1], across[0], coupling.ravel())
        add(grouped, grouped, block)
        for a, b, moment in blocks:
            add(a, b, moment)
            add(b, a, moment)
        index = np.full(self.size + 1, -1)
        index[: self.size][free] = np.arange(int(free.sum()))
        row, column = index[np.concatenate(rows)], index[np.concatenate(columns)]
        inner = (row >= 0) & (column >= 0)
        size = int(free.sum())
        matrix = csc_array((np.concatenate(values)[inner], (row[inner], column[inner])), shape=(size, size))
        solution: FloatArray = spsolve(matrix, gradient[free])
        return solution

    def certify(self, y: FloatArray, share: FloatArray) -> None:
        """Set the gap between D(y) and the soft assignment, which is scaled down to the limits."""
        used = self._by_variable([self.mass * (share * draw).sum(0) for draw in self.draw])
        fit = np.append(np.minimum(1.0, self.limit / np.maximum(used, 1e-300)), 1.0)
        scale = np.ones_like(share)
        for variable, draw in zip(self.place, self.draw, strict=True):
            scale = np.minimum(scale, np.where(draw > 0, fit[variable], 1.0))
        primal = float(((scale * share * self.real).sum(0)) @ self.mass)
        gain = np.maximum(self.scores(y).max(axis=0), 0)
        dual = float(self.limit @ y + self.mass @ gain)
        self.gap = (dual - primal) / max(dual, 1e-12)
