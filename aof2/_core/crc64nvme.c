/* CRC-64/NVME: reflected, P = x^64 + 0xAD93D23594C93659, all ones in and out.
 *
 * The bytes are a polynomial over GF(2), the first bit its highest power, and the checksum is what
 * is left of it times x^64 after division by P. The carry-less kernels follow Gopal et al., "Fast
 * CRC Computation for Generic Polynomials Using PCLMULQDQ" (Intel, 2009): a 128-bit block that lies
 * n bits before another is multiplied by x^n mod P and added to it, which keeps the remainder and
 * drops the block.
 *
 * Everything is reflected: bit i of a 64-bit word stands for x^(63-i), and the first 8 bytes of a
 * block are its high half. The product of two such words comes out one bit short of the 128-bit
 * convention, so it reads as the product times x, and each constant is one power lower to make up.
 *
 * Where a length is not a whole number of blocks, the first block is the short one: zero bits in
 * front of a polynomial change nothing, so it is padded there and the end needs no special case. */

#include "crc64nvme.h"
#include "crc64nvme_vec.h"

#include <string.h>

#define POLY 0x9A6C9329AC4BC9B5ULL

typedef uint64_t (*kernel_fn)(uint64_t state, const unsigned char *p, size_t n);

static uint64_t load64(const unsigned char *p)
{
    uint64_t v;
    memcpy(&v, p, 8);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    v = __builtin_bswap64(v);
#endif
    return v;
}

static uint64_t times_x(uint64_t a)
{
    return (a >> 1) ^ (POLY & (0 - (a & 1)));
}

/* a * b mod P. */
static uint64_t multiply(uint64_t a, uint64_t b)
{
    uint64_t product = 0;
    for (; a; a <<= 1) {
        product ^= b & (0 - (a >> 63));
        b = times_x(b);
    }
    return product;
}

/* The portable kernel, slicing by 8: SLICE[k][b] is the byte b followed by k zero bytes. */
static uint64_t SLICE[8][256];

/* X_BYTES[k] is x^(8 * 2^k) mod P: what 2^k more bytes multiply a checksum by. */
static uint64_t X_BYTES[64];

static void fill_slices(void)
{
    for (unsigned byte = 0; byte < 256; byte++) {
        uint64_t c = byte;
        for (int bit = 0; bit < 8; bit++)
            c = times_x(c);
        SLICE[0][byte] = c;
    }
    for (unsigned byte = 0; byte < 256; byte++)
        for (int k = 1; k < 8; k++) {
            uint64_t c = SLICE[k - 1][byte];
            SLICE[k][byte] = SLICE[0][c & 255] ^ (c >> 8);
        }
    X_BYTES[0] = 1ULL << 55;
    for (int k = 1; k < 64; k++)
        X_BYTES[k] = multiply(X_BYTES[k - 1], X_BYTES[k - 1]);
}

static uint64_t table_kernel(uint64_t state, const unsigned char *p, size_t n)
{
    for (; n >= 8; n -= 8, p += 8) {
        uint64_t v = state ^ load64(p);
        state = SLICE[7][v & 255] ^ SLICE[6][(v >> 8) & 255] ^ SLICE[5][(v >> 16) & 255]
            ^ SLICE[4][(v >> 24) & 255] ^ SLICE[3][(v >> 32) & 255] ^ SLICE[2][(v >> 40) & 255]
            ^ SLICE[1][(v >> 48) & 255] ^ SLICE[0][v >> 56];
    }
    while (n--)
        state = SLICE[0][(state ^ *p++) & 255] ^ (state >> 8);
    return state;
}

#if defined(CARRYLESS)

/* Both are 65-bit polynomials without their last bit, x^0, which is 1 in P and of no effect in MU.
 * MU is the quotient of x^128 and P. Keeping x^64 instead of x^0 leaves the products in place. */
#define MU 0x27ECFA329AEF9F77ULL
#define P_ABOVE_ONE ((POLY << 1) | 1)

#define RUN_BLOCKS 32 /* The most blocks that are summed up at one go. */
#define RUN_BYTES (16 * RUN_BLOCKS)
#define LANES 8 /* The blocks the 128-bit kernels fold at a time: enough to hide the latency. */

/* What multiplies a block by x^e: x^(e+63) mod P for its high half, x^(e-1) for its low half. */
struct power {
    uint64_t high, low;
};

