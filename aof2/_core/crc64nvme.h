#ifndef AOF2_CRC64NVME_H
#define AOF2_CRC64NVME_H
#include <stddef.h>
#include <stdint.h>
uint64_t aof2_crc64(uint64_t crc, const void *data, size_t n);
#endif
