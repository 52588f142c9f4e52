// Backward, row by row: the sums of g and g w, and the gradient of x.

#pragma once
#include "backward_pools.h"

namespace {

template <class T> class Backward final : public BackwardPools<typename Accumulated<T>::type> {
    using A = typename Accumulated<T>::type;
    using Base = BackwardPools<A>;
    using Base::batch, Base::columns, Base::gathering, Base::recipe;
    const T *x, *g;
    T* dx;

  public:
    Backward(const Given<T>& given, const A* means, const A* squares, const A* own_means, const T* g, T* dx, A* dalpha,
             A* dgamma, A* dbeta, A* dtau)
        : Base(given, means, squares, own_means, dalpha, dgamma, dbeta, dtau), x(given.x), g(g), dx(dx) {
        this->streaming = given.streaming && this->whole_vectors(dx);
    }

  private:
    APART void block_sums(index first, index last) override {
        const Batch batch = this->batch;
        const index columns = this->columns, stride = this->arrays.length();
        const T *x = this->x, *g = this->g;
        const A* shifts = this->shift;
        A* sums = this->sums;
        sweeps<A>(columns, first, last, [=](auto tile, index c, index low, index high, bool begins) {
            using V = typename decltype(tile)::V;
            constexpr int R = tile.R, L = tile.L;
            V sg[R], sgw[R], shift[R];
            EACH_REGISTER {
                sg[r] = begins ? V{} : load_as<V>(sums + c + r * L);
                sgw[r] = begins ? V{} : load_as<V>(sums + stride + c + r * L);
                shift[r] = load_as<V>(shifts + c + r * L);
            }
            for (index k = low; k < high; k++) {
                const index at = batch.row(k) * columns + c;
                EACH_REGISTER {
                    V gradient = load_as<V>(g + at + r * L);
                    sg[r] += gradient;
                    sgw[r] = fused(gradient, V(load_as<V>(x + at + r * L) - shift[r]), sgw[r]);
                }
            }
            EACH_REGISTER {
                put(sums + c + r * L, sg[r]);
                put(sums + stride + c + r * L, sgw[r]);
            }
        });
        if (this->sum_w == Base::ADDED) sum_of_w(batch, columns, x, shifts, first, last, sums + 2 * stride);
    }
    template <bool STREAMING> APART void write_rows(index first, index last) const {
        const Batch batch = this->batch;
        const index columns = this->columns;
        const T *x = this->x, *g = this->g;
        T* dx = this->dx;
        const A *shifts = this->shift, *as = this->a, *bs = this->b, *es = this->e;
        const bool scaled = this->has_scale();
        sweeps<A, STREAMING>(columns, first, last, [=](auto tile, index c, index low, index high, bool) {
            using V = typename decltype(tile)::V;
            constexpr int R = tile.R, L = tile.L;
            V shift[R], a[R], b[R], e[R];
            EACH_REGISTER {
                shift[r] = load_as<V>(shifts + c + r * L);
                a[r] = load_as<V>(as + c + r * L);
                b[r] = load_as<V>(bs + c + r * L);
                e[r] = load_as<V>(es + c + r * L);
            }
            for (index k = low; k < high; k++) {
                const index at = batch.row(k) * columns + c;
                if constexpr (STREAMING) {
                    const index next = batch.near(k + last - first) * columns + c;
                    fetch<R * L * sizeof(T)>(g + next);
                    fetch<R * L * sizeof(T)>(x + next);
                }
                EACH_REGISTER {
                    V value = a[r] * load_as<V>(g + at + r * L);
                    // Where nothing is scaled x is not read: infinity times zero is not a number.
                    if (scaled) value += b[r] * (load_as<V>(x + at + r * L) - shift[r]);
                    write<STREAMING>(dx + at + r * L, V(value + e[r]));
                }
            }
        });
    }
    void write_block(index low, index high) override {
        if (!dx) return;
        if (this->streaming) write_rows<true>(low, high);
        else write_rows<false>(low, high);
    }
    APART void along_rows(index low, index high) override {
        const index columns = this->columns;
        const A* RESTRICT gamma = this->gamma ? this->gamma : this->ones;
        const A weight = weights<A>(recipe.scale)[0], eps = A(recipe.eps);
        const bool centred = this->has_mean(), gathers = this->dgamma || this->dbeta;
        // Where nobody asks for the gradient of x it is written to an array that nobody reads.
        T* nobody = reinterpret_cast<T*>(this->by_mean);
        if (!dx && !gathers) return;
        A rho[ROWS], by_mean[ROWS], by_rho[ROWS], b[ROWS], e[ROWS];
        const index together = rows_together(columns * index(sizeof(T)));
        for (index first = low; first < high; first += together) {
            const index rows = least(together, high - first);
            const A *means = this->means + first, *moments = this->squares + first;
            for (index k = 0; k < rows; k++) {
                const T *RESTRICT p = x + (first + k) * columns, *RESTRICT q = g + (first + k) * columns;
                const A about = centred ? means[k] : A(0);
                A sum = 0, with_w = 0;
                _Pragma("omp simd reduction(+ : sum, with_w)") for (index c = 0; c < columns; c++) {
                    A gradient = gamma[c] * load(q + c);
                    sum += gradient;
                    with_w += gradient * (load(p + c) - about);
                }
                by_mean[k] = sum, by_rho[k] = with_w;
            }
            _Pragma("omp simd") for (index k = 0; k < rows; k++) {
                const A moment = moments[k] + eps;
                rho[k] = A(1) / root(moment);
                b[k] = -weight * by_rho[k] * rho[k] / moment;
                e[k] = centred ? -rho[k] * by_mean[k] / A(columns) : A(0);
            }
            for (index k = 0; k < rows; k++) {
                const T *RESTRICT p = x + (first + k) * columns, *RESTRICT q = g + (first + k) * columns;
                const A about = centred ? means[k] : A(0), rho_ = rho[k], b_ = b[k], e_ = e[k];
                T* RESTRICT o = dx ? dx + (first + k) * columns : nobody;
                if (gathers) {
                    A *RESTRICT by_gamma = gathering.of(Base::GAMMA), *RESTRICT by_beta = gathering.of(Base::BETA);
                    COLUMNS {
                        const A gradient = load(q + c), w = load(p + c) - about;
                        by_gamma[c] += gradient * w * rho_;
                        by_beta[c] += gradient;
                        store(o + c, (rho_ * gamma[c]) * gradient + b_ * w + e_);
                    }
                    gathering.pool_done();
                } else {
                    COLUMNS store(o + c, (rho_ * gamma[c]) * load(q + c) + b_ * (load(p + c) - about) + e_);
                }
            }
        }
    }
};

}  // namespace
