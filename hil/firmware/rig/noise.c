/* The Mersenne Twister MT19937 (Matsumoto and Nishimura 1998), seeded by an array as they published in 2002. */
#include "noise.h"

#define WORDS 624
#define MIDDLE 397

typedef struct twister {
    uint32_t word[WORDS];
    size_t next;
} twister;

static uint32_t mix(const twister *self, size_t at, uint32_t factor)
{
    const uint32_t before = self->word[at - 1];

    return (before ^ before >> 30) * factor;
}

static void seed_by_number(twister *self, uint32_t seed)
{
    size_t i;

    self->word[0] = seed;
    for (i = 1; i < WORDS; i++)
        self->word[i] = mix(self, i, UINT32_C(1812433253)) + (uint32_t)i;
}

static void seed_by_words(twister *self, const uint32_t *key, size_t length)
{
    size_t at = 1, of = 0, left;

    seed_by_number(self, UINT32_C(19650218));
    for (left = WORDS; left > 0; left--) {
        self->word[at] = (self->word[at] ^ mix(self, at, UINT32_C(1664525))) + key[of] + (uint32_t)of;
        of = (of + 1) % length;
        if (++at == WORDS) {
            self->word[0] = self->word[WORDS - 1];
            at = 1;
        }
    }
    for (left = WORDS - 1; left > 0; left--) {
        self->word[at] = (self->word[at] ^ mix(self, at, UINT32_C(1566083941))) - (uint32_t)at;
        if (++at == WORDS) {
            self->word[0] = self->word[WORDS - 1];
            at = 1;
        }
    }
    self->word[0] = UINT32_C(0x80000000);
    self->next = WORDS;
}

static void twist(twister *self)
{
    size_t i;

    for (i = 0; i < WORDS; i++) {
        const uint32_t high = self->word[i] & UINT32_C(0x80000000);
        const uint32_t joined = high | (self->word[(i + 1) % WORDS] & UINT32_C(0x7FFFFFFF));

        self->word[i] = self->word[(i + MIDDLE) % WORDS] ^ joined >> 1;
        if ((joined & 1) != 0)
            self->word[i] ^= UINT32_C(0x9908B0DF);
    }
    self->next = 0;
}

static uint32_t draw(twister *self)
{
    uint32_t word;

    if (self->next == WORDS)
        twist(self);
    word = self->word[self->next++];
    word ^= word >> 11;
    word ^= word << 7 & UINT32_C(0x9D2C5680);
    word ^= word << 15 & UINT32_C(0xEFC60000);
    return word ^ word >> 18;
}

/* Words from the lowest byte up; of the last one, where it is not needed whole, the high bytes. */
void noise_fill(uint64_t seed, uint8_t *out, size_t count)
{
    twister self;
    uint32_t key[2];
    size_t i, of;

    key[0] = (uint32_t)seed;
    key[1] = (uint32_t)(seed >> 32);
    seed_by_words(&self, key, key[1] == 0 ? 1 : 2);
    for (i = 0; i < count; i += 4) {
        const size_t bytes = count - i < 4 ? count - i : 4;
        uint32_t word = draw(&self) >> (32 - 8 * bytes);

        for (of = 0; of < bytes; of++) {
            out[i + of] = (uint8_t)word;
            word >>= 8;
        }
    }
}