/* TO_END[RUN_BLOCKS - 1 - k] is for e = 128k + 64: it takes a block with k blocks after it all the
 * way to the dividend of the last division, so that no two blocks of a run wait for each other. */
static struct power TO_END[RUN_BLOCKS] __attribute__((aligned(64)));
static struct power FOLD_LANES;
static struct power FOLD_RUN;

static void fill_powers(void)
{
    uint64_t at[2 * RUN_BLOCKS + 2]; /* at[k] is x^(64k - 1). */
    uint64_t power = 1ULL << 63;     /* x^0. */
    for (int k = 1, e = 0; k < 2 * RUN_BLOCKS + 2; k++) {
        for (; e < 64 * k - 1; e++)
            power = times_x(power);
        at[k] = power;
    }
    for (int k = 0; k < RUN_BLOCKS; k++)
        TO_END[RUN_BLOCKS - 1 - k] = (struct power){at[2 * k + 2], at[2 * k + 1]};
    FOLD_LANES = (struct power){at[2 * LANES + 1], at[2 * LANES]};
    FOLD_RUN = (struct power){at[2 * RUN_BLOCKS + 1], at[2 * RUN_BLOCKS]};
}

VEC_FN vec block_times(vec block, vec power)
{
    return vec_xor(multiply_low(block, power), multiply_high(block, power));
}

/* Barrett's division: the remainder of the 128-bit dividend `high` x^64 + `low`. */
VEC_FN uint64_t remainder_of(vec high, uint64_t low)
{
    vec quotient = multiply_low(high, vec_word(MU));
    vec product = multiply_low(quotient, vec_word(P_ABOVE_ONE));
    return vec_high(product) ^ vec_low(quotient) ^ low;
}

/* 1 to 7 bytes: they push as many out of the state, which are the dividend's high half. */
VEC_FN uint64_t tiny(uint64_t state, const unsigned char *p, size_t n)
{
    uint64_t v;
    if (n >= 4) {
        uint32_t first, last;
        memcpy(&first, p, 4);
        memcpy(&last, p + n - 4, 4);
        v = first | (uint64_t)last << (8 * n - 32);
    } else {
        v = p[0] | (uint64_t)p[n / 2] << (8 * (n / 2)) | (uint64_t)p[n - 1] << (8 * n - 8);
    }
    return remainder_of(vec_word((state ^ v) << (64 - 8 * n)), state >> (8 * n));
}

/* 8 to 15 bytes, as one block with zeros in front; two loads that overlap cover them. The first
 * shift has two steps because for 8 bytes it is by 64, which C leaves undefined. */
VEC_FN uint64_t short_block(uint64_t state, const unsigned char *p, size_t n)
{
    unsigned excess = 8 * (unsigned)(n - 8);
    uint64_t high = (state ^ load64(p)) << (63 - excess) << 1;
    uint64_t low = load64(p + n - 8) ^ (state >> excess);
    vec top = multiply_low(vec_word(high), vec_word(TO_END[RUN_BLOCKS - 1].high));
    top = vec_xor(top, vec_word(low));
    return remainder_of(top, vec_high(top));
}

/* 16 bytes to RUN_BLOCKS blocks: each goes to the end by itself, then one division. The state
 * belongs to the first 8 bytes, some of which are in the second block when the first is short. */
VEC_FN uint64_t run(uint64_t state, const unsigned char *p, size_t n)
{
    size_t blocks = (n + 15) / 16, first = n - 16 * (blocks - 1);
    const struct power *power = TO_END + RUN_BLOCKS - blocks;
    vec carried = vec_word(state);
    vec block = vec_shuffle(vec_xor(vec_load(p), carried), vec_load(MOVE + first));
    vec sum = block_times(block, vec_load(power));
    p += first;
    if (blocks > 1) {
        block = vec_xor(vec_load(p), vec_shuffle(carried, vec_load(MOVE + 16 + first)));
        sum = vec_xor(sum, block_times(block, vec_load(power + 1)));
    }
    for (size_t i = 2; i < blocks; i++)
        sum = vec_xor(sum, block_times(vec_load(p + 16 * (i - 1)), vec_load(power + i)));
    return remainder_of(sum, vec_high(sum));
}

