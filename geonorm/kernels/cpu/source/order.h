// What forward, backward and double backward have in common: they go from pool to pool.

#pragma once
#include "columns.h"
#include "memory.h"
#include "tiles.h"

namespace {

// Which rows belong together. Without `ptr` every row is a pool of its own.
struct Batch {
    index rows, pools;
    const index *ptr, *order;
    index begin(index pool) const { return ptr ? ptr[pool] : pool; }
    index row(index k) const { return order ? order[k] : k; }
    // The same; behind the last one any row.
    index near(index k) const { return order ? order[k < rows ? k : rows - 1] : k; }
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

// Where the sums run along the rows, those of a few are taken before the first is written: none waits for the other. They
// are so few that they stay next to the processor.
constexpr index ROWS = 8;
inline index rows_together(index bytes) { return most(1, least(ROWS, 2048 / most(1, bytes))); }

// An order of differentiation as a thread sees it that goes through pools. The work space is that of the thread. What
// one order has no need of does nothing: a pure virtual function would ask for the library of C++.
class Order {
  public:
    const Recipe& recipe;
    const Batch batch;
    const index columns;
    bool streaming = false;  // past the caches
    bool rowwise = false;    // each row is a pool of its own whose sums run along the row
    index block = 0;         // the rows that are read together while they are in the cache closest to the processor

    Order(const Recipe& recipe, Batch batch) : recipe(recipe), batch(batch), columns(recipe.columns) {}

    // A pool in this thread alone: its sums,
    virtual void collect(index, index, index) {}
    // or of a pool in several threads the sums over a part, added up, and taken from there.
    virtual void begin(index) {}
    virtual void collect_part(index, index, double*, index) {}
    virtual void add_part(double*, index, const double*, index, index) {}
    virtual void finish(const double*, index) {}
    // What follows from the sums of a pool, which one of the threads owns.
    virtual void head(index, index, bool) {}
    // The results for some rows.
    virtual void write_block(index, index) {}
    virtual void along_rows(index, index) {}
    virtual void empty(index) {}
    // What the parameters get, from this thread.
    virtual void end(double*, index) {}

    // The results for the rows of a pool, in the order of memory, which the processor fetches ahead.
    void apply(index first, index last) {
        for (index low = first; low < last; low += block) write_block(low, least(low + block, last));
    }
};

// What all orders are given.
template <class T> struct Given {
    using A = typename Accumulated<T>::type;
    const Recipe& recipe;
    Batch batch;
    bool streaming;
    const T* x;
    const A *alpha, *gamma, *beta, *tau;
};

// An order that knows the parameters, in the type in which sums are taken.
template <class A> class Problem : public Order {
  protected:
    const A *alpha, *gamma, *beta, *tau;
    Arrays<A> arrays;
    Arrays<double> totals;
    A *ones, *zeros;
    double* total;

    // An order that reads so many matrices together, takes so many sums, and needs so many arrays per column.
    template <class T>
    Problem(const Given<T>& given, index matrices, index sums, index space)
        : Order(given.recipe, given.batch), alpha(given.alpha), gamma(given.gamma), beta(given.beta),
          tau(given.tau), arrays(space + 2, given.recipe.columns + 1), totals(sums, given.recipe.columns),
          ones(arrays.take()), zeros(arrays.take()), total(totals.take(sums)) {
        COLUMNS ones[c] = 1;
        constexpr index BYTES = 32 << 10;
        block = BYTES / most(1, matrices * columns * index(sizeof(T)));
        block = block < 8 ? 8 : block > 256 ? 256 : block;
        rowwise = !batch.ptr && !alpha && !tau && recipe.scale.kind == ALL && recipe.statistic != OWN &&
                  (!has_mean() || (recipe.mean.kind == ALL && recipe.statistic == RESIDUAL)) && recipe.uniform;
    }
    // Whether each vector of a result begins where the instruction that writes past the caches wants it.
    template <class T> bool whole_vectors(const T* result) const {
        return columns % lanes<A> == 0 && uintptr_t(result) % (size_t(lanes<A>) * sizeof(T)) == 0;
    }
    bool has_mean() const { return recipe.mean.kind != NONE; }
    bool has_scale() const { return recipe.scale.kind != NONE; }
    bool centres_w() const { return has_mean() && has_scale() && recipe.statistic == RESIDUAL; }
    // Whether mean and scale are those of each column, as in a graph norm, and no exponent is learned.
    bool by_column() const { return recipe.mean.kind == EACH && recipe.scale.kind == EACH && centres_w() && !tau; }
    bool own() const { return has_scale() && recipe.statistic == OWN; }
    // The factor of a group of the scale, from its second moment with eps.
    A power(A moment, index group) const { return tau ? raised(moment, A(-0.5) * tau[group]) : A(1) / root(moment); }
};

}  // namespace
