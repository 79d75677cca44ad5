#ifndef AOF2_CRC64NVME_VEC_H
#define AOF2_CRC64NVME_VEC_H

/* The machine's part of crc64nvme.c: 128-bit words (`vec`) and their two carry-less products. The
 * target is an attribute of each function, so the rest of the program runs on any machine of the
 * architecture. Where CARRYLESS is not defined only the table kernel is left. */

#include <stdint.h>

#if defined(__x86_64__)
#define CARRYLESS 1
#include <immintrin.h>
#define TARGET __attribute__((target("pclmul,sse4.1")))
#define VEC_FN TARGET static inline __attribute__((always_inline))
typedef __m128i vec;
VEC_FN vec vec_load(const void *p) { return _mm_loadu_si128((const __m128i *)p); }
VEC_FN vec vec_word(uint64_t low) { return _mm_cvtsi64_si128((long long)low); }
VEC_FN uint64_t vec_low(vec a) { return (uint64_t)_mm_cvtsi128_si64(a); }
VEC_FN uint64_t vec_high(vec a) { return (uint64_t)_mm_extract_epi64(a, 1); }
VEC_FN vec vec_xor(vec a, vec b) { return _mm_xor_si128(a, b); }
VEC_FN vec vec_shuffle(vec a, vec mask) { return _mm_shuffle_epi8(a, mask); }
VEC_FN vec multiply_low(vec a, vec k) { return _mm_clmulepi64_si128(a, k, 0x00); }
VEC_FN vec multiply_high(vec a, vec k) { return _mm_clmulepi64_si128(a, k, 0x11); }
#elif defined(__aarch64__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define CARRYLESS 1
#include <arm_neon.h>
#if defined(__clang__)
#define TARGET __attribute__((target("aes")))
#else
#define TARGET __attribute__((target("+crypto")))
#endif
#define VEC_FN TARGET static inline __attribute__((always_inline))
typedef uint64x2_t vec;
VEC_FN vec vec_load(const void *p) { return vreinterpretq_u64_u8(vld1q_u8(p)); }
VEC_FN vec vec_word(uint64_t low) { return vcombine_u64(vcreate_u64(low), vcreate_u64(0)); }
VEC_FN uint64_t vec_low(vec a) { return vgetq_lane_u64(a, 0); }
VEC_FN uint64_t vec_high(vec a) { return vgetq_lane_u64(a, 1); }
VEC_FN vec vec_xor(vec a, vec b) { return veorq_u64(a, b); }
VEC_FN vec vec_shuffle(vec a, vec mask)
{
    uint8x16_t bytes = vqtbl1q_u8(vreinterpretq_u8_u64(a), vreinterpretq_u8_u64(mask));
    return vreinterpretq_u64_u8(bytes);
}
VEC_FN vec multiply_low(vec a, vec k)
{
    poly64_t x = (poly64_t)vgetq_lane_u64(a, 0), y = (poly64_t)vgetq_lane_u64(k, 0);
    return vreinterpretq_u64_p128(vmull_p64(x, y));
}
VEC_FN vec multiply_high(vec a, vec k)
{
    poly64x2_t x = vreinterpretq_p64_u64(a), y = vreinterpretq_p64_u64(k);
    return vreinterpretq_u64_p128(vmull_high_p64(x, y));
}
#endif

#if defined(CARRYLESS)
/* The 16 bytes at offset k move a block's bytes up 16 - k places, or k - 16 down; zeros come in. */
static const unsigned char MOVE[48] = {
    128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 128,
    0,   1,   2,   3,   4,   5,   6,   7,   8,   9,   10,  11,  12,  13,  14,  15,
    128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 128,
};
#endif

#if defined(__x86_64__)
/* The 64 bytes at offset k move a wide word's bytes up 64 - k places; a mask makes the zeros. */
static const unsigned char WIDE_MOVE[128] = {
    [64] = 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15,
    16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31,
    32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47,
    48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63,
};
#endif

#endif
