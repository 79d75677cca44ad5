/* Mutex and condition variable with monotonic deadlines, and threads with small stacks. */
#ifndef AOF2_LOGLOCK_H
#define AOF2_LOGLOCK_H

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <time.h>
#include <unistd.h>

static inline void cond_init(pthread_cond_t *cond) {
#ifdef __APPLE__
    pthread_cond_init(cond, NULL);
#else
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(cond, &attributes);
    pthread_condattr_destroy(&attributes);
#endif
}

static inline int64_t monotonic_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Wait until signalled or for `wait_ns`; ETIMEDOUT when the time ran out. */
static inline int cond_wait_ns(pthread_cond_t *cond, pthread_mutex_t *lock, int64_t wait_ns) {
    struct timespec until;
    if (wait_ns < 0) wait_ns = 0;
#ifdef __APPLE__
    until.tv_sec = wait_ns / 1000000000;
    until.tv_nsec = wait_ns % 1000000000;
    return pthread_cond_timedwait_relative_np(cond, lock, &until);
#else
    int64_t at = monotonic_ns() + wait_ns;
    until.tv_sec = at / 1000000000;
    until.tv_nsec = at % 1000000000;
    return pthread_cond_timedwait(cond, lock, &until);
#endif
}

/* A turn of a loop that looks at a word: the processor rests; now and then somebody else runs. */
static inline void spin_turn(unsigned turn) {
    if (turn % 64 == 63) {
        sched_yield();
        return;
    }
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

/* Whether a thread that spins leaves a processor to the one that it waits for. */
static inline int may_spin(void) {
#ifdef __linux__
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof(set), &set) == 0) return CPU_COUNT(&set) > 1;
#endif
    return sysconf(_SC_NPROCESSORS_ONLN) > 1;
}

static inline int start_thread(pthread_t *thread, void *(*body)(void *), void *argument) {
    pthread_attr_t attributes;
    int error;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 128 * 1024);
    error = pthread_create(thread, &attributes, body, argument);
    pthread_attr_destroy(&attributes);
    return error;
}

#endif
