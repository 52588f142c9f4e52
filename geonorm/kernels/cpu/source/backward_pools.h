// Backward, pool by pool: from the sums of g and g w to the coefficients of dx = a g + b w + e.

#pragma once
#include "derivative.h"

namespace {

template <class A> class BackwardPools : public Derivative<A> {
  protected:
    using Base = Derivative<A>;
    using Base::arrays, Base::columns, Base::gathering, Base::mean, Base::offset, Base::recipe, Base::rho1, Base::shift,
        Base::sum_w, Base::sums, Base::sw;

    enum { ALPHA, GAMMA, BETA, TAU };
    A *dalpha, *dgamma, *dbeta, *dtau;
    A *sgu, *by_rho, *groups, *by_mean;
    A *a, *b, *e;

    template <class T>
    BackwardPools(const Given<T>& given, const A* means, const A* squares, const A* own_means, A* dalpha, A* dgamma,
                  A* dbeta, A* dtau)
        : Base(given, means, squares, own_means, 2, 2, 7, 4), dalpha(dalpha), dgamma(dgamma), dbeta(dbeta), dtau(dtau),
          sgu(arrays.take()), by_rho(arrays.take()), groups(arrays.take()), by_mean(arrays.take()), a(arrays.take()),
          b(arrays.take()), e(arrays.take()) {}

    APART void head(index, index rows_, bool owner) override {
        const index columns = this->columns;
        const A rows = A(rows_);
        const A* RESTRICT gamma = this->gamma ? this->gamma : this->ones;
        const A *RESTRICT sg = sums, *RESTRICT sgw = sums + arrays.length();
        const A *RESTRICT rho = this->rho_each, *RESTRICT offset = this->offset;
        A *RESTRICT sgu = this->sgu, *RESTRICT by_rho = this->by_rho, *RESTRICT a = this->a;
        this->know_sum_of_w(rows_);
        if (owner && this->by_column()) return head_by_column(rows);
        COLUMNS {
            sgu[c] = sgw[c] + offset[c] * sg[c];
            by_rho[c] = gamma[c] * sgu[c];
            a[c] = gamma[c] * rho[c];
        }
        if (this->has_scale()) {
            added(recipe.scale, columns, by_rho, groups);
            if (owner && dtau)
                for (index k = 0; k < recipe.scale.groups; k++) gathering.of(TAU)[k] += groups[k] * this->rho_tau(k);
            A *RESTRICT groups = this->groups, *RESTRICT rho1 = this->rho1;
            GROUPS(recipe.scale.groups) groups[k] *= rho1[k];
            this->by_square(rows, groups, b);
        }
        if (this->has_mean()) through_mean(rows, owner);
        if (!owner) return;
        if (dgamma) {
            A* RESTRICT into = gathering.of(GAMMA);
            COLUMNS into[c] += sgu[c] * rho[c];
        }
        if (dbeta) {
            A* RESTRICT into = gathering.of(BETA);
            COLUMNS into[c] += sg[c];
        }
        gathering.pool_done();
    }
    // The same in one loop. What parameters do not ask for is gathered, too, and read by nobody.
    APART void head_by_column(A rows) {
        const index columns = this->columns;
        const A* RESTRICT gamma = this->gamma ? this->gamma : this->ones;
        const A* RESTRICT alpha = this->alpha ? this->alpha : this->ones;
        const A *RESTRICT sg = sums, *RESTRICT sgw = sums + arrays.length(), *RESTRICT mean = this->mean;
        const A *RESTRICT rho = this->rho_each, *RESTRICT rho1 = this->rho1, *RESTRICT sw = this->sw;
        const A* RESTRICT weight = weights<A>(recipe.scale);
        A *RESTRICT a = this->a, *RESTRICT b = this->b, *RESTRICT e = this->e;
        A *RESTRICT by_alpha = gathering.of(ALPHA), *RESTRICT by_gamma = gathering.of(GAMMA);
        A* RESTRICT by_beta = gathering.of(BETA);
        const A inverse = A(1) / rows, twice = A(2) / rows;
        COLUMNS {
            a[c] = gamma[c] * rho[c];
            b[c] = gamma[c] * sgw[c] * rho1[c] * (twice * weight[c]);
            const A by_mean = a[c] * sg[c] + b[c] * sw[c];  // of w vanishes the sum where the whole mean is subtracted
            e[c] = -(alpha[c] * by_mean * inverse);
            by_alpha[c] -= mean[c] * by_mean;
            by_gamma[c] += sgw[c] * rho[c];
            by_beta[c] += sg[c];
        }
        gathering.pool_done();
    }
    // What passes through the mean, and the gradient of its weight. Where there is no mean, e stays zero.
    void through_mean(A rows, bool owner) {
        const index columns = this->columns;
        const A *RESTRICT sg = sums, *RESTRICT a = this->a, *RESTRICT b = this->b, *RESTRICT sw = this->sw;
        A *RESTRICT by_mean = this->by_mean, *RESTRICT e = this->e;
        COLUMNS by_mean[c] = a[c] * sg[c];
        if (sum_w != Base::VANISHES)
            COLUMNS by_mean[c] += b[c] * sw[c];
        if (owner && dalpha) {
            A* RESTRICT into = gathering.of(ALPHA);
            const A* RESTRICT mean = this->mean;
            COLUMNS into[c] -= mean[c] * by_mean[c];
        }
        if (const A* RESTRICT alpha = this->alpha)
            COLUMNS by_mean[c] *= alpha[c];
        this->cen(rows, by_mean, groups, e);
        COLUMNS e[c] = -e[c];
    }

  public:
    static constexpr index parts = 3, gathered = 4;
    void publish(const double* totals, index stride) const {
        give(dalpha, totals + ALPHA * stride, columns);
        give(dgamma, totals + GAMMA * stride, columns);
        give(dbeta, totals + BETA * stride, columns);
        give(dtau, totals + TAU * stride, recipe.scale.groups);
    }
};

}  // namespace
