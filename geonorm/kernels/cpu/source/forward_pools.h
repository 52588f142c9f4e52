// Forward, pool by pool: mean and second moment of each, and the affine map per column that follows.

#pragma once
#include "order.h"

namespace {

template <class A> class ForwardPools : public Problem<A> {
  protected:
    using Base = Problem<A>;
    using Base::alpha, Base::arrays, Base::batch, Base::beta, Base::block, Base::columns, Base::gamma, Base::recipe,
        Base::tau, Base::total, Base::totals;

    A *mean, *square, *own_mean;
    // The mean of each column in two parts, and the sum of squares about it.
    A *column_mean, *rest, *m2;
    A *groups, *spare, *each, *measured;
    A *shift, *factor, *added;  // y = (x - shift) factor + added

    template <class T>
    ForwardPools(const Given<T>& given, A* mean, A* square, A* own_mean)
        : Base(given, 1, 2, 10), mean(mean), square(square), own_mean(own_mean), column_mean(arrays.take()),
          rest(arrays.take()), m2(arrays.take()), groups(arrays.take()), spare(arrays.take()), each(arrays.take()),
          measured(arrays.take()), shift(arrays.take()), factor(arrays.take()), added(arrays.take()) {}

    virtual void block_moments(index, index) {}

    // The moments of rows that belong to one pool, in double: blocks merged by Chan's rule.
    void collect_part(index first, index last, double* total, index stride) override {
        for (index low = first; low < last; low += block) {
            const index high = least(low + block, last);
            block_moments(low, high);
            double share = double(high - low) / double(high - first), weight = double(low - first) * share;
            const A *RESTRICT mean_ = column_mean, *RESTRICT rest_ = rest, *RESTRICT squares = m2;
            const bool begins = low == first;
            COLUMNS {
                // Rounded once, at the end: far from zero every step would cost a digit.
                double of_block = double(mean_[c]) + double(rest_[c]);
                double d = begins ? of_block : of_block - total[c];
                total[c] = begins ? d : total[c] + d * share;
                total[stride + c] = begins ? double(squares[c]) : total[stride + c] + squares[c] + d * d * weight;
            }
        }
    }
    void add_part(double* total, index n, const double* part, index more, index stride) override {
        double* RESTRICT into = total;
        const double* RESTRICT values = part;
        double share = double(more) / double(n + more), weight = double(n) * share;
        COLUMNS {
            double d = values[c] - into[c];
            into[stride + c] += values[stride + c] + d * d * weight;
            into[c] += d * share;
        }
    }
    void finish(const double* total, index stride) override {
        COLUMNS column_mean[c] = A(total[c]), m2[c] = A(total[stride + c]);
    }
    void collect(index, index first, index last) override {
        if (last - first <= block) {
            block_moments(first, last);
            COLUMNS column_mean[c] += rest[c];
        } else {
            collect_part(first, last, total, totals.length());
            finish(total, totals.length());
        }
    }
    void empty(index pool) override {
        keep(mean, pool, recipe.mean.groups, nullptr);
        keep(square, pool, recipe.scale.groups, nullptr);
        keep(own_mean, pool, recipe.scale.groups, nullptr);
    }
    // A statistic of a pool, zero where it is none, for whoever asks.
    static void keep(A* statistic, index pool, index number, const A* values) {
        if (!statistic) return;
        const size_t bytes = size_t(number) * sizeof(A);
        if (values) memcpy(statistic + pool * number, values, bytes);
        else memset(statistic + pool * number, 0, bytes);
    }
    APART void head(index pool, index rows, bool owner) override {
        if (owner && this->by_column()) return head_by_column(pool, A(rows));
        const index columns = this->columns;
        A *RESTRICT shift = this->shift, *RESTRICT factor = this->factor, *RESTRICT each = this->each;
        if (this->has_mean()) {
            mean_of_means(recipe.mean, columns, column_mean, spare, groups, each);
            if (owner) keep(mean, pool, recipe.mean.groups, groups);
            const A* RESTRICT alpha = this->alpha ? this->alpha : this->ones;
            COLUMNS shift[c] = alpha[c] * each[c];
        } else {
            COLUMNS shift[c] = 0;
        }
        if (this->has_scale()) scale(pool, rows, owner);
        else
            COLUMNS factor[c] = 1;
        const A *RESTRICT gamma = this->gamma, *RESTRICT beta = this->beta ? this->beta : this->zeros;
        if (gamma)
            COLUMNS factor[c] *= gamma[c];
        COLUMNS added[c] = beta[c];
    }
    // The same in one loop.
    APART void head_by_column(index pool, A rows) {
        const index columns = this->columns;
        const A* RESTRICT alpha = this->alpha ? this->alpha : this->ones;
        const A* RESTRICT gamma = this->gamma ? this->gamma : this->ones;
        const A* RESTRICT beta = this->beta ? this->beta : this->zeros;
        const A *RESTRICT weight = weights<A>(recipe.scale), *RESTRICT of_mean = weights<A>(recipe.mean);
        const A *RESTRICT column_mean = this->column_mean, *RESTRICT m2 = this->m2;
        A* RESTRICT mean = this->mean ? this->mean + pool * columns : each;
        A* RESTRICT square = this->square ? this->square + pool * columns : groups;
        A *RESTRICT shift = this->shift, *RESTRICT factor = this->factor, *RESTRICT added = this->added;
        const A inverse = A(1) / rows, eps = A(recipe.eps);
        COLUMNS {
            mean[c] = column_mean[c] * of_mean[c];
            shift[c] = alpha[c] * mean[c];
            const A d = column_mean[c] - shift[c];
            square[c] = (m2[c] * inverse + d * d) * weight[c];
            factor[c] = A(1) / root(square[c] + eps) * gamma[c];
            added[c] = beta[c];
        }
    }
    static void reciprocal_roots(index number, A eps, A* RESTRICT values) {
        GROUPS(number) values[k] = A(1) / root(values[k] + eps);
    }
    // The factor without the gain.
    void scale(index pool, index rows, bool owner) {
        const Columns& k = recipe.scale;
        const index columns = this->columns;
        const A* about = recipe.statistic == RMS ? this->zeros : shift;
        if (recipe.statistic == OWN) {
            mean_of_means(k, columns, column_mean, spare, groups, each);
            if (owner) keep(own_mean, pool, k.groups, groups);
            about = each;
        }
        const A inverse = A(1) / A(rows), eps = A(recipe.eps);
        const A *RESTRICT mean_ = column_mean, *RESTRICT squares = m2, *RESTRICT centre = about;
        A *RESTRICT into = measured, *RESTRICT groups = this->groups;
        COLUMNS {
            A d = mean_[c] - centre[c];
            into[c] = squares[c] * inverse + d * d;
        }
        weighted(k, columns, into, groups);
        if (owner) keep(square, pool, k.groups, groups);
        if (tau) {
            for (index g = 0; g < k.groups; g++) groups[g] = this->power(groups[g] + eps, g);
        } else {
            reciprocal_roots(k.groups, eps, groups);
        }
        expanded(k, columns, groups, factor);
    }
};

}  // namespace
