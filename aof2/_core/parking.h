/* Threads that sleep until the next turn of something, and wake together without taking a lock. */
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
} Parking;

static inline void parking_init(Parking *parking) { parking->turns = 0; }

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
    syscall(SYS_futex, &parking->turns, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
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
#endif

/* What `park` has to be told, taken before the last look at what is waited for. */
static inline uint32_t parking_ticket(const Parking *parking) {
    return __atomic_load_n(&parking->turns, __ATOMIC_ACQUIRE);
}

#endif
