// Double backward, row by row: the sums of g, g w, v, g v and w v, and the gradients of g and x.

#pragma once
#include "twice_pools.h"

namespace {

template <class T> class Twice final : public TwicePools<typename Accumulated<T>::type> {
    using A = typename Accumulated<T>::type;
    using Base = TwicePools<A>;
    using Base::batch, Base::columns, Base::gathering, Base::recipe;
    const T *x, *g, *v;
    T *dg, *dx;

  public:
    Twice(const Given<T>& given, const A* means, const A* squares, const A* own_means, const T* g, const T* v,
          const A* alpha_dot, const A* gamma_dot, const A* beta_dot, const A* tau_dot, T* dg, T* dx, A* dalpha,
          A* dgamma, A* dtau)
        : Base(given, means, squares, own_means, alpha_dot, gamma_dot, beta_dot, tau_dot, dalpha, dgamma, dtau),
          x(given.x), g(g), v(v), dg(dg), dx(dx) {
        this->streaming = given.streaming && this->whole_vectors(dg) && this->whole_vectors(dx);
    }

  private:
    APART void block_sums(index first, index last) override {
        const Batch batch = this->batch;
        const index columns = this->columns, stride = this->arrays.length();
        const T *x = this->x, *g = this->g, *v = this->v;
        const A* shifts = this->shift;
        A* sums = this->sums;
        sweeps<A>(columns, first, last, [=](auto tile, index c, index low, index high, bool begins) {
            using V = typename decltype(tile)::V;
            constexpr int R = tile.R, L = tile.L;
            V sg[R], sgw[R], sv[R], sgv[R], swv[R], shift[R];
            EACH_REGISTER {
                const A* at = sums + c + r * L;
                sg[r] = begins ? V{} : load_as<V>(at);
                sgw[r] = begins ? V{} : load_as<V>(at + stride);
                sv[r] = begins ? V{} : load_as<V>(at + 2 * stride);
                sgv[r] = begins ? V{} : load_as<V>(at + 3 * stride);
                swv[r] = begins ? V{} : load_as<V>(at + 4 * stride);
                shift[r] = load_as<V>(shifts + c + r * L);
            }
            for (index k = low; k < high; k++) {
                const index at = batch.row(k) * columns + c;
                EACH_REGISTER {
                    V gradient = load_as<V>(g + at + r * L), along = load_as<V>(v + at + r * L);
                    V w = load_as<V>(x + at + r * L) - shift[r];
                    sg[r] += gradient;
                    sv[r] += along;
                    sgw[r] = fused(gradient, w, sgw[r]);
                    sgv[r] = fused(gradient, along, sgv[r]);
                    swv[r] = fused(w, along, swv[r]);
                }
            }
            EACH_REGISTER {
                put(sums + c + r * L, sg[r]);
                put(sums + stride + c + r * L, sgw[r]);
                put(sums + 2 * stride + c + r * L, sv[r]);
                put(sums + 3 * stride + c + r * L, sgv[r]);
                put(sums + 4 * stride + c + r * L, swv[r]);
            }
        });
        if (this->sum_w == Base::ADDED) sum_of_w(batch, columns, x, shifts, first, last, sums + 5 * stride);
    }
    template <bool STREAMING> APART void write_rows(index first, index last) const {
        const Batch batch = this->batch;
        const index columns = this->columns;
        const T *x = this->x, *g = this->g, *v = this->v;
        T *dg = this->dg, *dx = this->dx;
        const A *shifts = this->shift, *as = this->a, *a1s = this->a1, *bs = this->b, *b1s = this->b1;
        const A *e1s = this->e1, *e2s = this->e2;
        // What nothing depends on is not read: infinity times zero is not a number.
        const bool scaled = this->has_scale(), moves = scaled || this->gamma_dot;
        sweeps<A, STREAMING>(columns, first, last, [=](auto tile, index c, index low, index high, bool) {
            using V = typename decltype(tile)::V;
            constexpr int R = tile.R, L = tile.L;
            V shift[R], a[R], a1[R], b[R], b1[R], e1[R], e2[R];
            EACH_REGISTER {
                shift[r] = load_as<V>(shifts + c + r * L);
                a[r] = load_as<V>(as + c + r * L);
                a1[r] = load_as<V>(a1s + c + r * L);
                b[r] = load_as<V>(bs + c + r * L);
                b1[r] = load_as<V>(b1s + c + r * L);
                e1[r] = load_as<V>(e1s + c + r * L);
                e2[r] = load_as<V>(e2s + c + r * L);
            }
            for (index k = low; k < high; k++) {
                const index at = batch.row(k) * columns + c;
                EACH_REGISTER {
                    V w = load_as<V>(x + at + r * L) - shift[r], along = load_as<V>(v + at + r * L);
                    if (dg) {
                        V value = a[r] * along;
                        if (moves) value += a1[r] * w;
                        write<STREAMING>(dg + at + r * L, V(value + e1[r]));
                    }
                    if (dx) {
                        V value{};
                        if (moves) value = a1[r] * load_as<V>(g + at + r * L);
                        if (scaled) value = value + b[r] * along + b1[r] * w;
                        write<STREAMING>(dx + at + r * L, V(value + e2[r]));
                    }
                }
            }
        });
    }
    void write_block(index low, index high) override {
        if (this->streaming) write_rows<true>(low, high);
        else write_rows<false>(low, high);
    }
    APART void along_rows(index low, index high) override {
        const index columns = this->columns;
        const A *RESTRICT gamma = this->gamma ? this->gamma : this->ones;
        const A *RESTRICT dots = this->gamma_dot ? this->gamma_dot : this->zeros;
        const A *RESTRICT added = this->beta_dot ? this->beta_dot : this->zeros;
        const bool centred = this->has_mean();
        const A weight = A(2) * weights<A>(recipe.scale)[0], mean_of = centred ? A(1) / A(columns) : A(0);
        // Where nobody asks for a gradient it is written to an array that nobody reads.
        T *nobody = reinterpret_cast<T*>(this->still), *nobody2 = reinterpret_cast<T*>(this->moved);
        for (index k = low; k < high; k++) {
            const T *RESTRICT p = x + k * columns, *RESTRICT q = g + k * columns, *RESTRICT z = v + k * columns;
            const A about = centred ? this->means[k] : A(0), moment = this->squares[k] + A(recipe.eps);
            const A rho = A(1) / root(moment), rho1 = A(-0.5) * rho / moment;
            A sg = 0, sgw = 0, sv = 0, sgv = 0, swv = 0, dotted = 0, dotted_w = 0;
            _Pragma("omp simd reduction(+ : sg, sgw, sv, sgv, swv, dotted, dotted_w)")
            for (index c = 0; c < columns; c++) {
                A raw = load(q + c), gradient = gamma[c] * raw, along = load(z + c), w = load(p + c) - about;
                sg += gradient;
                sgw += gradient * w;
                sv += along;
                sgv += gradient * along;
                swv += w * along;
                dotted += dots[c] * raw;
                dotted_w += dots[c] * raw * w;
            }
            const A lost = -sv * mean_of;
            const A moment_dot = weight * swv, rho_dot = rho1 * moment_dot;
            const A rho1_dot = A(-1.5) * rho1 / moment * moment_dot, moved = sgv + lost * sg + dotted_w;
            const A b = weight * sgw * rho1, b1 = weight * (moved * rho1 + sgw * rho1_dot);
            const A e2 = b * lost - (rho_dot * sg + rho * dotted) * mean_of;
            if (this->dgamma) {
                A* RESTRICT into = gathering.of(Base::GAMMA);
                COLUMNS into[c] += load(q + c) * ((load(z + c) + lost) * rho + (load(p + c) - about) * rho_dot);
            }
            gathering.pool_done();
            T *RESTRICT o = dg ? dg + k * columns : nobody, *RESTRICT o2 = dx ? dx + k * columns : nobody2;
            COLUMNS {
                A along = load(z + c), w = load(p + c) - about, a = gamma[c] * rho;
                A a1 = gamma[c] * rho_dot + dots[c] * rho;
                store(o + c, a * (along + lost) + a1 * w + added[c]);
                store(o2 + c, a1 * load(q + c) + b * along + b1 * w + e2);
            }
        }
    }
};

}  // namespace
