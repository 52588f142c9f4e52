// Standardization of pools of rows on the CPU: result, gradient and double backward, each in one pass over memory.
//
// A pool is a run of rows (a graph, one node, or the whole batch; of an unsorted batch, a run of `order`). Of each pool a
// few sums per column are taken; everything else is small, one number per pool and column, and follows from them
// by the formulas of gradients.py, whose names are used here; then the rows, still in the cache, are combined:
//
//     y = (x - shift) factor + beta,    dx = a g + b w + e,    dg = a v + a1 w + e1,    ddx = a1 g + b v + b1 w + e2.
//
// Rows are split evenly over threads. A pool that lies across a border is collected in parts, merged after a barrier.
//
// This file knows nothing of torch. It is compiled once per instruction set, with ISA as the ending of the names.

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#ifdef _OPENMP
#include <omp.h>
#endif
#if defined(__SSE2__)
#include <immintrin.h>
#endif

#ifndef ISA
#define ISA default
#endif
#define JOINED(a, b, c) a##_##b##_##c
#define NAME(what, type, isa) JOINED(what, type, isa)
#define RESTRICT __restrict__
// Arrays per column do not overlap.
#define COLUMNS _Pragma("omp simd") for (index c = 0; c < columns; c++)

#if defined(__AVX512F__)
#define VECTOR 64
#define REGISTERS 4
#elif defined(__AVX2__)
#define VECTOR 32
#define REGISTERS 2
#else
#define VECTOR 16
#define REGISTERS 2
#endif

extern "C" {
// Groups of columns that share a statistic. Entries are multiplied by the weight of their column in a weighted mean.
struct Columns {
    int64_t kind;            // NONE, EACH column a group of its own, ALL in one group, or ANY
    int64_t groups;
    const int64_t* group;    // of each column; the number of groups where it has none
    const void* weight[2];   // as float and as double
};
struct Recipe {
    int64_t columns, statistic;
    int64_t balanced;        // whether the weighted sums of w vanish when the whole mean is subtracted
    int64_t single;          // whether every column has a mean of its own, or none
    int64_t uniform;         // whether all columns have one weight in the scale
    double eps;
    Columns mean, scale;
};
}

