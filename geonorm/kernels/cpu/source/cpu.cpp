// Standardization of pools of rows on the CPU: result, gradient and double backward, each in one pass over memory.
//
// A pool is a run of rows (a graph, one node, or the whole batch; of an unsorted batch, a run of `order`). Of each pool
// a few sums per column are taken; everything else is small, one number per pool and column, and follows from them by
// the formulas of gradients.py, whose names are used here; then the rows, still in the cache, are combined:
//
//     y = (x - shift) factor + beta,    dx = a g + b w + e,    dg = a v + a1 w + e1,    ddx = a1 g + b v + b1 w + e2.
//
// These are the functions that Python calls. They know nothing of torch. This file is compiled once per instruction
// set, with ISA as the ending of the names.

#include "backward.h"
#include "forward.h"
#include "share.h"
#include "twice.h"

#ifndef ISA
#define ISA default
#endif
#define JOINED(a, b, c) a##_##b##_##c
#define NAME(what, type, isa) JOINED(what, type, isa)

#define GIVEN(T, A)                                                                                                   \
    const Recipe *recipe, int64_t rows, int64_t pools, const int64_t *ptr, const int64_t *order, int64_t threads,     \
        int64_t streaming, const T *x, const A *alpha, const A *gamma, const A *beta, const A *tau
#define STATISTICS(A) const A *mean, const A *square, const A *own
#define RUN(Order, T, ...)                                                                                            \
    const Batch batch{rows, pools, ptr, order};                                                                       \
    const Given<T> given{*recipe, batch, streaming != 0, x, alpha, gamma, beta, tau};                                 \
    run<Order<T>>(threads, *recipe, given, __VA_ARGS__)

#define DEFINE(T, A, TYPE)                                                                                            \
    extern "C" void NAME(geonorm_forward, TYPE, ISA)(GIVEN(T, A), T * y, A * mean, A * square, A * own) {             \
        RUN(Forward, T, y, mean, square, own);                                                                        \
    }                                                                                                                 \
    extern "C" void NAME(geonorm_backward, TYPE, ISA)(GIVEN(T, A), STATISTICS(A), const T* g, T* dx, A* dalpha,       \
                                                      A* dgamma, A* dbeta, A* dtau) {                                 \
        RUN(Backward, T, mean, square, own, g, dx, dalpha, dgamma, dbeta, dtau);                                      \
    }                                                                                                                 \
    extern "C" void NAME(geonorm_double_backward, TYPE, ISA)(                                                         \
        GIVEN(T, A), STATISTICS(A), const T* g, const T* v, const A* alpha_dot, const A* gamma_dot,                   \
        const A* beta_dot, const A* tau_dot, T* dg, T* dx, A* dalpha, A* dgamma, A* dtau) {                           \
        RUN(Twice, T, mean, square, own, g, v, alpha_dot, gamma_dot, beta_dot, tau_dot, dg, dx, dalpha, dgamma, dtau); \
    }

DEFINE(float, float, float32)
DEFINE(double, double, float64)
DEFINE(bf16, float, bfloat16)
