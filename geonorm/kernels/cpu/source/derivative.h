// What backward and double backward have in common: they know the forward pass, add up sums of products, and give the
// parameters their gradients.

#pragma once
#include "order.h"

namespace {

template <class A> class Derivative : public Problem<A> {
  protected:
    using Base = Problem<A>;
    using Base::alpha, Base::arrays, Base::batch, Base::block, Base::columns, Base::recipe, Base::tau, Base::total,
        Base::totals;

    // How the sum of w is known: it vanishes, it follows from the mean, or it must be added up.
    enum SumW { VANISHES, FOLLOWS, ADDED };
    const A *means, *squares, *own_means;
    SumW sum_w;
    const index number;  // of sums
    // Of the pool: the mean, w = x - shift, u = w + offset, the second moment with eps, ρ and ρ', the sum of w.
    A *mean, *shift, *offset, *moment, *rho, *rho1, *rho_each, *sw;
    A* half_tau;
    A* sums;  // of products, one array after the other; the last is the sum of w
    Gathered<A> gathering;

    template <class T>
    Derivative(const Given<T>& given, const A* means, const A* squares, const A* own_means, index matrices,
               index products, index space, index gathered)
        : Base(given, matrices, products + 1, space + 9 + products + 1), means(means), squares(squares),
          own_means(own_means), sum_w(how()), number(products + (sum_w == ADDED)), mean(arrays.take()),
          shift(arrays.take()), offset(arrays.take()), moment(arrays.take()), rho(arrays.take()), rho1(arrays.take()),
          rho_each(arrays.take()), sw(arrays.take()), half_tau(arrays.take()), sums(arrays.take(products + 1)),
          gathering(gathered, columns) {
        for (index k = 0; k < recipe.scale.groups; k++) half_tau[k] = tau ? A(0.5) * tau[k] : A(0.5);
    }

    SumW how() const {
        if (!this->centres_w()) return VANISHES;
        if (!alpha) return recipe.balanced ? VANISHES : ADDED;
        return recipe.single ? FOLLOWS : ADDED;
    }
    A rho_tau(index g) const { return A(-0.5) * logarithm(moment[g]) * rho[g]; }
    A rho1_tau(index g) const { return (A(0.25) * tau[g] * logarithm(moment[g]) - A(0.5)) * rho[g] / moment[g]; }

    // The forward pass of a pool.
    APART void begin(index pool) override {
        const index columns = this->columns;
        const A* RESTRICT alpha = this->alpha ? this->alpha : this->ones;
        A *RESTRICT shift = this->shift, *RESTRICT offset = this->offset, *RESTRICT each = mean;
        if (this->by_column()) return begin_by_column(pool);
        if (this->has_mean()) expanded(recipe.mean, columns, means + pool * recipe.mean.groups, each);
        else
            COLUMNS each[c] = 0;
        if (this->centres_w()) {
            COLUMNS shift[c] = alpha[c] * each[c], offset[c] = 0;
        } else {
            if (this->own()) expanded(recipe.scale, columns, own_means + pool * recipe.scale.groups, shift);
            else
                COLUMNS shift[c] = 0;
            COLUMNS offset[c] = shift[c] - alpha[c] * each[c];
        }
        if (!this->has_scale()) {
            COLUMNS rho_each[c] = 1;
            return;
        }
        const index groups = recipe.scale.groups;
        const A* RESTRICT second = squares + pool * groups;
        const A eps = A(recipe.eps);
        A *RESTRICT moment = this->moment, *RESTRICT rho = this->rho, *RESTRICT rho1 = this->rho1;
        if (tau) {
            for (index k = 0; k < groups; k++) {
                moment[k] = second[k] + eps;
                rho[k] = this->power(moment[k], k);
                rho1[k] = -half_tau[k] * rho[k] / moment[k];
            }
        } else {
            GROUPS(groups) {
                A m = second[k] + eps, inverse = A(1) / root(m);
                moment[k] = m, rho[k] = inverse, rho1[k] = A(-0.5) * inverse / m;
            }
        }
        expanded(recipe.scale, columns, rho, rho_each);
    }
    // The same in one loop. There is no offset.
    APART void begin_by_column(index pool) {
        const index columns = this->columns;
        const A* RESTRICT alpha = this->alpha ? this->alpha : this->ones;
        const A *RESTRICT first = means + pool * columns, *RESTRICT second = squares + pool * columns;
        A *RESTRICT shift = this->shift, *RESTRICT each = mean, *RESTRICT moment = this->moment;
        A *RESTRICT rho = this->rho, *RESTRICT rho1 = this->rho1, *RESTRICT rho_each = this->rho_each;
        const A eps = A(recipe.eps);
        COLUMNS {
            const A m = second[c] + eps, inverse = A(1) / root(m);
            each[c] = first[c], shift[c] = alpha[c] * first[c];
            moment[c] = m, rho[c] = rho_each[c] = inverse, rho1[c] = A(-0.5) * inverse / m;
        }
    }
    // The sum of w, once the sums are known.
    void know_sum_of_w(index rows) {
        const index columns = this->columns;
        const A* added_up = sums + (number - 1) * arrays.length();
        if (sum_w == FOLLOWS) COLUMNS sw[c] = (A(1) - alpha[c]) * mean[c] * A(rows);
        if (sum_w == ADDED) COLUMNS sw[c] = added_up[c];
    }
    // Twice the weighted adjoint of the mean of squares, up to the factor w.
    APART void by_square(A rows, const A* sums, A* RESTRICT into) const {
        const Columns& k = recipe.scale;
        const index columns = this->columns;
        const A* RESTRICT weight = weights<A>(k);
        expanded(k, columns, sums, into);
        const A twice = A(2) / rows;
        COLUMNS into[c] *= twice * weight[c];
    }
    // The mean over the pools of the mean, from row sums, given back to the columns.
    APART void cen(A rows, const A* row_sums, A* RESTRICT groups, A* RESTRICT into) const {
        weighted(recipe.mean, columns, row_sums, groups);
        const A inverse = A(1) / rows;
        GROUPS(recipe.mean.groups) groups[k] *= inverse;
        expanded(recipe.mean, columns, groups, into);
    }

    // The sums over the rows of a block.
    virtual void block_sums(index, index) {}

    // Float adds up a block, and double from block to block.
    void collect_part(index first, index last, double* total, index stride) override {
        const index columns = this->columns, length = arrays.length();
        for (index n = 0; n < number; n++) COLUMNS total[n * stride + c] = 0;
        for (index low = first; low < last; low += block) {
            block_sums(low, least(low + block, last));
            for (index n = 0; n < number; n++) COLUMNS total[n * stride + c] += sums[n * length + c];
        }
    }
    void add_part(double* total, index, const double* part, index, index stride) override {
        _Pragma("omp simd") for (index k = 0; k < number * stride; k++) total[k] += part[k];
    }
    void finish(const double* total, index stride) override {
        const index columns = this->columns, length = arrays.length();
        for (index n = 0; n < number; n++) COLUMNS sums[n * length + c] = A(total[n * stride + c]);
    }
    void collect(index pool, index first, index last) override {
        begin(pool);
        if (last - first <= block) return block_sums(first, last);
        collect_part(first, last, total, totals.length());
        finish(total, totals.length());
    }
    void end(double* totals, index stride) override {
        gathering.flush();
        for (index which = 0; which < gathering.number; which++) {
            double* RESTRICT into = totals + which * stride;
            const double* RESTRICT mine = gathering.total(which);
            _Pragma("omp simd") for (index k = 0; k < stride; k++) into[k] += mine[k];
        }
    }
};

// The sum of x - shift over some rows.
template <class T, class A>
APART void sum_of_w(const Batch& batch, index columns, const T* x, const A* RESTRICT shift, index first, index last,
                    A* RESTRICT sums) {
    COLUMNS sums[c] = 0;
    for (index k = first; k < last; k++) {
        const T* RESTRICT p = x + batch.row(k) * columns;
        COLUMNS sums[c] += load(p + c) - shift[c];
    }
}

// A gradient of a parameter, if it is wanted.
template <class A> void give(A* into, const double* values, index number) {
    if (!into) return;
    _Pragma("omp simd") for (index k = 0; k < number; k++) into[k] = A(values[k]);
}

}  // namespace
