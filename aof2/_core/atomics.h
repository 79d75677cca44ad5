/* Ordered loads and stores of words that threads and processes share. */
#ifndef AOF2_ATOMICS_H
#define AOF2_ATOMICS_H

#include <stdint.h>

static inline uint64_t load_acquire(const void *at) {
    return __atomic_load_n((const uint64_t *)at, __ATOMIC_ACQUIRE);
}
static inline void store_release(void *at, uint64_t value) {
    __atomic_store_n((uint64_t *)at, value, __ATOMIC_RELEASE);
}
static inline uint32_t load_acquire32(const void *at) {
    return __atomic_load_n((const uint32_t *)at, __ATOMIC_ACQUIRE);
}
static inline void store_release32(void *at, uint32_t value) {
    __atomic_store_n((uint32_t *)at, value, __ATOMIC_RELEASE);
}
static inline void add32(void *at, uint32_t n) {
    __atomic_fetch_add((uint32_t *)at, n, __ATOMIC_SEQ_CST);
}
static inline void fence(void) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }

/* Have the processor fetch what will be read soon. */
static inline void prefetch(const void *at) { __builtin_prefetch(at, 0, 3); }

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

#endif