VEC_FN uint64_t up_to_a_run(uint64_t state, const unsigned char *p, size_t n)
{
    if (n >= 16)
        return run(state, p, n);
    if (n >= 8)
        return short_block(state, p, n);
    return n ? tiny(state, p, n) : state;
}

/* Whole groups of LANES blocks, at least one. */
TARGET static uint64_t fold_lanes(uint64_t state, const unsigned char *p, size_t n)
{
    vec lane[LANES], power = vec_load(&FOLD_LANES);
    for (int i = 0; i < LANES; i++)
        lane[i] = vec_load(p + 16 * i);
    lane[0] = vec_xor(lane[0], vec_word(state));
    for (p += 16 * LANES, n -= 16 * LANES; n; p += 16 * LANES, n -= 16 * LANES)
        for (int i = 0; i < LANES; i++)
            lane[i] = vec_xor(block_times(lane[i], power), vec_load(p + 16 * i));
    vec sum = block_times(lane[0], vec_load(TO_END + RUN_BLOCKS - LANES));
    for (int i = 1; i < LANES; i++)
        sum = vec_xor(sum, block_times(lane[i], vec_load(TO_END + RUN_BLOCKS - LANES + i)));
    return remainder_of(sum, vec_high(sum));
}

TARGET static uint64_t carryless_kernel(uint64_t state, const unsigned char *p, size_t n)
{
    if (n <= RUN_BYTES)
        return up_to_a_run(state, p, n);
    size_t head = n % (16 * LANES);
    return fold_lanes(up_to_a_run(state, p, head), p + head, n - head);
}

#endif

#if defined(__x86_64__)

#define WIDE __attribute__((target("avx512f,avx512bw,avx512vbmi,vpclmulqdq,pclmul,sse4.1")))
#define WIDE_FN WIDE static inline __attribute__((always_inline))
#define WIDE_LANES (RUN_BLOCKS / 4)
#define WIDE_MIN 65 /* Bytes: two wide words. Below it the 128-bit run is as fast. */

/* a * power + b for four blocks; 0x96 is the truth table of a three-way exclusive or. */
WIDE_FN __m512i wide_times(__m512i a, __m512i power, __m512i b)
{
    __m512i high = _mm512_clmulepi64_epi128(a, power, 0x00);
    __m512i low = _mm512_clmulepi64_epi128(a, power, 0x11);
    return _mm512_ternarylogic_epi64(high, low, b, 0x96);
}

WIDE_FN __m512i wide_first(vec carried, const unsigned char *p)
{
    return _mm512_xor_si512(_mm512_loadu_si512(p), _mm512_zextsi128_si512(carried));
}

WIDE_FN uint64_t wide_remainder(__m512i sum)
{
    vec left = vec_xor(_mm512_castsi512_si128(sum), _mm512_extracti32x4_epi32(sum, 1));
    vec right = vec_xor(_mm512_extracti32x4_epi32(sum, 2), _mm512_extracti32x4_epi32(sum, 3));
    vec all = vec_xor(left, right);
    return remainder_of(all, vec_high(all));
}

/* WIDE_MIN bytes to RUN_BLOCKS blocks. As in `run` the first word is the short one, and what it has
 * no room for of the state is in the second: one division, whatever the length. */
WIDE_FN uint64_t wide_run(uint64_t state, const unsigned char *p, size_t n)
{
    size_t words = (n + 63) / 64, first = n - 64 * (words - 1);
    const unsigned char *power = (const unsigned char *)(TO_END + RUN_BLOCKS) - 64 * words;
    __m512i places = _mm512_loadu_si512(WIDE_MOVE + first);
    __mmask64 filled = ~0ULL << (64 - first);
    __m512i word = _mm512_maskz_permutexvar_epi8(filled, places, wide_first(vec_word(state), p));
    __m512i sum = wide_times(word, _mm512_load_si512(power), _mm512_setzero_si512());
    word = wide_first(_mm_srl_epi64(vec_word(state), vec_word(8 * first)), p + first);
    sum = wide_times(word, _mm512_load_si512(power + 64), sum);
    for (size_t at = 64; at < n - first; at += 64) {
        word = _mm512_loadu_si512(p + first + at);
        sum = wide_times(word, _mm512_load_si512(power + 64 + at), sum);
    }
    return wide_remainder(sum);
}

