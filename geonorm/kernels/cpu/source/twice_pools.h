// Double backward, pool by pool: from the sums of g, g w, v, g v and w v to the coefficients of
// dg = a v + a1 w + e1 and dx = a1 g + b v + b1 w + e2.

#pragma once
#include "derivative.h"

namespace {

template <class A> class TwicePools : public Derivative<A> {
  protected:
    using Base = Derivative<A>;
    using Base::arrays, Base::columns, Base::gathering, Base::moment, Base::offset, Base::recipe, Base::rho, Base::rho1,
        Base::sum_w, Base::sums, Base::sw;

    enum { ALPHA, GAMMA, TAU };
    const A *alpha_dot, *gamma_dot, *beta_dot, *tau_dot;
    A *dalpha, *dgamma, *dtau;
    A *sgu, *u_shift, *w_shift, *cen_v;  // u̇ = v + u_shift, ẇ = v + w_shift
    A *moment_dot, *rho_dot, *rho1_dot, *rho_dot_each;
    A *still, *moved, *groups, *spare, *by_mean;
    A *a, *a1, *b, *b1, *e1, *e2;

    template <class T>
    TwicePools(const Given<T>& given, const A* means, const A* squares, const A* own_means, const A* alpha_dot,
               const A* gamma_dot, const A* beta_dot, const A* tau_dot, A* dalpha, A* dgamma, A* dtau)
        : Base(given, means, squares, own_means, 3, 5, 19, 3), alpha_dot(alpha_dot), gamma_dot(gamma_dot),
          beta_dot(beta_dot), tau_dot(tau_dot), dalpha(dalpha), dgamma(dgamma), dtau(dtau), sgu(arrays.take()),
          u_shift(arrays.take()), w_shift(arrays.take()), cen_v(arrays.take()), moment_dot(arrays.take()),
          rho_dot(arrays.take()), rho1_dot(arrays.take()), rho_dot_each(arrays.take()), still(arrays.take()),
          moved(arrays.take()), groups(arrays.take()), spare(arrays.take()), by_mean(arrays.take()), a(arrays.take()),
          a1(arrays.take()), b(arrays.take()), b1(arrays.take()), e1(arrays.take()), e2(arrays.take()) {}

    APART void head(index, index rows, bool owner) override {
        const index columns = this->columns, stride = arrays.length();
        const A *RESTRICT sg = sums, *RESTRICT sgw = sg + stride, *RESTRICT offset = this->offset;
        A* RESTRICT sgu = this->sgu;
        this->know_sum_of_w(rows);
        if (owner && this->by_column()) return head_by_column(A(rows));
        COLUMNS sgu[c] = sgw[c] + offset[c] * sg[c];
        shifts(A(rows));
        if (this->has_scale()) moments(A(rows));
        coefficients(A(rows), owner);
        if (this->has_mean()) through_mean(A(rows), owner);
        if (!owner) return;
        if (dgamma) {
            A* RESTRICT into = gathering.of(GAMMA);
            const A *RESTRICT sgu_dot = sums + 3 * stride, *RESTRICT rho = this->rho_each;
            const A* RESTRICT rho_dot = rho_dot_each;
            COLUMNS into[c] += sgu_dot[c] * rho[c] + sgu[c] * rho_dot[c];
        }
        gathering.pool_done();
    }
    // The same in one loop. What parameters do not ask for is gathered, too, and read by nobody.
    APART void head_by_column(A rows) {
        const index columns = this->columns, stride = arrays.length();
        const A* RESTRICT gamma = this->gamma ? this->gamma : this->ones;
        const A* RESTRICT alpha = this->alpha ? this->alpha : this->ones;
        const A* RESTRICT alpha_dot = this->alpha_dot ? this->alpha_dot : this->zeros;
        const A* RESTRICT gamma_dot = this->gamma_dot ? this->gamma_dot : this->zeros;
        const A* RESTRICT beta_dot = this->beta_dot ? this->beta_dot : this->zeros;
        const A *RESTRICT mean = this->mean, *RESTRICT moment = this->moment, *RESTRICT rho = this->rho_each;
        const A *RESTRICT rho1 = this->rho1, *RESTRICT sw = this->sw, *RESTRICT weight = weights<A>(recipe.scale);
        const A *RESTRICT sg = sums, *RESTRICT sgw = sg + stride, *RESTRICT sv = sg + 2 * stride;
        const A *RESTRICT sgv = sg + 3 * stride, *RESTRICT swv = sg + 4 * stride;
        A *RESTRICT a = this->a, *RESTRICT a1 = this->a1, *RESTRICT b = this->b, *RESTRICT b1 = this->b1;
        A *RESTRICT e1 = this->e1, *RESTRICT e2 = this->e2;
        A *RESTRICT by_alpha = gathering.of(ALPHA), *RESTRICT by_gamma = gathering.of(GAMMA);
        const A inverse = A(1) / rows;
        COLUMNS {
            const A twice = A(2) * inverse * weight[c], cen_v = sv[c] * inverse;
            const A shift = -(alpha[c] * cen_v) - alpha_dot[c] * mean[c];
            const A sgw_dot = sgv[c] + shift * sg[c], sww_dot = swv[c] + shift * sw[c];
            const A dot = twice * sww_dot, rho_dot = rho1[c] * dot;
            const A rho1_dot = A(-1.5) * rho1[c] / moment[c] * dot;
            const A still = gamma[c] * sgw[c], moved = gamma[c] * sgw_dot + gamma_dot[c] * sgw[c];
            a[c] = gamma[c] * rho[c];
            a1[c] = gamma[c] * rho_dot + gamma_dot[c] * rho[c];
            e1[c] = a[c] * shift + beta_dot[c];
            b[c] = twice * (still * rho1[c]);
            b1[c] = twice * (moved * rho1[c] + still * rho1_dot);
            const A by_mean = a1[c] * sg[c] + b[c] * (sv[c] + rows * shift) + b1[c] * sw[c];
            const A by_mean_dot = a[c] * sg[c] + b[c] * sw[c];
            e2[c] = b[c] * shift - (alpha[c] * by_mean + alpha_dot[c] * by_mean_dot) * inverse;
            by_alpha[c] -= cen_v * by_mean_dot + mean[c] * by_mean;
            by_gamma[c] += sgw_dot * rho[c] + sgw[c] * rho_dot;
        }
        gathering.pool_done();
    }
    // What the means of u and w lose, and the sums of g u̇ and w ẇ.
    void shifts(A rows) {
        const index columns = this->columns, stride = arrays.length();
        const A *RESTRICT sg = sums, *RESTRICT sv = sg + 2 * stride;
        A *RESTRICT sgu_dot = sums + 3 * stride, *RESTRICT sww_dot = sums + 4 * stride;
        A *RESTRICT u_shift = this->u_shift, *RESTRICT w_shift = this->w_shift;
        if (this->has_mean()) {
            const A *RESTRICT cen_v = this->cen_v, *RESTRICT alpha = this->alpha ? this->alpha : this->ones;
            this->cen(rows, sv, groups, this->cen_v);
            COLUMNS u_shift[c] = -(alpha[c] * cen_v[c]);
            const A *RESTRICT alpha_dot = this->alpha_dot, *RESTRICT mean = this->mean;
            if (alpha_dot)
                COLUMNS u_shift[c] -= alpha_dot[c] * mean[c];
            COLUMNS sgu_dot[c] += u_shift[c] * sg[c];
        }
        if (this->centres_w()) {
            COLUMNS w_shift[c] = u_shift[c];
            if (const A* RESTRICT sw = this->sw; sum_w != Base::VANISHES)
                COLUMNS sww_dot[c] += w_shift[c] * sw[c];
        } else if (this->own()) {
            weighted(recipe.scale, columns, sv, groups);
            A* RESTRICT groups = this->groups;
            GROUPS(recipe.scale.groups) groups[k] /= -rows;
            expanded(recipe.scale, columns, groups, w_shift);
        }
    }
    // How the second moment moves, and with it ρ and ρ'.
    void moments(A rows) {
        const index number = recipe.scale.groups;
        const A *RESTRICT rho1 = this->rho1, *RESTRICT moment = this->moment;
        A *RESTRICT moment_dot = this->moment_dot, *RESTRICT rho_dot = this->rho_dot;
        A* RESTRICT rho1_dot = this->rho1_dot;
        weighted(recipe.scale, columns, sums + 4 * arrays.length(), moment_dot);
        const A* RESTRICT half_tau = this->half_tau;
        GROUPS(number) {
            A dot = A(2) * moment_dot[k] / rows;
            moment_dot[k] = dot;
            rho_dot[k] = rho1[k] * dot;
            rho1_dot[k] = -(half_tau[k] + A(1)) * rho1[k] / moment[k] * dot;
        }
        if (tau_dot)
            for (index k = 0; k < number; k++) {
                rho_dot[k] += this->rho_tau(k) * tau_dot[k];
                rho1_dot[k] += this->rho1_tau(k) * tau_dot[k];
            }
        expanded(recipe.scale, columns, rho_dot, rho_dot_each);
    }
    void coefficients(A rows, bool owner) {
        const index columns = this->columns, stride = arrays.length();
        const A *RESTRICT gamma = this->gamma ? this->gamma : this->ones;
        const A *RESTRICT gamma_dot = this->gamma_dot ? this->gamma_dot : this->zeros;
        const A *RESTRICT beta_dot = this->beta_dot ? this->beta_dot : this->zeros;
        const A *RESTRICT rho = this->rho_each, *RESTRICT rho_dot = rho_dot_each, *RESTRICT offset = this->offset;
        const A *RESTRICT sgu = this->sgu, *RESTRICT sgu_dot = sums + 3 * stride;
        const A *RESTRICT u_shift = this->u_shift, *RESTRICT w_shift = this->w_shift;
        A *RESTRICT still = this->still, *RESTRICT moved = this->moved, *RESTRICT a = this->a, *RESTRICT a1 = this->a1;
        A *RESTRICT e1 = this->e1, *RESTRICT e2 = this->e2;
        COLUMNS {
            still[c] = gamma[c] * sgu[c];
            moved[c] = gamma[c] * sgu_dot[c] + gamma_dot[c] * sgu[c];
            a[c] = gamma[c] * rho[c];
            a1[c] = gamma[c] * rho_dot[c] + gamma_dot[c] * rho[c];
            e1[c] = a[c] * u_shift[c] + a1[c] * offset[c] + beta_dot[c];
        }
        if (this->has_scale()) through_scale(rows, owner);
        const A* RESTRICT b = this->b;  // zero where nothing is scaled
        COLUMNS e2[c] = b[c] * w_shift[c];
    }
    void through_scale(A rows, bool owner) {
        const index columns = this->columns, number = recipe.scale.groups;
        added(recipe.scale, columns, still, this->groups);
        added(recipe.scale, columns, moved, this->spare);
        if (owner && dtau) by_tau();
        A *RESTRICT groups = this->groups, *RESTRICT spare = this->spare;
        const A *RESTRICT rho1 = this->rho1, *RESTRICT rho1_dot = this->rho1_dot;
        GROUPS(number) {
            spare[k] = spare[k] * rho1[k] + groups[k] * rho1_dot[k];
            groups[k] *= rho1[k];
        }
        this->by_square(rows, groups, b);
        this->by_square(rows, spare, b1);
    }
    void by_tau() {
        for (index k = 0; k < recipe.scale.groups; k++) {
            A by_tau = spare[k] * this->rho_tau(k) + groups[k] * this->rho1_tau(k) * moment_dot[k];
            if (tau_dot) {
                const A of_moment = logarithm(moment[k]);
                by_tau += groups[k] * A(0.25) * of_moment * of_moment * rho[k] * tau_dot[k];
            }
            gathering.of(TAU)[k] += by_tau;
        }
    }
    // What passes through the mean, and the gradient of its weight.
    void through_mean(A rows, bool owner) {
        const index columns = this->columns, stride = arrays.length();
        const A *RESTRICT sg = sums, *RESTRICT sv = sg + 2 * stride, *RESTRICT w_shift = this->w_shift;
        const A *RESTRICT a = this->a, *RESTRICT a1 = this->a1, *RESTRICT b = this->b, *RESTRICT b1 = this->b1;
        A *RESTRICT by_mean = this->by_mean, *RESTRICT by_mean_dot = still, *RESTRICT e2 = this->e2;
        COLUMNS by_mean[c] = a1[c] * sg[c], by_mean_dot[c] = a[c] * sg[c];
        if (this->centres_w())
            COLUMNS by_mean[c] += b[c] * (sv[c] + rows * w_shift[c]);
        if (const A* RESTRICT sw = this->sw; sum_w != Base::VANISHES)
            COLUMNS by_mean[c] += b1[c] * sw[c], by_mean_dot[c] += b[c] * sw[c];
        if (owner && dalpha) {
            A* RESTRICT into = gathering.of(ALPHA);
            const A *RESTRICT cen_v = this->cen_v, *RESTRICT mean = this->mean;
            COLUMNS into[c] -= cen_v[c] * by_mean_dot[c] + mean[c] * by_mean[c];
        }
        if (const A* RESTRICT alpha = this->alpha)
            COLUMNS by_mean[c] *= alpha[c];
        if (const A* RESTRICT alpha_dot = this->alpha_dot)
            COLUMNS by_mean[c] += alpha_dot[c] * by_mean_dot[c];
        this->cen(rows, by_mean, groups, moved);
        const A* RESTRICT lost = moved;
        COLUMNS e2[c] -= lost[c];
    }

  public:
    static constexpr index parts = 6, gathered = 3;
    void publish(const double* totals, index stride) const {
        give(dalpha, totals + ALPHA * stride, columns);
        give(dgamma, totals + GAMMA * stride, columns);
        give(dtau, totals + TAU * stride, recipe.scale.groups);
    }
};

}  // namespace
