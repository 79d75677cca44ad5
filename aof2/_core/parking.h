/* Threads that sleep until the next turn of something, and wake without taking a lock: all at once,
 * or in a chain in which each wakes one more. Where all of them need the GIL next, most of those
 * who wake at once only go to sleep again. */
#ifndef AOF2_PARKING_H
#define AOF2_PARKING_H

#include <errno.h>
#include <limits.h>
#include <stdint.h>

#ifdef __linux__
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

typedef struct {
    uint32_t turns;
    int32_t to_wake;
} Parking;

static inline void parking_init(Parking *parking) { parking->turns = parking->to_wake = 0; }

static inline void parking_wake(Parking *parking, int threads) {
    syscall(SYS_futex, &parking->turns, FUTEX_WAKE_PRIVATE, threads, NULL, NULL, 0);
}

/* For a thread that does not sleep any more, whatever ended that: wake the next one, as long as
 * some of this turn are left. Those of this turn sleep before all who came later, so that each is
 * woken; one who needs another turn yet passes on as well. */
static inline void pass_on(Parking *parking) {
    if (__atomic_fetch_sub(&parking->to_wake, 1, __ATOMIC_RELAXED) > 0) parking_wake(parking, 1);
}

/* The next turn, for at most `waiting` threads: wake the first `depth` of them. */
static inline void unpark_chain(Parking *parking, int32_t waiting, int depth) {
    __atomic_store_n(&parking->to_wake, waiting - depth, __ATOMIC_RELAXED);
    __atomic_fetch_add(&parking->turns, 1, __ATOMIC_SEQ_CST);
    if (waiting > 0) parking_wake(parking, depth);
}

/* Sleep until the next turn after `ticket`, or for `wait_ns`; ETIMEDOUT when the time ran out. May
 * also end early. */
static inline int park(Parking *parking, uint32_t ticket, int64_t wait_ns) {
    struct timespec wait = {wait_ns / 1000000000, wait_ns % 1000000000};
    if (wait_ns <= 0) return ETIMEDOUT;
    long woken = syscall(SYS_futex, &parking->turns, FUTEX_WAIT_PRIVATE, ticket, &wait, NULL, 0);
    return woken < 0 && errno == ETIMEDOUT ? ETIMEDOUT : 0;
}

static inline void unpark_all(Parking *parking) {
    __atomic_fetch_add(&parking->turns, 1, __ATOMIC_SEQ_CST);
    parking_wake(parking, INT_MAX);
}
#else
#include "loglock.h"

typedef struct {
    uint32_t turns;
    pthread_mutex_t lock;
    pthread_cond_t turn;
} Parking;

static inline void parking_init(Parking *parking) {
    parking->turns = 0;
    pthread_mutex_init(&parking->lock, NULL);
    cond_init(&parking->turn);
}

static inline int park(Parking *parking, uint32_t ticket, int64_t wait_ns) {
    int error = 0;
    pthread_mutex_lock(&parking->lock);
    if (parking->turns == ticket) error = cond_wait_ns(&parking->turn, &parking->lock, wait_ns);
    pthread_mutex_unlock(&parking->lock);
    return error == ETIMEDOUT ? ETIMEDOUT : 0;
}

static inline void unpark_all(Parking *parking) {
    pthread_mutex_lock(&parking->lock);
    __atomic_fetch_add(&parking->turns, 1, __ATOMIC_SEQ_CST);
    pthread_cond_broadcast(&parking->turn);
    pthread_mutex_unlock(&parking->lock);
}

static inline void unpark_chain(Parking *parking, int32_t waiting, int depth) {
    (void)depth;
    if (waiting > 0) unpark_all(parking);
}

static inline void pass_on(Parking *parking) { (void)parking; }
#endif

/* What `park` has to be told, taken before the last look at what is waited for. */
static inline uint32_t parking_ticket(const Parking *parking) {
    return __atomic_load_n(&parking->turns, __ATOMIC_ACQUIRE);
}

#endif