// Names of this file belong to it alone: the same functions exist once for each instruction set.
namespace {

using index = int64_t;
enum Kind { NONE, EACH, ALL, ANY };
enum Statistic { RMS, RESIDUAL, OWN };

// The bytes of rows that are read twice while they are in the cache closest to the processor.
constexpr index BLOCK = 32 << 10;
// Float sums of parameters are added to double ones after that many pools.
constexpr index FLUSH = 32;

struct bf16 { uint16_t bits; };
template <class T> struct Accumulated { using type = T; };
template <> struct Accumulated<bf16> { using type = float; };

inline float load(const float* p) { return *p; }
inline double load(const double* p) { return *p; }
inline float load(const bf16* p) {
    uint32_t bits = uint32_t(p->bits) << 16;
    float value;
    memcpy(&value, &bits, 4);
    return value;
}
inline void store(float* p, float value) { *p = value; }
inline void store(double* p, double value) { *p = value; }
inline void store(bf16* p, float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    p->bits = value == value ? uint16_t(rounded) : uint16_t(0x7fc0);
}

inline index least(index a, index b) { return a < b ? a : b; }
inline index most(index a, index b) { return a < b ? b : a; }

// Vectors of numbers in which sums are kept, as wide as the registers of the instruction set.
typedef float floats __attribute__((vector_size(VECTOR)));
typedef double doubles __attribute__((vector_size(VECTOR)));
template <class A> struct Wide;
template <> struct Wide<float> { using type = floats; };
template <> struct Wide<double> { using type = doubles; };

template <class V> struct Loaded {  // V is a vector
    static V from(const void* p) {
        V values;
        memcpy(&values, p, sizeof(V));
        return values;
    }
};
template <class V, class T> inline V load_as(const T* p) {
    if constexpr (sizeof(V) <= sizeof(double) && VECTOR > sizeof(V)) return load(p);
    else return Loaded<V>::from(p);
}
template <> inline floats load_as<floats, bf16>(const bf16* p) {
    typedef uint16_t halves __attribute__((vector_size(VECTOR / 2)));
    typedef uint32_t words __attribute__((vector_size(VECTOR)));
    return floats(__builtin_convertvector(Loaded<halves>::from(p), words) << 16);
}
template <class A, class V> inline void put(A* p, V values) { memcpy(p, &values, sizeof(V)); }

// Past the caches: what is written now is read again much later, and need not be read before it is overwritten.
template <class V> inline void stream(void* p, V values) {
#if defined(__AVX512F__)
    if constexpr (sizeof(V) == 64) return _mm512_stream_si512(static_cast<__m512i*>(p), __m512i(values));
#endif
#if defined(__AVX__)
    if constexpr (sizeof(V) == 32) return _mm256_stream_si256(static_cast<__m256i*>(p), __m256i(values));
#endif
#if defined(__SSE2__)
    if constexpr (sizeof(V) == 16) return _mm_stream_si128(static_cast<__m128i*>(p), __m128i(values));
#endif
    memcpy(p, &values, sizeof(V));
}
template <bool STREAMING, class T, class V> inline void write(T* p, V values) {
    if constexpr (sizeof(V) <= sizeof(double) && VECTOR > sizeof(V)) {
        store(p, values);
    } else if constexpr (sizeof(T) == 2) {
        typedef uint16_t halves __attribute__((vector_size(VECTOR / 2)));
        typedef uint32_t words __attribute__((vector_size(VECTOR)));
        words bits = words(values), rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
        rounded = values == values ? rounded : words{} + 0x7fc0;
        halves narrow = __builtin_convertvector(rounded, halves);
        if constexpr (STREAMING) stream(p, narrow);
        else put(p, narrow);
    } else {
        if constexpr (STREAMING) stream(p, values);
        else put(p, values);
    }
}

// a b + c, rounded once where the processor can.
inline float fused(float a, float b, float c) { return a * b + c; }
inline double fused(double a, double b, double c) { return a * b + c; }
#if defined(__AVX512F__)
inline floats fused(floats a, floats b, floats c) { return floats(_mm512_fmadd_ps(__m512(a), __m512(b), __m512(c))); }
inline doubles fused(doubles a, doubles b, doubles c) {
    return doubles(_mm512_fmadd_pd(__m512d(a), __m512d(b), __m512d(c)));
}
#elif defined(__AVX2__) && defined(__FMA__)
inline floats fused(floats a, floats b, floats c) { return floats(_mm256_fmadd_ps(__m256(a), __m256(b), __m256(c))); }
inline doubles fused(doubles a, doubles b, doubles c) {
    return doubles(_mm256_fmadd_pd(__m256d(a), __m256d(b), __m256d(c)));
}
#else
inline floats fused(floats a, floats b, floats c) { return a * b + c; }
inline doubles fused(doubles a, doubles b, doubles c) { return a * b + c; }
#endif

inline void streamed() {
#if defined(__SSE2__)
    _mm_sfence();
#endif
}

// Tiles of columns whose sums stay in registers: of several registers first, then of fewer. The last tile overlaps the
// one before it, which gives the same sums twice.

template <class V, int R> struct Tile {
    using vector = V;
    static constexpr int registers = R;
};
template <class A, int R, class F> inline void vector_tiles(index c, index columns, F f) {
    using V = typename Wide<A>::type;
    constexpr index lanes = index(sizeof(V) / sizeof(A));
    for (; c + R * lanes <= columns; c += R * lanes) f(Tile<V, R>{}, c);
    if constexpr (R > 1) vector_tiles<A, R / 2>(c, columns, f);
    else if (c < columns) f(Tile<V, 1>{}, columns - lanes);
}
template <class A, int R, class F> inline void tiles(index columns, F f) {
    constexpr index lanes = index(sizeof(typename Wide<A>::type) / sizeof(A));
    if (columns >= lanes) return vector_tiles<A, R>(0, columns, f);
    index c = 0;
    for (; c + 4 <= columns; c += 4) f(Tile<A, 4>{}, c);
    for (; c < columns; c++) f(Tile<A, 1>{}, c);
}

// Groups of columns

template <class A> inline const A* weights(const Columns& k) { return static_cast<const A*>(k.weight[sizeof(A) == 8]); }

template <class A> A summed(index columns, const A* RESTRICT values) {
    A total = 0;
#pragma omp simd reduction(+ : total)
    for (index c = 0; c < columns; c++) total += values[c];
    return total;
}

// The sum over each group; of columns without a group it goes to one more place.
template <class A> void added(const Columns& k, index columns, const A* RESTRICT values, A* RESTRICT sums) {
    if (k.kind == EACH) {
        COLUMNS sums[c] = values[c];
    } else if (k.kind == ALL) {
        sums[0] = summed(columns, values);
    } else {
        const index* RESTRICT group = k.group;
        for (index g = 0; g <= k.groups; g++) sums[g] = 0;
        for (index c = 0; c < columns; ++c) sums[group[c]] += values[c];
    }
}

// The sum of weighted values over each group.
template <class A>
void weighted(const Columns& k, index columns, const A* RESTRICT values, A* RESTRICT sums) {
    const A* RESTRICT weight = weights<A>(k);
    if (k.kind == EACH) {
        COLUMNS sums[c] = values[c] * weight[c];
    } else if (k.kind == ALL) {
        A total = 0;
#pragma omp simd reduction(+ : total)
        for (index c = 0; c < columns; c++) total += values[c] * weight[c];
        sums[0] = total;
    } else {
        const index* RESTRICT group = k.group;
        for (index g = 0; g <= k.groups; g++) sums[g] = 0;
        for (index c = 0; c < columns; ++c) sums[group[c]] += values[c] * weight[c];
    }
}

// Gives every column the value of its group, zero where it has none.
template <class A> void expanded(const Columns& k, index columns, const A* RESTRICT values, A* RESTRICT into) {
    if (k.kind == EACH) {
        COLUMNS into[c] = values[c];
    } else if (k.kind == ALL) {
        A value = values[0];
        COLUMNS into[c] = value;
    } else {
        const index* RESTRICT group = k.group;
        COLUMNS into[c] = group[c] < k.groups ? values[group[c]] : A(0);
    }
}

// The mean over each group of the means of columns, exact where these are equal: given back to the columns.
template <class A>
void mean_of_means(const Columns& k, index columns, const A* RESTRICT means, A* RESTRICT spare, A* RESTRICT groups,
                   A* RESTRICT each) {
    weighted(k, columns, means, groups);
    expanded(k, columns, groups, each);
    if (k.kind == EACH) return;
    COLUMNS spare[c] = means[c] - each[c];
    weighted(k, columns, spare, each);
    for (index g = 0; g < k.groups; g++) groups[g] += each[g];
    expanded(k, columns, groups, each);
}

// Work space of one thread, cut into arrays of one length.

template <class V> class Arrays {
  public:
    Arrays(index number, index length) : length_((length + 15) / 16 * 16) {
        memory_ = static_cast<V*>(calloc(size_t(number * length_) + 16, sizeof(V)));
        next_ = reinterpret_cast<V*>((uintptr_t(memory_) + 63) / 64 * 64);
    }
    ~Arrays() { free(memory_); }
    Arrays(const Arrays&) = delete;
    V* take(index number = 1) {
        V* taken = next_;
        next_ += number * length_;
        return taken;
    }
    index length() const { return length_; }

  private:
    V *memory_, *next_;
    index length_;
};

// Which rows belong together. Without `ptr` every row is a pool of its own.
struct Batch {
    index rows, pools;
    const index *ptr, *order;
    index begin(index pool) const { return ptr ? ptr[pool] : pool; }
    index row(index k) const { return order ? order[k] : k; }
    // The first pool that begins at this row or after it.
    index first_from(index row) const {
        if (!ptr) return row;
        index low = 0, high = pools;
        while (low < high) {
            index middle = (low + high) / 2;
            if (ptr[middle] < row) low = middle + 1;
            else high = middle;
        }
        return low;
    }
};

// What all three orders know.
template <class T> struct Problem {
    using A = typename Accumulated<T>::type;
    const Recipe& recipe;
    Batch batch;
    const T* x;
    const A *alpha, *gamma, *beta, *tau;
    bool streaming;
    index columns() const { return recipe.columns; }
    bool has_mean() const { return recipe.mean.kind != NONE; }
    bool has_scale() const { return recipe.scale.kind != NONE; }
    bool centres_w() const { return has_mean() && has_scale() && recipe.statistic == RESIDUAL; }
    bool own() const { return has_scale() && recipe.statistic == OWN; }
    // The rows of a block, of one matrix or of several that are read together.
    index block(index matrices) const {
        index rows = BLOCK / most(1, matrices * columns() * index(sizeof(T)));
        return rows < 8 ? 8 : rows > 256 ? 256 : rows;
    }
    // Whether each row is a pool of its own that shares one scale and at most one mean: the sums run along the row.
    bool rowwise() const {
        return !batch.ptr && !alpha && !tau && recipe.scale.kind == ALL && recipe.statistic != OWN &&
               (recipe.mean.kind == NONE || (recipe.mean.kind == ALL && recipe.statistic == RESIDUAL)) &&
               recipe.uniform;
    }
    A power(A moment, index group) const {
        return tau ? A(std::pow(moment, A(-0.5) * tau[group])) : A(1) / std::sqrt(moment);
    }
};

// Goes through the rows of a pool from the last block to the first: the last is the one that the cache still holds.
template <class P, class F> void each_block(const P& p, index first, index last, F f) {
    const index block = p.block(P::matrices);
    for (index high = last; high > first;) {
        const index low = high - first > block ? high - block : first;
        f(low, high);
        high = low;
    }
}

// Forward

template <class T> struct Forward : Problem<T> {
    using A = typename Problem<T>::A;
    T* y;
    A *mean, *square, *own_mean;

    static constexpr index parts = 2, matrices = 1;
    struct Space {
        Space(const Forward& p)
            : arrays(12, p.columns() + 1), totals(2, p.columns()), column_mean(arrays.take()), m2(arrays.take()), rest(arrays.take()),
              groups(arrays.take()), spare(arrays.take()), each(arrays.take()), shift(arrays.take()),
              measured(arrays.take()), factor(arrays.take()), added(arrays.take()),
              row(reinterpret_cast<T*>(arrays.take())), total(totals.take(2)) {}
        Arrays<A> arrays;
        Arrays<double> totals;
        A *column_mean, *m2, *rest, *groups, *spare, *each, *shift, *measured, *factor, *added;
        T* row;
        double* total;
    };

    // A first guess of the mean, the rest of it, and the sum of squares about both, of the rows of a block.
    void block_moments(const Space& s, index first, index last, A* RESTRICT mean_, A* RESTRICT m2_) const {
        const index columns = this->columns();
        const A inverse = A(1) / A(last - first);
        tiles<A, 2 * REGISTERS>(columns, [&](auto tile, index c) {
            using V = typename decltype(tile)::vector;
            constexpr int R = decltype(tile)::registers, L = int(sizeof(V) / sizeof(A));
            V sum[R], guess[R], rest[R], squares[R];
            for (int r = 0; r < R; r++) sum[r] = rest[r] = squares[r] = V{};
            for (index k = first; k < last; k++) {
                const T* p = this->x + this->batch.row(k) * columns + c;
                for (int r = 0; r < R; r++) sum[r] += load_as<V>(p + r * L);
            }
            for (int r = 0; r < R; r++) guess[r] = sum[r] * inverse;
            for (index k = first; k < last; k++) {
                const T* p = this->x + this->batch.row(k) * columns + c;
                for (int r = 0; r < R; r++) {
                    V d = load_as<V>(p + r * L) - guess[r];
                    rest[r] += d;
                    squares[r] = fused(d, d, squares[r]);
                }
            }
            for (int r = 0; r < R; r++) {
                V d = rest[r] * inverse;
                put(mean_ + c + r * L, guess[r]);
                put(s.rest + c + r * L, d);
                put(m2_ + c + r * L, V(squares[r] - d * rest[r]));
            }
        });
        COLUMNS m2_[c] = m2_[c] < 0 ? A(0) : m2_[c];
    }
    static void merge(double* RESTRICT into, index n, const double* RESTRICT mean_, const double* RESTRICT m2_,
                      index more, index columns, index stride) {
        double share = double(more) / double(n + more), weight = double(n) * share;
        COLUMNS {
            double d = mean_[c] - into[c];
            into[stride + c] += m2_[c] + d * d * weight;
            into[c] += d * share;
        }
    }
    // The moments of rows that belong to one pool, in double: blocks merged by Chan's rule.
    void collect_part(Space& s, index first, index last, double* total, index stride) const {
        const index columns = this->columns(), block = this->block(matrices);
        for (index low = first; low < last; low += block) {
            index high = least(low + block, last);
            block_moments(s, low, high, s.column_mean, s.m2);
            double share = double(high - low) / double(high - first), weight = double(low - first) * share;
            COLUMNS {
                // Rounded once, at the end: far from zero every step would cost a digit.
                double mean_ = double(s.column_mean[c]) + double(s.rest[c]);
                double d = low == first ? mean_ : mean_ - total[c];
                total[c] = low == first ? d : total[c] + d * share;
                total[stride + c] = low == first ? double(s.m2[c]) : total[stride + c] + s.m2[c] + d * d * weight;
            }
        }
    }
    void add_part(double* total, index n, const double* part, index more, index stride) const {
        merge(total, n, part, part + stride, more, this->columns(), stride);
    }
    void finish(Space& s, const double* total, index stride) const {
        for (index c = 0; c < this->columns(); c++) s.column_mean[c] = A(total[c]), s.m2[c] = A(total[stride + c]);
    }
    void collect(Space& s, index, index first, index last) const {
        if (last - first <= this->block(matrices)) {
            block_moments(s, first, last, s.column_mean, s.m2);
            for (index c = 0; c < this->columns(); c++) s.column_mean[c] += s.rest[c];
            return;
        }
        collect_part(s, first, last, s.total, s.totals.length());
        finish(s, s.total, s.totals.length());
    }
    void begin(Space&, index) const {}
    static void clear(A* statistic, index pool, index groups) {
        if (statistic) memset(statistic + pool * groups, 0, size_t(groups) * sizeof(A));
    }
    void empty(index pool) const {
        clear(mean, pool, this->recipe.mean.groups);
        clear(square, pool, this->recipe.scale.groups);
        clear(own_mean, pool, this->recipe.scale.groups);
    }
    void head(Space& s, index pool, index rows, bool owner) const {
        const Recipe& r = this->recipe;
        const index columns = this->columns();
        const A *alpha = this->alpha, *gamma = this->gamma, *beta = this->beta;
        if (this->has_mean()) {
            mean_of_means(r.mean, columns, s.column_mean, s.spare, s.groups, s.each);
            if (owner && mean) memcpy(mean + pool * r.mean.groups, s.groups, size_t(r.mean.groups) * sizeof(A));
            COLUMNS s.shift[c] = alpha ? alpha[c] * s.each[c] : s.each[c];
        } else {
            COLUMNS s.shift[c] = 0;
        }
        if (this->has_scale()) {
            const A* about = s.shift;
            if (r.statistic == OWN) {
                mean_of_means(r.scale, columns, s.column_mean, s.spare, s.groups, s.each);
                if (owner && own_mean) memcpy(own_mean + pool * r.scale.groups, s.groups, size_t(r.scale.groups) * sizeof(A));
                about = s.each;
            }
            const A inverse = A(1) / A(rows);
            COLUMNS {
                A d = r.statistic == RMS ? s.column_mean[c] : s.column_mean[c] - about[c];
                s.measured[c] = s.m2[c] * inverse + d * d;
            }
            weighted(r.scale, columns, s.measured, s.groups);
            if (owner && square) memcpy(square + pool * r.scale.groups, s.groups, size_t(r.scale.groups) * sizeof(A));
            if (this->tau) {
                for (index g = 0; g < r.scale.groups; g++) s.groups[g] = this->power(s.groups[g] + A(r.eps), g);
            } else {
                const A eps = A(r.eps);
                A* RESTRICT groups = s.groups;
                for (index g = 0; g < r.scale.groups; g++) groups[g] = A(1) / std::sqrt(groups[g] + eps);
            }
            expanded(r.scale, columns, s.groups, s.factor);
        } else {
            COLUMNS s.factor[c] = 1;
        }
        if (gamma)
            COLUMNS s.factor[c] *= gamma[c];
        COLUMNS s.added[c] = beta ? beta[c] : A(0);
    }
    template <bool STREAMING> void write_rows(const Space& s, index low, index high) const {
        const index columns = this->columns();
        tiles<A, 2 * REGISTERS>(columns, [&](auto tile, index c) {
            using V = typename decltype(tile)::vector;
            constexpr int R = decltype(tile)::registers, L = int(sizeof(V) / sizeof(A));
            V shift[R], factor[R], added[R];
            for (int r = 0; r < R; r++) {
                shift[r] = load_as<V>(s.shift + c + r * L);
                factor[r] = load_as<V>(s.factor + c + r * L);
                added[r] = load_as<V>(s.added + c + r * L);
            }
            for (index k = low; k < high; k++) {
                const index at = this->batch.row(k) * columns + c;
                for (int r = 0; r < R; r++)
                    write<STREAMING>(y + at + r * L,
                                     V((load_as<V>(this->x + at + r * L) - shift[r]) * factor[r] + added[r]));
            }
        });
    }
    void apply(Space& s, index first, index last) const {
        each_block(*this, first, last, [&](index low, index high) {
            if (this->streaming) write_rows<true>(s, low, high);
            else write_rows<false>(s, low, high);
        });
    }
    void along_row(Space&, index k) const {
        const index columns = this->columns();
        const bool centred = this->has_mean();
        const T* RESTRICT p = this->x + k * columns;
        A about = 0;
        if (centred) {
            A sum = 0, rest = 0;
            _Pragma("omp simd reduction(+ : sum)") for (index c = 0; c < columns; c++) sum += load(p + c);
            about = sum / A(columns);
            _Pragma("omp simd reduction(+ : rest)") for (index c = 0; c < columns; c++) rest += load(p + c) - about;
            about += rest / A(columns);
            if (mean) mean[k] = about;
        }
        A squares = 0;
        _Pragma("omp simd reduction(+ : squares)") for (index c = 0; c < columns; c++) {
            A d = load(p + c) - about;
            squares += d * d;
        }
        squares *= weights<A>(this->recipe.scale)[0];
        if (square) square[k] = squares;
        const A rho = A(1) / std::sqrt(squares + A(this->recipe.eps));
        const A *RESTRICT gamma = this->gamma, *RESTRICT beta = this->beta;
        T* RESTRICT o = y + k * columns;
        if (gamma && beta) COLUMNS store(o + c, (load(p + c) - about) * (rho * gamma[c]) + beta[c]);
        else if (gamma) COLUMNS store(o + c, (load(p + c) - about) * (rho * gamma[c]));
        else COLUMNS store(o + c, (load(p + c) - about) * rho + (beta ? beta[c] : A(0)));
    }
    static constexpr index gathered = 0;
    void end(Space&, double*, index) const {}
    void publish(const double*, index) const {}
};

// Sums per column that float adds up block by block, and double from block to block.
template <class T, int NUMBER, class P> void collect_sums(const P& p, index first, index last, double* total,
                                                          index stride, typename Accumulated<T>::type* block_sums,
                                                          index block_stride, int number) {
    const index columns = p.columns(), block = p.block();
    for (int n = 0; n < number; n++)
        COLUMNS total[n * stride + c] = 0;
    for (index low = first; low < last; low += block) {
        p.block_sums(low, least(low + block, last), block_sums, block_stride);
        for (int n = 0; n < number; n++)
            COLUMNS total[n * stride + c] += block_sums[n * block_stride + c];
    }
}

// The forward pass as its derivatives see it.
template <class T> struct Known : Problem<T> {
    using A = typename Problem<T>::A;
    const T* g;
    const A *mean, *square, *own_mean;

    // How the sum of w is known: it vanishes, it follows from the mean, or it must be added up.
    enum SumW { VANISHES, FOLLOWS, ADDED };
    SumW sum_w() const {
        if (!this->centres_w()) return VANISHES;
        if (!this->alpha) return this->recipe.balanced ? VANISHES : ADDED;
        return this->recipe.single ? FOLLOWS : ADDED;
    }
    struct Statistics {
        Statistics(Arrays<A>& arrays)
            : mean(arrays.take()), shift(arrays.take()), offset(arrays.take()), rho(arrays.take()),
              rho1(arrays.take()), moment(arrays.take()), rho_each(arrays.take()), sw(arrays.take()) {}
        static constexpr index number = 8;
        A *mean, *shift, *offset, *rho, *rho1, *moment, *rho_each, *sw;
    };
    A half_tau(index group) const { return this->tau ? A(0.5) * this->tau[group] : A(0.5); }
    A rho_tau(const Statistics& s, index g) const { return A(-0.5) * std::log(s.moment[g]) * s.rho[g]; }
    A rho1_tau(const Statistics& s, index g) const {
        return (A(0.25) * this->tau[g] * std::log(s.moment[g]) - A(0.5)) * s.rho[g] / s.moment[g];
    }
    // w = x - shift and u = w + offset, per column.
    void recall(Statistics& s, index pool) const {
        const Recipe& r = this->recipe;
        const index columns = this->columns();
        const A* alpha = this->alpha;
        A *RESTRICT shift = s.shift, *RESTRICT offset = s.offset, *RESTRICT each = s.mean;
        if (this->has_mean()) expanded(r.mean, columns, mean + pool * r.mean.groups, each);
        else
            COLUMNS each[c] = 0;
        if (this->centres_w()) {
            COLUMNS shift[c] = alpha ? alpha[c] * each[c] : each[c], offset[c] = 0;
        } else {
            if (this->own()) expanded(r.scale, columns, own_mean + pool * r.scale.groups, shift);
            else
                COLUMNS shift[c] = 0;
            COLUMNS offset[c] = shift[c] - (alpha ? alpha[c] * each[c] : each[c]);
        }
        if (!this->has_scale()) {
            COLUMNS s.rho_each[c] = 1;
            return;
        }
        const A* RESTRICT second = square + pool * r.scale.groups;
        const A eps = A(r.eps);
        if (this->tau) {
            for (index group = 0; group < r.scale.groups; group++) {
                s.moment[group] = second[group] + eps;
                s.rho[group] = this->power(s.moment[group], group);
                s.rho1[group] = -half_tau(group) * s.rho[group] / s.moment[group];
            }
        } else {
            A *RESTRICT moment = s.moment, *RESTRICT rho = s.rho, *RESTRICT rho1 = s.rho1;
            for (index group = 0; group < r.scale.groups; group++) {
                A m = second[group] + eps, root = A(1) / std::sqrt(m);
                moment[group] = m, rho[group] = root, rho1[group] = A(-0.5) * root / m;
            }
        }
        expanded(r.scale, columns, s.rho, s.rho_each);
    }
    // Twice the weighted adjoint of the mean of squares, up to the factor w.
    void by_square(A rows, const A* RESTRICT sums, A* RESTRICT into) const {
        const Columns& k = this->recipe.scale;
        const A* RESTRICT weight = weights<A>(k);
        expanded(k, this->columns(), sums, into);
        const A twice = A(2) / rows;
        for (index c = 0; c < this->columns(); c++) into[c] *= twice * weight[c];
    }
    // The mean over the pools of the mean, from row sums, given back to the columns.
    void cen(A rows, const A* RESTRICT row_sums, A* RESTRICT groups, A* RESTRICT into) const {
        const Columns& k = this->recipe.mean;
        weighted(k, this->columns(), row_sums, groups);
        const A inverse = A(1) / rows;
        for (index group = 0; group < k.groups; group++) groups[group] *= inverse;
        expanded(k, this->columns(), groups, into);
    }
    void sum_of_w(Statistics& s, index rows, const A* added_up) const {
        const index columns = this->columns();
        switch (sum_w()) {
            case VANISHES: break;
            case FOLLOWS:
                COLUMNS s.sw[c] = (A(1) - this->alpha[c]) * s.mean[c] * A(rows);
                break;
            case ADDED:
                COLUMNS s.sw[c] = added_up[c];
        }
    }
    void block_sum_of_w(const Statistics& s, index first, index last, A* RESTRICT sums) const {
        const index columns = this->columns();
        COLUMNS sums[c] = 0;
        for (index k = first; k < last; k++) {
            const T* RESTRICT p = this->x + this->batch.row(k) * columns;
            COLUMNS sums[c] += load(p + c) - s.shift[c];
        }
    }
};

// What the parameters get, of one thread: in float for a few pools, then in double.
template <class A> class Gathered {
  public:
    Gathered(index number, index columns)
        : few_(number, columns), all_(number, columns), few(few_.take(number)), all(all_.take(number)),
          stride(few_.length()), size_(number * few_.length()) {}
    A* of(index which) { return few + which * stride; }
    void pool_done() {
        if (++pools_ == FLUSH) flush();
    }
    void flush() {
        for (index k = 0; k < size_; k++) all[k] += few[k], few[k] = 0;
        pools_ = 0;
    }
    const double* total(index which) const { return all + which * stride; }

  private:
    Arrays<A> few_;
    Arrays<double> all_;
    A* few;
    double* all;
    index stride, size_, pools_ = 0;
};

template <class A> void give(A* into, const double* values, index number) {
    if (into)
        for (index k = 0; k < number; k++) into[k] = A(values[k]);
}

// Backward

template <class T> struct Backward : Known<T> {
    using A = typename Problem<T>::A;
    T* dx;
    A *dalpha, *dgamma, *dbeta, *dtau;

    static constexpr index parts = 3, matrices = 2;
    struct Space {
        Space(const Backward& p)
            : arrays(Known<T>::Statistics::number + 12, p.columns() + 1), totals(3, p.columns()), known(arrays),
              gathered(4, p.columns()), sums(arrays.take(3)), sgu(arrays.take()), by_rho(arrays.take()),
              groups(arrays.take()), a(arrays.take()), b(arrays.take()), by_mean(arrays.take()), e(arrays.take()),
              spare(arrays.take()), row(reinterpret_cast<T*>(arrays.take())), total(totals.take(3)) {}
        Arrays<A> arrays;
        Arrays<double> totals;
        typename Known<T>::Statistics known;
        Gathered<A> gathered;
        A *sums, *sgu, *by_rho, *groups, *a, *b, *by_mean, *e, *spare;
        T* row;
        double* total;
    };

    // Sums of g, g w, and of w where nothing else tells it.
    void block_sums(const Space& s, index first, index last, A* RESTRICT sums, index stride) const {
        const index columns = this->columns();
        tiles<A, 2 * REGISTERS>(columns, [&](auto tile, index c) {
            using V = typename decltype(tile)::vector;
            constexpr int R = decltype(tile)::registers, L = int(sizeof(V) / sizeof(A));
            V sg[R], sgw[R], shift[R];
            for (int r = 0; r < R; r++) sg[r] = sgw[r] = V{}, shift[r] = load_as<V>(s.known.shift + c + r * L);
            for (index k = first; k < last; k++) {
                const index at = this->batch.row(k) * columns + c;
                for (int r = 0; r < R; r++) {
                    V gradient = load_as<V>(this->g + at + r * L);
                    sg[r] += gradient;
                    sgw[r] = fused(gradient, V(load_as<V>(this->x + at + r * L) - shift[r]), sgw[r]);
                }
            }
            for (int r = 0; r < R; r++) {
                put(sums + c + r * L, sg[r]);
                put(sums + stride + c + r * L, sgw[r]);
            }
        });
        if (this->sum_w() == Known<T>::ADDED) this->block_sum_of_w(s.known, first, last, sums + 2 * stride);
    }
    struct Summed {
        const Backward& p;
        const Space& s;
        index columns() const { return p.columns(); }
        index block() const { return p.block(matrices); }
        void block_sums(index first, index last, A* sums, index stride) const {
            p.block_sums(s, first, last, sums, stride);
        }
    };
    int number() const { return this->sum_w() == Known<T>::ADDED ? 3 : 2; }
    void begin(Space& s, index pool) const { this->recall(s.known, pool); }
    void collect_part(Space& s, index first, index last, double* total, index stride) const {
        collect_sums<T, 3>(Summed{*this, s}, first, last, total, stride, s.sums, s.arrays.length(), number());
    }
    void add_part(double* total, index, const double* part, index, index stride) const {
        for (index k = 0; k < number() * stride; k++) total[k] += part[k];
    }
    void finish(Space& s, const double* total, index stride) const {
        for (int n = 0; n < number(); n++)
            for (index c = 0; c < this->columns(); c++)
                s.sums[n * s.arrays.length() + c] = A(total[n * stride + c]);
    }
    void collect(Space& s, index pool, index first, index last) const {
        begin(s, pool);
        if (last - first <= this->block(matrices)) return block_sums(s, first, last, s.sums, s.arrays.length());
        collect_part(s, first, last, s.total, s.totals.length());
        finish(s, s.total, s.totals.length());
    }
    void empty(index) const {}
    void head(Space& space, index, index rows_, bool owner) const {
        typename Known<T>::Statistics& s = space.known;
        const Recipe& r = this->recipe;
        const index columns = this->columns();
        const A rows = A(rows_);
        const A *alpha = this->alpha, *gamma = this->gamma;
        const A *RESTRICT sg = space.sums, *RESTRICT sgw = space.sums + space.arrays.length();
        const A *RESTRICT rho = s.rho_each, *RESTRICT offset = s.offset, *RESTRICT mean_ = s.mean;
        A *RESTRICT sgu = space.sgu, *RESTRICT by_rho = space.by_rho, *RESTRICT a = space.a, *RESTRICT b = space.b;
        A *RESTRICT by_mean = space.by_mean, *RESTRICT e = space.e, *RESTRICT groups = space.groups;
        const auto how = this->sum_w();
        this->sum_of_w(s, rows_, space.sums + 2 * space.arrays.length());
        COLUMNS {
            A factor = gamma ? gamma[c] : A(1);
            sgu[c] = sgw[c] + offset[c] * sg[c];
            by_rho[c] = factor * sgu[c];
            a[c] = factor * rho[c];
        }
        if (this->has_scale()) {
            added(r.scale, columns, by_rho, groups);
            if (owner && dtau)
                for (index k = 0; k < r.scale.groups; k++)
                    space.gathered.of(3)[k] += groups[k] * this->rho_tau(s, k);
            for (index k = 0; k < r.scale.groups; k++) groups[k] *= s.rho1[k];
            this->by_square(rows, groups, b);
        }
        if (this->has_mean()) {
            COLUMNS by_mean[c] = a[c] * sg[c];
            if (how != Known<T>::VANISHES)
                COLUMNS by_mean[c] += b[c] * s.sw[c];
            if (owner && dalpha) {
                A* RESTRICT into = space.gathered.of(0);
                COLUMNS into[c] -= mean_[c] * by_mean[c];
            }
            if (alpha)
                COLUMNS by_mean[c] *= alpha[c];
            this->cen(rows, by_mean, groups, e);
            COLUMNS e[c] = -e[c];
        } else {
            COLUMNS e[c] = 0;
        }
        if (!owner) return;
        if (dgamma) {
            A* RESTRICT into = space.gathered.of(1);
            COLUMNS into[c] += sgu[c] * rho[c];
        }
        if (dbeta) {
            A* RESTRICT into = space.gathered.of(2);
            COLUMNS into[c] += sg[c];
        }
        space.gathered.pool_done();
    }
    template <bool STREAMING> void write_rows(const Space& s, index low, index high) const {
        const index columns = this->columns();
        const bool scaled = this->has_scale();
        tiles<A, REGISTERS>(columns, [&](auto tile, index c) {
            using V = typename decltype(tile)::vector;
            constexpr int R = decltype(tile)::registers, L = int(sizeof(V) / sizeof(A));
            V shift[R], a[R], b[R], e[R];
            for (int r = 0; r < R; r++) {
                shift[r] = load_as<V>(s.known.shift + c + r * L);
                a[r] = load_as<V>(s.a + c + r * L);
                b[r] = load_as<V>(s.b + c + r * L);
                e[r] = load_as<V>(s.e + c + r * L);
            }
            for (index k = low; k < high; k++) {
                const index at = this->batch.row(k) * columns + c;
                for (int r = 0; r < R; r++) {
                    V value = a[r] * load_as<V>(this->g + at + r * L);
                    if (scaled) value += b[r] * (load_as<V>(this->x + at + r * L) - shift[r]);
                    write<STREAMING>(dx + at + r * L, V(value + e[r]));
                }
            }
        });
    }
    void apply(Space& s, index first, index last) const {
        if (!dx) return;
        each_block(*this, first, last, [&](index low, index high) {
            if (this->streaming) write_rows<true>(s, low, high);
            else write_rows<false>(s, low, high);
        });
    }
    void along_row(Space& s, index k) const {
        const index columns = this->columns();
        const T *RESTRICT p = this->x + k * columns, *RESTRICT q = this->g + k * columns;
        const A about = this->has_mean() ? this->mean[k] : A(0), moment = this->square[k] + A(this->recipe.eps);
        const A rho = A(1) / std::sqrt(moment);
        const A* RESTRICT gamma = this->gamma;
        A by_mean = 0, by_rho = 0;
        _Pragma("omp simd reduction(+ : by_mean, by_rho)") for (index c = 0; c < columns; c++) {
            A gradient = gamma ? gamma[c] * load(q + c) : load(q + c);
            by_mean += gradient;
            by_rho += gradient * (load(p + c) - about);
        }
        const A b = -weights<A>(this->recipe.scale)[0] * by_rho * rho / moment;
        const A e = this->has_mean() ? -rho * by_mean / A(columns) : A(0);
        if (dgamma) {
            A* RESTRICT into = s.gathered.of(1);
            COLUMNS into[c] += load(q + c) * (load(p + c) - about) * rho;
        }
        if (dbeta) {
            A* RESTRICT into = s.gathered.of(2);
            COLUMNS into[c] += load(q + c);
        }
        s.gathered.pool_done();
        if (!dx) return;
        T* RESTRICT o = dx + k * columns;
        if (gamma) COLUMNS store(o + c, (rho * gamma[c]) * load(q + c) + b * (load(p + c) - about) + e);
        else COLUMNS store(o + c, rho * load(q + c) + b * (load(p + c) - about) + e);
    }
    static constexpr index gathered = 4;
    void end(Space& s, double* totals, index stride) const {
        s.gathered.flush();
        for (index which = 0; which < gathered; which++)
            for (index k = 0; k < stride; k++) totals[which * stride + k] += s.gathered.total(which)[k];
    }
    void publish(const double* totals, index stride) const {
        give(dalpha, totals + 0 * stride, this->columns());
        give(dgamma, totals + 1 * stride, this->columns());
        give(dbeta, totals + 2 * stride, this->columns());
        give(dtau, totals + 3 * stride, this->recipe.scale.groups);
    }
};

// Double backward

template <class T> struct Twice : Known<T> {
    using A = typename Problem<T>::A;
    const T* v;
    const A *alpha_dot, *gamma_dot, *beta_dot, *tau_dot;
    T *dg, *dx;
    A *dalpha, *dgamma, *dtau;

    static constexpr index parts = 6, matrices = 3;
    struct Space {
        Space(const Twice& p)
            : arrays(Known<T>::Statistics::number + 27, p.columns() + 1), totals(6, p.columns()), known(arrays),
              gathered(3, p.columns()), sums(arrays.take(6)), sgu(arrays.take()), u_shift(arrays.take()),
              w_shift(arrays.take()), cen_v(arrays.take()), groups(arrays.take()), moment_dot(arrays.take()),
              rho_dot(arrays.take()), rho1_dot(arrays.take()), rho_dot_each(arrays.take()), still(arrays.take()),
              moved(arrays.take()), a(arrays.take()), a1(arrays.take()), b(arrays.take()), b1(arrays.take()),
              e1(arrays.take()), e2(arrays.take()), spare(arrays.take()), lost(arrays.take()),
              row(reinterpret_cast<T*>(arrays.take())), row2(reinterpret_cast<T*>(arrays.take())),
              total(totals.take(6)) {
            for (index c = 0; c < p.columns(); c++) a[c] = 1;
        }
        Arrays<A> arrays;
        Arrays<double> totals;
        typename Known<T>::Statistics known;
        Gathered<A> gathered;
        A *sums, *sgu, *u_shift, *w_shift, *cen_v, *groups, *moment_dot, *rho_dot, *rho1_dot, *rho_dot_each, *still,
            *moved, *a, *a1, *b, *b1, *e1, *e2, *spare, *lost;
        T *row, *row2;
        double* total;
    };

    // Sums of g, g w, v, g v, w v, and of w where nothing else tells it.
    void block_sums(const Space& s, index first, index last, A* RESTRICT sums, index stride) const {
        const index columns = this->columns();
        tiles<A, REGISTERS>(columns, [&](auto tile, index c) {
            using V = typename decltype(tile)::vector;
            constexpr int R = decltype(tile)::registers, L = int(sizeof(V) / sizeof(A));
            V sg[R], sgw[R], sv[R], sgv[R], swv[R], shift[R];
            for (int r = 0; r < R; r++) {
                sg[r] = sgw[r] = sv[r] = sgv[r] = swv[r] = V{};
                shift[r] = load_as<V>(s.known.shift + c + r * L);
            }
            for (index k = first; k < last; k++) {
                const index at = this->batch.row(k) * columns + c;
                for (int r = 0; r < R; r++) {
                    V gradient = load_as<V>(this->g + at + r * L), along = load_as<V>(v + at + r * L);
                    V w = load_as<V>(this->x + at + r * L) - shift[r];
                    sg[r] += gradient;
                    sv[r] += along;
                    sgw[r] = fused(gradient, w, sgw[r]);
                    sgv[r] = fused(gradient, along, sgv[r]);
                    swv[r] = fused(w, along, swv[r]);
                }
            }
            for (int r = 0; r < R; r++) {
                put(sums + c + r * L, sg[r]);
                put(sums + stride + c + r * L, sgw[r]);
                put(sums + 2 * stride + c + r * L, sv[r]);
                put(sums + 3 * stride + c + r * L, sgv[r]);
                put(sums + 4 * stride + c + r * L, swv[r]);
            }
        });
        if (this->sum_w() == Known<T>::ADDED) this->block_sum_of_w(s.known, first, last, sums + 5 * stride);
    }
    struct Summed {
        const Twice& p;
        const Space& s;
        index columns() const { return p.columns(); }
        index block() const { return p.block(matrices); }
        void block_sums(index first, index last, A* sums, index stride) const {
            p.block_sums(s, first, last, sums, stride);
        }
    };
    int number() const { return this->sum_w() == Known<T>::ADDED ? 6 : 5; }
    void begin(Space& s, index pool) const { this->recall(s.known, pool); }
    void collect_part(Space& s, index first, index last, double* total, index stride) const {
        collect_sums<T, 6>(Summed{*this, s}, first, last, total, stride, s.sums, s.arrays.length(), number());
    }
    void add_part(double* total, index, const double* part, index, index stride) const {
        for (index k = 0; k < number() * stride; k++) total[k] += part[k];
    }
    void finish(Space& s, const double* total, index stride) const {
        for (int n = 0; n < number(); n++)
            for (index c = 0; c < this->columns(); c++)
                s.sums[n * s.arrays.length() + c] = A(total[n * stride + c]);
    }
    void collect(Space& s, index pool, index first, index last) const {
        begin(s, pool);
        if (last - first <= this->block(matrices)) return block_sums(s, first, last, s.sums, s.arrays.length());
        collect_part(s, first, last, s.total, s.totals.length());
        finish(s, s.total, s.totals.length());
    }
    void empty(index) const {}
    void head(Space& space, index, index rows_, bool owner) const {
        typename Known<T>::Statistics& s = space.known;
        const Recipe& r = this->recipe;
        const index columns = this->columns(), stride = space.arrays.length();
        const A rows = A(rows_);
        const A *alpha = this->alpha, *gamma = this->gamma;
        const A *RESTRICT sg = space.sums, *RESTRICT sgw = sg + stride, *RESTRICT sv = sg + 2 * stride;
        A *RESTRICT sgu_dot = space.sums + 3 * stride, *RESTRICT sww_dot = space.sums + 4 * stride;
        const A *RESTRICT rho = s.rho_each, *RESTRICT offset = s.offset, *RESTRICT mean_ = s.mean;
        A *RESTRICT sgu = space.sgu, *RESTRICT u_shift = space.u_shift, *RESTRICT w_shift = space.w_shift;
        A *RESTRICT still = space.still, *RESTRICT moved = space.moved, *RESTRICT groups = space.groups;
        A *RESTRICT a = space.a, *RESTRICT a1 = space.a1, *RESTRICT b = space.b, *RESTRICT b1 = space.b1;
        A *RESTRICT e1 = space.e1, *RESTRICT e2 = space.e2, *RESTRICT cen_v = space.cen_v;
        A *RESTRICT rho_dot = space.rho_dot, *RESTRICT rho1_dot = space.rho1_dot, *RESTRICT spare = space.spare;
        A *RESTRICT moment_dot = space.moment_dot, *RESTRICT rho_dot_each = space.rho_dot_each;
        const bool centres_w = this->centres_w();
        const auto how = this->sum_w();
        this->sum_of_w(s, rows_, space.sums + 5 * stride);

        COLUMNS sgu[c] = sgw[c] + offset[c] * sg[c], u_shift[c] = w_shift[c] = 0;
        if (this->has_mean()) {
            this->cen(rows, sv, groups, cen_v);
            COLUMNS u_shift[c] = -(alpha ? alpha[c] * cen_v[c] : cen_v[c]);
            if (alpha_dot)
                COLUMNS u_shift[c] -= alpha_dot[c] * mean_[c];
            COLUMNS sgu_dot[c] += u_shift[c] * sg[c];
        }
        if (centres_w) {
            COLUMNS w_shift[c] = u_shift[c];
            if (how != Known<T>::VANISHES)
                COLUMNS sww_dot[c] += w_shift[c] * s.sw[c];
        } else if (this->own()) {
            weighted(r.scale, columns, sv, groups);
            for (index k = 0; k < r.scale.groups; k++) groups[k] /= -rows;
            expanded(r.scale, columns, groups, w_shift);
        }
        weighted(r.scale, columns, sww_dot, moment_dot);
        for (index k = 0; k < r.scale.groups; k++) {
            A dot = A(2) * moment_dot[k] / rows;
            moment_dot[k] = dot;
            rho_dot[k] = s.rho1[k] * dot;
            rho1_dot[k] = -(this->half_tau(k) + A(1)) * s.rho1[k] / s.moment[k] * dot;
        }
        if (tau_dot)
            for (index k = 0; k < r.scale.groups; k++) {
                rho_dot[k] += this->rho_tau(s, k) * tau_dot[k];
                rho1_dot[k] += this->rho1_tau(s, k) * tau_dot[k];
            }
        expanded(r.scale, columns, rho_dot, rho_dot_each);
        COLUMNS {
            A factor = gamma ? gamma[c] : A(1), factor_dot = gamma_dot ? gamma_dot[c] : A(0);
            still[c] = factor * sgu[c];
            moved[c] = factor * sgu_dot[c] + factor_dot * sgu[c];
            a[c] = factor * rho[c];
            a1[c] = factor * rho_dot_each[c] + factor_dot * rho[c];
        }
        added(r.scale, columns, still, groups);
        added(r.scale, columns, moved, spare);
        if (owner && dtau)
            for (index k = 0; k < r.scale.groups; k++) {
                A logarithm = std::log(s.moment[k]);
                A by_tau = spare[k] * this->rho_tau(s, k) + groups[k] * this->rho1_tau(s, k) * moment_dot[k];
                if (tau_dot) by_tau += groups[k] * A(0.25) * logarithm * logarithm * s.rho[k] * tau_dot[k];
                space.gathered.of(2)[k] += by_tau;
            }
        for (index k = 0; k < r.scale.groups; k++) {
            spare[k] = spare[k] * s.rho1[k] + groups[k] * rho1_dot[k];
            groups[k] *= s.rho1[k];
        }
        this->by_square(rows, groups, b);
        this->by_square(rows, spare, b1);
        COLUMNS e2[c] = b[c] * w_shift[c];
        COLUMNS
            e1[c] = a[c] * u_shift[c] + a1[c] * offset[c] + (beta_dot ? beta_dot[c] : A(0));
        if (this->has_mean()) {
            A *RESTRICT by_mean = space.lost, *RESTRICT by_mean_dot = still;
            COLUMNS by_mean[c] = a1[c] * sg[c], by_mean_dot[c] = a[c] * sg[c];
            if (centres_w)
                COLUMNS by_mean[c] += b[c] * (sv[c] + rows * w_shift[c]);
            if (how != Known<T>::VANISHES)
                COLUMNS
                    by_mean[c] += b1[c] * s.sw[c], by_mean_dot[c] += b[c] * s.sw[c];
            if (owner && dalpha) {
                A* RESTRICT into = space.gathered.of(0);
                COLUMNS into[c] -= cen_v[c] * by_mean_dot[c] + mean_[c] * by_mean[c];
            }
            if (alpha)
                COLUMNS by_mean[c] *= alpha[c];
            if (alpha_dot)
                COLUMNS by_mean[c] += alpha_dot[c] * by_mean_dot[c];
            this->cen(rows, by_mean, groups, moved);
            COLUMNS e2[c] -= moved[c];
        }
        if (!owner) return;
        if (dgamma) {
            A* RESTRICT into = space.gathered.of(1);
            COLUMNS into[c] += sgu_dot[c] * rho[c] + sgu[c] * rho_dot_each[c];
        }
        space.gathered.pool_done();
    }
    template <bool STREAMING> void write_rows(const Space& s, index low, index high) const {
        const index columns = this->columns();
        tiles<A, 2>(columns, [&](auto tile, index c) {
            using V = typename decltype(tile)::vector;
            constexpr int R = decltype(tile)::registers, L = int(sizeof(V) / sizeof(A));
            V shift[R], a[R], a1[R], b[R], b1[R], e1[R], e2[R];
            for (int r = 0; r < R; r++) {
                shift[r] = load_as<V>(s.known.shift + c + r * L);
                a[r] = load_as<V>(s.a + c + r * L);
                a1[r] = load_as<V>(s.a1 + c + r * L);
                b[r] = load_as<V>(s.b + c + r * L);
                b1[r] = load_as<V>(s.b1 + c + r * L);
                e1[r] = load_as<V>(s.e1 + c + r * L);
                e2[r] = load_as<V>(s.e2 + c + r * L);
            }
            for (index k = low; k < high; k++) {
                const index at = this->batch.row(k) * columns + c;
                for (int r = 0; r < R; r++) {
                    V w = load_as<V>(this->x + at + r * L) - shift[r], along = load_as<V>(v + at + r * L);
                    if (dg) write<STREAMING>(dg + at + r * L, V(a[r] * along + a1[r] * w + e1[r]));
                    if (dx) {
                        V gradient = load_as<V>(this->g + at + r * L);
                        write<STREAMING>(dx + at + r * L,
                                         V(a1[r] * gradient + b[r] * along + b1[r] * w + e2[r]));
                    }
                }
            }
        });
    }
    void apply(Space& s, index first, index last) const {
        each_block(*this, first, last, [&](index low, index high) {
            if (this->streaming) write_rows<true>(s, low, high);
            else write_rows<false>(s, low, high);
        });
    }
    void along_row(Space& s, index k) const {
        const index columns = this->columns();
        const T *RESTRICT p = this->x + k * columns, *RESTRICT q = this->g + k * columns, *RESTRICT z = v + k * columns;
        const A about = this->has_mean() ? this->mean[k] : A(0), moment = this->square[k] + A(this->recipe.eps);
        const A rho = A(1) / std::sqrt(moment), rho1 = A(-0.5) * rho / moment;
        const A weight = A(2) * weights<A>(this->recipe.scale)[0], mean_of = this->has_mean() ? A(1) / A(columns) : A(0);
        // The parameters where they are, or ones and zeros.
        const A *RESTRICT gamma = this->gamma ? this->gamma : s.a, *RESTRICT dots = gamma_dot ? gamma_dot : s.b;
        A sg = 0, sgw = 0, sv = 0, sgv = 0, swv = 0, dotted = 0, dotted_w = 0;
        _Pragma("omp simd reduction(+ : sg, sgw, sv, sgv, swv, dotted, dotted_w)") for (index c = 0; c < columns; c++) {
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
        const A moment_dot = weight * swv, rho_dot = rho1 * moment_dot, rho1_dot = A(-1.5) * rho1 / moment * moment_dot;
        const A moved = sgv + lost * sg + dotted_w;
        const A b = weight * sgw * rho1, b1 = weight * (moved * rho1 + sgw * rho1_dot);
        const A e2 = b * lost - (rho_dot * sg + rho * dotted) * mean_of;
        if (dgamma) {
            A* RESTRICT into = s.gathered.of(1);
            COLUMNS into[c] += load(q + c) * ((load(z + c) + lost) * rho + (load(p + c) - about) * rho_dot);
        }
        s.gathered.pool_done();
        T *RESTRICT o = dg ? dg + k * columns : s.row, *RESTRICT o2 = dx ? dx + k * columns : s.row2;
        const A* RESTRICT added = beta_dot ? beta_dot : s.e1;
        COLUMNS {
            A along = load(z + c), w = load(p + c) - about, a = gamma[c] * rho, a1 = gamma[c] * rho_dot + dots[c] * rho;
            store(o + c, a * (along + lost) + a1 * w + added[c]);
            store(o2 + c, a1 * load(q + c) + b * along + b1 * w + e2);
        }
    }
    static constexpr index gathered = 3;
    void end(Space& s, double* totals, index stride) const {
        s.gathered.flush();
        for (index which = 0; which < gathered; which++)
            for (index k = 0; k < stride; k++) totals[which * stride + k] += s.gathered.total(which)[k];
    }
    void publish(const double* totals, index stride) const {
        give(dalpha, totals + 0 * stride, this->columns());
        give(dgamma, totals + 1 * stride, this->columns());
        give(dtau, totals + 2 * stride, this->recipe.scale.groups);
    }
};

// The work of one thread, from row `low` to row `high`.
template <class P> struct Share {
    const P& p;
    typename P::Space space;
    index thread, threads;
    double* board;  // parts of pools that lie across borders, of all threads: two each
    index stride;

    Share(const P& p, index thread, index threads, double* board)
        : p(p), space(p), thread(thread), threads(threads), board(board), stride(p.columns()) {}

    index border(index number) const { return p.batch.rows / threads * number + p.batch.rows % threads * number / threads; }
    double* part(index of_thread, bool back) const { return board + (2 * of_thread + back) * P::parts * stride; }

    // The pools that begin here, and the one before them if it reaches here.
    index low() const { return border(thread); }
    index high() const { return border(thread + 1); }
    index first() const { return p.batch.first_from(low()); }
    index last() const { return thread + 1 == threads ? p.batch.pools : p.batch.first_from(high()); }
    index end_of(index pool) const { return p.batch.begin(pool + 1); }
    bool has_front() const { return first() > 0 && p.batch.begin(first() - 1) < low() && end_of(first() - 1) > low(); }
    bool has_back() const { return last() > first() && end_of(last() - 1) > high(); }

    void collect_parts() {
        if (has_front()) {
            p.begin(space, first() - 1);
            p.collect_part(space, low(), least(high(), end_of(first() - 1)), part(thread, false), stride);
        }
        if (has_back()) {
            p.begin(space, last() - 1);
            p.collect_part(space, p.batch.begin(last() - 1), high(), part(thread, true), stride);
        }
    }
    void shared(index pool, double* total) {
        const index begin = p.batch.begin(pool), end = end_of(pool);
        index n = 0;
        for (index t = 0; t < threads; t++) {
            const index from = most(begin, border(t)), to = least(end, border(t + 1));
            if (from >= to) continue;
            const double* given = part(t, begin >= border(t));
            if (n == 0) memcpy(total, given, size_t(P::parts * stride) * sizeof(double));
            else p.add_part(total, n, given, to - from, stride);
            n += to - from;
        }
        p.begin(space, pool);
        p.finish(space, total, stride);
        p.head(space, pool, end - begin, begin >= low());
        p.apply(space, most(begin, low()), least(end, high()));
    }
    void work(double* total) {
        if (p.rowwise()) {
            for (index k = low(); k < high(); k++) p.along_row(space, k);
            if (p.streaming) streamed();
            return;
        }
        if (has_front()) shared(first() - 1, total);
        const index first_ = first(), last_ = last(), high_ = high();
        for (index pool = first_; pool < last_; pool++) {
            const index begin = p.batch.begin(pool), end = end_of(pool);
            if (begin == end) {
                p.empty(pool);
            } else if (end > high_ && thread + 1 < threads) {
                shared(pool, total);
            } else {
                p.collect(space, pool, begin, end);
                p.head(space, pool, end - begin, true);
                p.apply(space, begin, end);
            }
        }
        if (p.streaming) streamed();
    }
};

template <class P> void run(const P& p, index threads) {
#ifndef _OPENMP
    threads = 1;
#endif
    const index stride = p.columns();
    Arrays<double> sums(P::gathered + 1, stride);
    double* totals = sums.take(P::gathered);
    if (threads <= 1) {
        Share<P> share(p, 0, 1, nullptr);
        share.work(totals);  // nobody shares a pool
        p.end(share.space, totals, stride);
    } else {
#ifdef _OPENMP
        Arrays<double> parts(3 * threads * P::parts + 1, stride);
        double* board = parts.take();
#pragma omp parallel num_threads(int(threads))
        {
            // Fewer threads than were asked for may have come.
            const index came = omp_get_num_threads(), number = omp_get_thread_num();
            Share<P> share(p, number, came, board);
            share.collect_parts();
#pragma omp barrier
            share.work(board + (2 * threads + number) * P::parts * stride);
            // One after the other, in the order of the threads: sums do not depend on who is faster.
            for (index turn = 0; turn < came; turn++) {
                if (turn == number) p.end(share.space, totals, stride);
#pragma omp barrier
            }
        }
#endif
    }
    p.publish(totals, stride);
}

}  // namespace

#define ARGUMENTS(T, A)                                                                                               \
    const Recipe *recipe, int64_t rows, int64_t pools, const int64_t *ptr, const int64_t *order, int64_t threads,     \
        int64_t streaming, const T *x, const A *alpha, const A *gamma, const A *beta, const A *tau
#define PROBLEM(T) Problem<T>{*recipe, Batch{rows, pools, ptr, order}, x, alpha, gamma, beta, tau, streaming != 0}

#define DEFINE(T, A, TYPE)                                                                                            \
    extern "C" void NAME(geonorm_forward, TYPE, ISA)(ARGUMENTS(T, A), T * y, A * mean, A * square, A * own) {         \
        run(Forward<T>{PROBLEM(T), y, mean, square, own}, threads);                                                   \
    }                                                                                                                 \
    extern "C" void NAME(geonorm_backward, TYPE, ISA)(                                                                \
        ARGUMENTS(T, A), const A* mean, const A* square, const A* own, const T* g, T* dx, A* dalpha, A* dgamma,       \
        A* dbeta, A* dtau) {                                                                \
        run(Backward<T>{{PROBLEM(T), g, mean, square, own}, dx, dalpha, dgamma, dbeta, dtau}, threads);               \
    }                                                                                                                 \
    extern "C" void NAME(geonorm_double_backward, TYPE, ISA)(                                                         \
        ARGUMENTS(T, A), const A* mean, const A* square, const A* own, const T* g, const T* v, const A* alpha_dot,    \
        const A* gamma_dot, const A* beta_dot, const A* tau_dot, T* dg, T* dx, A* dalpha, A* dgamma, A* dtau) {                                                                                               \
        run(Twice<T>{{PROBLEM(T), g, mean, square, own}, v, alpha_dot, gamma_dot, beta_dot, tau_dot, dg, dx, dalpha,  \
                     dgamma, dtau},                                                                                   \
            threads);                                                                                                 \
    }

DEFINE(float, float, float32)
DEFINE(double, double, float64)
DEFINE(bf16, float, bfloat16)

#ifdef COMMON
// Where each pool of a batch vector begins: 0 if rows of a pool follow each other, 1 if not, -1 if a number is outside.
extern "C" int64_t geonorm_segments(const int64_t* number, int64_t rows, int64_t pools, int64_t* ptr) {
    int64_t last = 0;
    ptr[0] = 0;
    for (int64_t k = 0; k < rows; k++) {
        const int64_t pool = number[k];
        if (pool == last) continue;
        if (pool < 0 || pool >= pools) return -1;
        if (pool < last) return 1;
        while (last < pool) ptr[++last] = k;
    }
    if (pools == 0) return rows == 0 ? 0 : -1;
    while (last < pools) ptr[++last] = rows;
    return 0;
}

// The rows, pool after pool, and where each pool begins among them: 1, or -1 if a number is outside.
extern "C" int64_t geonorm_order(const int64_t* number, int64_t rows, int64_t pools, int64_t* ptr, int64_t* order) {
    for (int64_t pool = 0; pool <= pools; pool++) ptr[pool] = 0;
    for (int64_t k = 0; k < rows; k++) {
        if (number[k] < 0 || number[k] >= pools) return -1;
        if (number[k] + 1 < pools) ptr[number[k] + 2]++;
    }
    for (int64_t pool = 2; pool <= pools; pool++) ptr[pool] += ptr[pool - 1];
    // Now ptr[pool + 1] is where the pool begins; counting on makes it where the pool ends.
    for (int64_t k = 0; k < rows; k++) order[ptr[number[k] + 1]++] = k;
    return 1;
}
#endif
