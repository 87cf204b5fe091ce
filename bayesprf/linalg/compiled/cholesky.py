"""Compiled sparse Cholesky factorisation of a group of components, its solves and its selected inverse."""

from bayesprf.arrays import FloatArray
from bayesprf.linalg.compiled.jit import inlined, inner
from bayesprf.linalg.compiled.lanes import LANES, all_above, fill, load, mantissa, shifted_exponent, square_root, store
from bayesprf.linalg.compiled.work import (
    PIVOT_MANTISSA,
    Prior,
    Rows,
    Scratch,
    Values,
    Work,
    load_observations,
    load_values,
)
from bayesprf.linalg.singular import PIVOT_EPS
from bayesprf.linalg.solvers.symbolic import SymbolicFactor

EXPONENT_ZERO = 2.0**52 + 1023.0
"""`shifted_exponent` of 1."""


@inlined
def accumulate_gram(plan: SymbolicFactor, values: Values, work: Work, place: int) -> None:
    """Add a column of X' C^-1 X to `work.column`."""
    for g in range(plan.g_ptr[place], plan.g_ptr[place + 1]):
        total = load(work.column, plan.g_row[g])
        if values.mix.shape[0] == 0:
            for q in range(plan.p_ptr[g], plan.p_ptr[g + 1]):
                total += values.product[q] * load(work.ivar, plan.p_obs[q])
        else:
            for q in range(plan.p_ptr[g], plan.p_ptr[g + 1]):
                product = load(work.value, plan.p_a[q]) * load(work.value, plan.p_b[q])
                total += product * load(work.ivar, plan.p_obs[q])
        store(work.column, plan.g_row[g], total)


@inlined
def accumulate_rhs(plan: SymbolicFactor, values: Values, work: Work, place: int, entry0: int) -> None:
    """Add a column's X' C^-1 y to `work.solution`."""
    j = plan.l_row[plan.l_ptr[place]]
    total = load(work.solution, j)
    diagonal = plan.g_ptr[place]
    for q in range(plan.p_ptr[diagonal], plan.p_ptr[diagonal + 1]):
        weighted = load(work.ivar, plan.p_obs[q]) * load(work.data, plan.p_obs[q])
        if values.mix.shape[0] == 0:
            total += values.parts[0, entry0 + plan.p_a[q]] * weighted
        else:
            total += load(work.value, plan.p_a[q]) * weighted
    store(work.solution, j, total)


@inlined
def start_column(plan: SymbolicFactor, prior: Prior, work: Work, place: int) -> None:
    """Set a column of Lambda, and its right-hand side, to the prior's share."""
    zero = fill(0.0)
    p0 = plan.l_ptr[place]
    for p in range(p0, plan.l_ptr[place + 1]):
        work.where[plan.l_row[p]] = p - p0
        store(work.column, p - p0, zero)
    store(work.column, 0, fill(prior.precision[place]))
    store(work.solution, plan.l_row[p0], fill(prior.precision[place] * prior.mean[place]))


@inlined
def eliminate(plan: SymbolicFactor, work: Work, place: int, j0: int) -> None:
    """Subtract the columns before a column of L from it, and solve them out of its right-hand side."""
    base = plan.l_ptr[j0]
    x = load(work.solution, place - j0)
    for r in range(plan.r_ptr[place], plan.r_ptr[place + 1]):
        k = plan.r_col[r]
        factor = load(work.lower, plan.r_pos[r])
        x -= factor * load(work.solution, k)
        for p in range(plan.r_pos[r], plan.l_ptr[j0 + k + 1] - base):
            i = work.where[plan.l_row[base + p]]
            store(work.column, i, load(work.column, i) - factor * load(work.lower, p))
    store(work.solution, place - j0, x)


@inlined
def multiply_in(sums: FloatArray, row: int, value: FloatArray) -> None:
    """Multiply the first row of `value` into the running product at `row` of the sums."""
    factor = load(value, 0)
    product = load(sums, row) * mantissa(factor)
    moved = (shifted_exponent(factor) - EXPONENT_ZERO) + (shifted_exponent(product) - EXPONENT_ZERO)
    store(sums, row, mantissa(product))
    store(sums, row + 1, load(sums, row + 1) + moved)


@inlined
def find_weak(pivot: FloatArray, limit: FloatArray, place: int) -> int:
    """Return LANES * place + lane of the first pivot not above its limit."""
    for lane in range(LANES):
        if not pivot[0, lane] > limit[0, lane]:
            return LANES * place + lane
    return -1