/* Whole runs of RUN_BLOCKS blocks, at least one. */
WIDE_FN uint64_t wide_fold(uint64_t state, const unsigned char *p, size_t n)
{
    const unsigned char *end = p + n;
    __m512i lane[WIDE_LANES], power = _mm512_broadcast_i32x4(vec_load(&FOLD_RUN));
    lane[0] = wide_first(vec_word(state), p);
    for (int i = 1; i < WIDE_LANES; i++)
        lane[i] = _mm512_loadu_si512(p + 64 * i);
    for (p += RUN_BYTES; p != end; p += RUN_BYTES)
        for (int i = 0; i < WIDE_LANES; i++)
            lane[i] = wide_times(lane[i], power, _mm512_loadu_si512(p + 64 * i));
    __m512i sum = _mm512_setzero_si512();
    for (int i = 0; i < WIDE_LANES; i++)
        sum = wide_times(lane[i], _mm512_load_si512(TO_END + 4 * i), sum);
    return wide_remainder(sum);
}

WIDE static uint64_t wide_large(uint64_t state, const unsigned char *p, size_t n)
{
    size_t head = n % RUN_BYTES;
    state = head < WIDE_MIN ? up_to_a_run(state, p, head) : wide_run(state, p, head);
    return n < RUN_BYTES ? state : wide_fold(state, p + head, n - head);
}

TARGET static uint64_t wide_kernel(uint64_t state, const unsigned char *p, size_t n)
{
    if (n < WIDE_MIN)
        return up_to_a_run(state, p, n);
    return wide_large(state, p, n);
}

static int has_wide(void)
{
    return __builtin_cpu_supports("vpclmulqdq") && __builtin_cpu_supports("avx512bw")
        && __builtin_cpu_supports("avx512vbmi");
}

static int has_carryless(void)
{
    return __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1");
}

#elif defined(CARRYLESS)

#if defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

static int has_carryless(void)
{
#if defined(__linux__)
    return (getauxval(AT_HWCAP) & HWCAP_PMULL) != 0;
#else
    return 1; /* Every Apple core has it. */
#endif
}

#endif

static int has_table(void)
{
    return 1;
}

/* The fastest first. */
static const struct kernel {
    const char *name;
    int (*available)(void);
    kernel_fn run;
} KERNELS[] = {
#if defined(__x86_64__)
    {"vpclmul", has_wide, wide_kernel},
    {"pclmul", has_carryless, carryless_kernel},
#elif defined(CARRYLESS)
    {"pmull", has_carryless, carryless_kernel},
#endif
    {"table", has_table, table_kernel},
};

#define KERNEL_COUNT ((int)(sizeof KERNELS / sizeof KERNELS[0]))

/* Written when the module is loaded, which comes before any call, and by a test that chooses a
 * kernel. All kernels agree, so a caller that still sees the earlier one is right too. */
static kernel_fn chosen = table_kernel;

__attribute__((constructor)) static void choose_kernel(void)
{
    fill_slices();
#if defined(CARRYLESS)
    fill_powers();
#endif
#if defined(__x86_64__)
    __builtin_cpu_init();
#endif
    for (int i = KERNEL_COUNT - 1; i >= 0; i--)
        if (KERNELS[i].available())
            chosen = KERNELS[i].run;
}

uint64_t aof2_crc64(uint64_t crc, const void *data, size_t n)
{
    return ~__atomic_load_n(&chosen, __ATOMIC_RELAXED)(~crc, data, n);
}

/* The bytes of B multiply what A left by x^8 each. The inversions cancel out: B was begun with the
 * same all ones that A was ended with. */
uint64_t aof2_crc64_combine(uint64_t a, uint64_t b, uint64_t len_b)
{
    for (int k = 0; len_b; k++, len_b >>= 1)
        if (len_b & 1)
            a = multiply(a, X_BYTES[k]);
    return a ^ b;
}

const char *aof2_crc64_implementation(void)
{
    kernel_fn now = __atomic_load_n(&chosen, __ATOMIC_RELAXED);
    int i = 0;
    while (KERNELS[i].run != now)
        i++;
    return KERNELS[i].name;
}

int aof2_crc64_use(const char *name)
{
    for (int i = 0; i < KERNEL_COUNT; i++)
        if (strcmp(name, KERNELS[i].name) == 0 && KERNELS[i].available()) {
            __atomic_store_n(&chosen, KERNELS[i].run, __ATOMIC_RELAXED);
            return 0;
        }
    return -1;
}
