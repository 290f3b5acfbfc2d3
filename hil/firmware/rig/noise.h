/* Seeded noise, byte for byte what Python's random.Random(seed).randbytes(count) gives, so that one test holds the
 * simulator and this. */
#ifndef WARDEN_NOISE_H
#define WARDEN_NOISE_H

#include <stddef.h>
#include <stdint.h>

void noise_fill(uint64_t seed, uint8_t *out, size_t count);

#endif
