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
        tiles<A, 2 * REGISTERS>(columns, [=](auto tile, index c) {
            using V = typename decltype(tile)::V;
            constexpr int R = tile.R, L = tile.L;
            V sg[R], sgw[R], shift[R];
            EACH_REGISTER sg[r] = sgw[r] = V{}, shift[r] = load_as<V>(shifts + c + r * L);
            for (index k = first; k < last; k++) {
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
    template <bool STREAMING> APART void write_rows(index low, index high) const {
        const Batch batch = this->batch;
        const index columns = this->columns;
        const T *x = this->x, *g = this->g;
        T* dx = this->dx;
        const A *shifts = this->shift, *as = this->a, *bs = this->b, *es = this->e;
        const bool scaled = this->has_scale();
        tiles<A, REGISTERS, STREAMING>(columns, [=](auto tile, index c) {
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
        const bool centred = this->has_mean();
        for (index k = low; k < high; k++) {
            const T *RESTRICT p = x + k * columns, *RESTRICT q = g + k * columns;
            const A about = centred ? this->means[k] : A(0), moment = this->squares[k] + eps, rho = A(1) / root(moment);
            A by_mean = 0, by_rho = 0;
            _Pragma("omp simd reduction(+ : by_mean, by_rho)") for (index c = 0; c < columns; c++) {
                A gradient = gamma[c] * load(q + c);
                by_mean += gradient;
                by_rho += gradient * (load(p + c) - about);
            }
            const A b = -weight * by_rho * rho / moment, e = centred ? -rho * by_mean / A(columns) : A(0);
            if (this->dgamma) {
                A* RESTRICT into = gathering.of(Base::GAMMA);
                COLUMNS into[c] += load(q + c) * (load(p + c) - about) * rho;
            }
            if (this->dbeta) {
                A* RESTRICT into = gathering.of(Base::BETA);
                COLUMNS into[c] += load(q + c);
            }
            gathering.pool_done();
            if (!dx) continue;
            T* RESTRICT o = dx + k * columns;
            COLUMNS store(o + c, (rho * gamma[c]) * load(q + c) + b * (load(p + c) - about) + e);
        }
    }
};

}  // namespace
