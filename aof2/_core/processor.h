/* Which processor a thread runs on, and holding it there; not where the system has no call for
 * it. */
#ifndef AOF2_PROCESSOR_H
#define AOF2_PROCESSOR_H

#include <sched.h>

#ifdef __linux__
#define ALLOWED_BYTES sizeof(cpu_set_t)

static inline int this_processor(void) { return sched_getcpu(); }

/* Note in `allowed` where the calling thread may run; 0, or -1 where that cannot be known. */
static inline int allowed_processors(void *allowed) {
    return sched_getaffinity(0, ALLOWED_BYTES, (cpu_set_t *)allowed);
}

/* Keep the calling thread on one of the processors where it may run; 0, or -1 where that cannot
 * be. */
static inline int hold_on_processor(int processor, const void *allowed) {
    cpu_set_t one;
    if (processor < 0 || processor >= CPU_SETSIZE) return -1;
    if (!CPU_ISSET(processor, (const cpu_set_t *)allowed)) return -1;
    CPU_ZERO(&one);
    CPU_SET(processor, &one);
    return sched_setaffinity(0, sizeof(one), &one);
}

/* Let the calling thread run again wherever it might before. */
static inline void leave_processor(const void *allowed) {
    sched_setaffinity(0, ALLOWED_BYTES, (const cpu_set_t *)allowed);
}
#else
static inline int this_processor(void) { return -1; }
static inline int allowed_processors(void *allowed) { return -1; }
static inline int hold_on_processor(int processor, const void *allowed) { return -1; }
static inline void leave_processor(const void *allowed) {}
#endif

#endif
