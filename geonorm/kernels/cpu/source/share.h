// Rows are split evenly over threads. A pool that lies across a border is collected in parts, merged after a barrier.

#pragma once
#ifdef _OPENMP
#include <omp.h>
#endif
#include "order.h"

namespace {

// The work of one thread, from row `low` to row `high`.
class Share {
    Order& order;
    const Batch batch;
    const index thread, threads, parts;
    double* board;  // parts of pools that lie across borders, of all threads: two each
    const index stride, low, high, first, last;

  public:
    Share(Order& order, index thread, index threads, index parts, double* board)
        : order(order), batch(order.batch), thread(thread), threads(threads), parts(parts), board(board),
          stride(order.columns), low(border(thread)), high(border(thread + 1)), first(batch.first_from(low)),
          last(thread + 1 == threads ? batch.pools : batch.first_from(high)) {}

    void collect_parts() {
        if (has_front()) {
            order.begin(first - 1);
            order.collect_part(low, least(high, end_of(first - 1)), part(thread, false), stride);
        }
        if (has_back()) {
            order.begin(last - 1);
            order.collect_part(batch.begin(last - 1), high, part(thread, true), stride);
        }
    }
    APART void work(double* total) {
        if (order.rowwise) {
            order.along_rows(low, high);
        } else {
            if (has_front()) shared(first - 1, total);
            for (index pool = first; pool < last; pool++) {
                const index begin = batch.begin(pool), end = end_of(pool);
                if (begin == end) {
                    order.empty(pool);
                } else if (end > high && thread + 1 < threads) {
                    shared(pool, total);
                } else {
                    order.collect(pool, begin, end);
                    order.head(pool, end - begin, true);
                    order.apply(begin, end);
                }
            }
        }
        if (order.streaming) streamed();
    }
    void end(double* totals) { order.end(totals, stride); }

  private:
    index border(index number) const { return batch.rows / threads * number + batch.rows % threads * number / threads; }
    double* part(index of_thread, bool back) const { return board + (2 * of_thread + back) * parts * stride; }

    // The pools that begin here are those from `first` to `last`; the one before them may reach here.
    index end_of(index pool) const { return batch.begin(pool + 1); }
    bool has_front() const { return first > 0 && batch.begin(first - 1) < low && end_of(first - 1) > low; }
    bool has_back() const { return last > first && end_of(last - 1) > high; }

    void shared(index pool, double* total) {
        const index begin = batch.begin(pool), end = end_of(pool);
        index n = 0;
        for (index t = 0; t < threads; t++) {
            const index from = most(begin, border(t)), to = least(end, border(t + 1));
            if (from >= to) continue;
            const double* given = part(t, begin >= border(t));
            if (n == 0) memcpy(total, given, size_t(parts * stride) * sizeof(double));
            else order.add_part(total, n, given, to - from, stride);
            n += to - from;
        }
        order.begin(pool);
        order.finish(total, stride);
        order.head(pool, end - begin, begin >= low);
        order.apply(most(begin, low), least(end, high));
    }
};

// Compute in so many threads. O is an order, constructed in each of them from what is given.
template <class O, class... Arguments>
void run([[maybe_unused]] index threads, const Recipe& recipe, const Arguments&... given) {
    const index stride = recipe.columns;
    Arrays<double> gathered(O::gathered + 1, stride);
    double* totals = gathered.take(O::gathered);
#ifdef _OPENMP
    if (threads > 1) {
        Arrays<double> memory(3 * threads * O::parts + 1, stride);
        double* board = memory.take();
#pragma omp parallel num_threads(int(threads))
        {
            // Fewer threads than were asked for may have come.
            const index came = omp_get_num_threads(), number = omp_get_thread_num();
            O order(given...);
            Share share(order, number, came, O::parts, board);
            share.collect_parts();
#pragma omp barrier
            share.work(board + (2 * threads + number) * O::parts * stride);
            // One after the other, in the order of the threads: sums do not depend on who is faster.
            for (index turn = 0; turn < came; turn++) {
                if (turn == number) share.end(totals);
                if (turn == number && turn + 1 == came) order.publish(totals, stride);
#pragma omp barrier
            }
        }
        return;
    }
#endif
    O order(given...);
    Share share(order, 0, 1, O::parts, nullptr);
    share.work(nullptr);  // nobody shares a pool
    share.end(totals);
    order.publish(totals, stride);
}

}  // namespace
