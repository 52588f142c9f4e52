// Forward, row by row: what is read to know a pool, and the result.

#pragma once
#include "forward_pools.h"

namespace {

template <class T> class Forward final : public ForwardPools<typename Accumulated<T>::type> {
    using A = typename Accumulated<T>::type;
    using Base = ForwardPools<A>;
    using Base::batch, Base::columns, Base::recipe;
    const T* x;
    T* y;

  public:
    static constexpr index parts = 2, gathered = 0;
    Forward(const Given<T>& given, T* y, A* mean, A* square, A* own_mean)
        : Base(given, mean, square, own_mean), x(given.x), y(y) {
        this->streaming = given.streaming && this->whole_vectors(y);
    }
    void publish(const double*, index) const {}

  private:
    // A first guess of the mean, the rest of it, and the sum of squares about both, of the rows of a block.
    APART void block_moments(index first, index last) override {
        const A inverse = A(1) / A(last - first);
        const Batch batch = this->batch;
        const index columns = this->columns;
        const T* x = this->x;
        A *guesses = this->column_mean, *rests = this->rest, *m2 = this->m2;
        tiles<A>(columns, [=](auto tile, index c) {
            using V = typename decltype(tile)::V;
            constexpr int R = tile.R, L = tile.L;
            V sum[R], guess[R], rest[R], squares[R];
            EACH_REGISTER sum[r] = rest[r] = squares[r] = V{};
            for (index k = first; k < last; k++) {
                const T* p = x + batch.row(k) * columns + c;
                EACH_REGISTER sum[r] += load_as<V>(p + r * L);
            }
            EACH_REGISTER guess[r] = sum[r] * inverse;
            for (index k = first; k < last; k++) {
                const T* p = x + batch.row(k) * columns + c;
                EACH_REGISTER {
                    V d = load_as<V>(p + r * L) - guess[r];
                    rest[r] += d;
                    squares[r] = fused(d, d, squares[r]);
                }
            }
            EACH_REGISTER {
                V d = rest[r] * inverse;
                put(guesses + c + r * L, guess[r]);
                put(rests + c + r * L, d);
                const V left = squares[r] - d * rest[r];
                put(m2 + c + r * L, V(left < 0 ? V{} : left));
            }
        });
    }
    template <bool STREAMING> APART void write_rows(index low, index high) const {
        const Batch batch = this->batch;
        const index columns = this->columns;
        const T* x = this->x;
        T* y = this->y;
        const A *shifts = this->shift, *factors = this->factor, *addends = this->added;
        tiles<A, STREAMING>(columns, [=](auto tile, index c) {
            using V = typename decltype(tile)::V;
            constexpr int R = tile.R, L = tile.L;
            V shift[R], factor[R], added[R];
            EACH_REGISTER {
                shift[r] = load_as<V>(shifts + c + r * L);
                factor[r] = load_as<V>(factors + c + r * L);
                added[r] = load_as<V>(addends + c + r * L);
            }
            for (index k = low; k < high; k++) {
                const index at = batch.row(k) * columns + c;
                if constexpr (STREAMING) fetch<R * L * sizeof(T)>(x + batch.near(k + high - low) * columns + c);
                EACH_REGISTER write<STREAMING>(y + at + r * L,
                                               V((load_as<V>(x + at + r * L) - shift[r]) * factor[r] + added[r]));
            }
        });
    }
    void write_block(index low, index high) override {
        if (this->streaming) write_rows<true>(low, high);
        else write_rows<false>(low, high);
    }
    APART void along_rows(index low, index high) override {
        const index columns = this->columns;
        const bool centred = this->has_mean();
        const A *RESTRICT gamma = this->gamma ? this->gamma : this->ones;
        const A *RESTRICT beta = this->beta ? this->beta : this->zeros;
        const A weight = weights<A>(recipe.scale)[0], eps = A(recipe.eps), inverse = A(1) / A(columns);
        A about[ROWS], rest[ROWS], squares[ROWS], rho[ROWS];
        const index together = rows_together(columns * index(sizeof(T)));
        for (index first = low; first < high; first += together) {
            const index rows = least(together, high - first);
            const T* begin = x + first * columns;
            for (index k = 0; k < rows; k++) {
                const T* RESTRICT p = begin + k * columns;
                A sum = 0;
                if (centred) {
                    _Pragma("omp simd reduction(+ : sum)") for (index c = 0; c < columns; c++) sum += load(p + c);
                    sum *= inverse;
                }
                about[k] = sum;
            }
            for (index k = 0; k < rows; k++) {
                const T* RESTRICT p = begin + k * columns;
                const A centre = about[k];
                A left = 0, square = 0;
                _Pragma("omp simd reduction(+ : left, square)") for (index c = 0; c < columns; c++) {
                    A d = load(p + c) - centre;
                    left += d;
                    square += d * d;
                }
                rest[k] = left, squares[k] = square;
            }
            _Pragma("omp simd") for (index k = 0; k < rows; k++) {
                // The first mean was rounded: what is left of it.
                const A left = centred ? rest[k] * inverse : A(0);
                const A square = centred ? squares[k] - left * rest[k] : squares[k];
                about[k] += left;
                squares[k] = (square < 0 ? A(0) : square) * weight;
                rho[k] = A(1) / root(squares[k] + eps);
            }
            if (this->mean && centred) memcpy(this->mean + first, about, size_t(rows) * sizeof(A));
            if (this->square) memcpy(this->square + first, squares, size_t(rows) * sizeof(A));
            for (index k = 0; k < rows; k++) {
                const T* RESTRICT p = begin + k * columns;
                T* RESTRICT o = y + (first + k) * columns;
                const A centre = about[k], factor = rho[k];
                COLUMNS store(o + c, (load(p + c) - centre) * (factor * gamma[c]) + beta[c]);
            }
        }
    }
};

}  // namespace
