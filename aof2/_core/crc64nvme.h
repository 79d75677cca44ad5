#ifndef AOF2_CRC64NVME_H
#define AOF2_CRC64NVME_H

#include <stddef.h>
#include <stdint.h>

/* Only the module that this is linked into calls these: no detour through the loader's tables. */
#pragma GCC visibility push(hidden)

/* The CRC-64/NVME of `n` bytes at `data`. `crc` is 0 to begin, or the result for the bytes just
 * before, to go on from there. `data` may be NULL when `n` is 0. Every function here may be
 * called by any thread at any time. */
uint64_t aof2_crc64(uint64_t crc, const void *data, size_t n);

/* The CRC-64/NVME of A followed by B, from those of both and the length of B in bytes. */
uint64_t aof2_crc64_combine(uint64_t a, uint64_t b, uint64_t len_b);

/* The name of the kernel in use: "vpclmul", "pclmul", "pmull" or "table". */
const char *aof2_crc64_implementation(void);

/* Makes the kernel of this name the one in use. Returns 0; or -1, and changes nothing, when
 * the name is unknown or this machine lacks its instructions. */
int aof2_crc64_use(const char *name);

#pragma GCC visibility pop

#endif