@inlined
def factorise(plan: SymbolicFactor, values: Values, prior: Prior, work: Work, sums: FloatArray, group: int) -> int:
    """Factorise one group, column by column, and solve L x = rhs on the way.

    Returns LANES * place + lane of the first pivot that is zero to rounding, or -1.
    """
    j0, entry0 = plan.group_coeff[group], plan.row_ptr[plan.group_obs[group]]
    base = plan.l_ptr[j0]
    singular = -1
    for place in range(j0, plan.group_coeff[group + 1]):
        start_column(plan, prior, work, place)
        accumulate_gram(plan, values, work, place)
        accumulate_rhs(plan, values, work, place, entry0)
        n_update = plan.r_ptr[place + 1] - plan.r_ptr[place]
        limit = (PIVOT_EPS * (4 + n_update)) * load(work.column, 0)
        eliminate(plan, work, place, j0)
        pivot = load(work.column, 0)
        if singular < 0 and not all_above(pivot, limit):
            store(work.buffer, 0, limit)
            singular = find_weak(work.column, work.buffer, place)
        multiply_in(sums, PIVOT_MANTISSA, work.column)
        inv_diag = fill(1.0) / square_root(pivot)
        store(work.inv_diag, place - j0, inv_diag)
        store(work.solution, place - j0, load(work.solution, place - j0) * inv_diag)
        p0 = plan.l_ptr[place]
        for p in range(p0, plan.l_ptr[place + 1]):
            store(work.lower, p - base, load(work.column, p - p0) * inv_diag)
    return singular


@inner
def factorise_rows(
    plan: SymbolicFactor, model: tuple[Values, Prior, Rows], scratch: Scratch, group: int, first: int
) -> int:
    """Leave a group's L, and the solution of L x = rhs, of the rows from `first` on in the scratch.

    A call of its own, compiled once for all that need it. Returns what `factorise` does.
    """
    values, prior, rows = model
    work, sums = scratch
    load_observations(plan, rows, work, group, first)
    if values.mix.shape[0]:
        load_values(plan, values, rows, work, group, first)
    return factorise(plan, values, prior, work, sums, group)


@inner
def back_substitute(plan: SymbolicFactor, work: Work, group: int, places: tuple[int, int]) -> None:
    """Solve L' w = x in place for whole components, given by their first place and the one after the last."""
    j0, base = plan.group_coeff[group], plan.l_ptr[plan.group_coeff[group]]
    for place in range(places[1] - 1, places[0] - 1, -1):
        x = load(work.solution, place - j0)
        for p in range(plan.l_ptr[place] + 1, plan.l_ptr[place + 1]):
            x -= load(work.lower, p - base) * load(work.solution, plan.l_row[p])
        store(work.solution, place - j0, x * load(work.inv_diag, place - j0))


@inner
def invert(plan: SymbolicFactor, work: Work, group: int) -> None:
    """Overwrite L by the entries of Z = (L L')^-1 on its pattern.

    Z[i, j] = -sum_k Z[i, k] L[k, j] / L[j, j] over the rows k > j of column j, last column first (Takahashi, Fagan &
    Chen 1973); every Z[i, k] it needs is on the pattern.
    """
    j0, base = plan.group_coeff[group], plan.l_ptr[plan.group_coeff[group]]
    zero = fill(0.0)
    for place in range(plan.group_coeff[group + 1] - 1, j0 - 1, -1):
        p0, size = plan.l_ptr[place], plan.l_ptr[place + 1] - plan.l_ptr[place]
        inv_diag = load(work.inv_diag, place - j0)
        for i in range(1, size):
            store(work.scaled, i, load(work.lower, p0 - base + i) * inv_diag)
            store(work.column, i, zero)
        for a in range(1, size):
            q = plan.l_ptr[j0 + plan.l_row[p0 + a]]
            u_a = load(work.scaled, a)
            total = load(work.column, a) + load(work.lower, q - base) * u_a
            for b in range(a + 1, size):
                q += 1
                while plan.l_row[q] != plan.l_row[p0 + b]:
                    q += 1
                z = load(work.lower, q - base)
                store(work.column, b, load(work.column, b) + z * u_a)
                total += z * load(work.scaled, b)
            store(work.column, a, total)
        diagonal = inv_diag * inv_diag
        for a in range(1, size):
            total = load(work.column, a)
            store(work.lower, p0 - base + a, zero - total)
            diagonal += load(work.scaled, a) * total
        store(work.lower, p0 - base, diagonal)
