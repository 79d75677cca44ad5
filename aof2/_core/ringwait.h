/* Readers of other processes that sleep until a landing ring's writer goes on.
 *
 * A reader sets the waiter word, looks once more, and sleeps while the word is set. A writer looks
 * at the word after each store that a reader may wait for: one load, as its own stores lie in the
 * same cache line. That the look does not pass the store is the reader's affair: it asks the kernel
 * for a barrier on every processor (membarrier), so that appends need none.
 */
#ifndef AOF2_RINGWAIT_H
#define AOF2_RINGWAIT_H

#include <limits.h>
#include <stdint.h>
#include <time.h>

#ifdef __linux__
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#define RING_CAN_WAIT 1
#define RING_MEMBARRIER_GLOBAL_EXPEDITED 2
#define RING_MEMBARRIER_REGISTER_GLOBAL_EXPEDITED 4

static inline void ring_futex_wake(uint32_t *word) {
    syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

/* Sleep until woken while the word is 1, at most `wait_ns`. */
static inline void ring_futex_wait(uint32_t *word, int64_t wait_ns) {
    struct timespec wait = {wait_ns / 1000000000, wait_ns % 1000000000};
    syscall(SYS_futex, word, FUTEX_WAIT, 1, &wait, NULL, 0);
}

/* Let readers have barriers run on this process; where the kernel has none, a wake-up that passes a
 * reader's last look comes as late as the end of its wait. */
static inline void ring_register_writer(void) {
    syscall(SYS_membarrier, RING_MEMBARRIER_REGISTER_GLOBAL_EXPEDITED, 0, 0);
}

static inline void ring_barrier(void) {
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    syscall(SYS_membarrier, RING_MEMBARRIER_GLOBAL_EXPEDITED, 0, 0);
}
#else
#define RING_CAN_WAIT 0 /* Readers poll. */

static inline void ring_futex_wake(uint32_t *word) { (void)word; }

static inline void ring_futex_wait(uint32_t *word, int64_t wait_ns) {
    (void)word;
    (void)wait_ns;
}

static inline void ring_register_writer(void) {}
static inline void ring_barrier(void) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
#endif

static inline void ring_wake(uint32_t *word) {
    if (__atomic_exchange_n(word, 0, __ATOMIC_SEQ_CST)) ring_futex_wake(word);
}

/* For the writer, after a store that somebody may wait for. The word is worth nothing after a
 * crash, so that it is cleared is no store of the log. */
static inline void ring_tell(uint32_t *word) {
    if (__builtin_expect(__atomic_load_n(word, __ATOMIC_RELAXED) != 0, 0)) ring_wake(word);
}

#endif
