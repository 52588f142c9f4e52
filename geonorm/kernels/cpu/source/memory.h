// The memory of one thread: work space per column, and what the parameters gather.

#pragma once
#include <cstdlib>

#include "numbers.h"

namespace {

// Work space, cut into arrays of one length that begin as zeros.
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

// Sums over pools, one array for each parameter: in float for a few pools, then in double.
template <class A> class Gathered {
  public:
    const index number;
    Gathered(index number, index columns)
        : number(number), few_(number, columns), all_(number, columns), few(few_.take(number)), all(all_.take(number)),
          stride(few_.length()), size_(number * few_.length()) {}
    A* of(index which) { return few + which * stride; }
    void pool_done() {
        if (++pools_ == FLUSH) flush();
    }
    void flush() {
        A* RESTRICT from = few;
        double* RESTRICT into = all;
        _Pragma("omp simd") for (index k = 0; k < size_; k++) into[k] += from[k], from[k] = 0;
        pools_ = 0;
    }
    const double* total(index which) const { return all + which * stride; }

  private:
    // Float sums are added to double ones after that many pools.
    static constexpr index FLUSH = 32;
    Arrays<A> few_;
    Arrays<double> all_;
    A* few;
    double* all;
    index stride, size_, pools_ = 0;
};

}  // namespace
