/* The safety node's line (PROTOCOL 4): COBS, CRC-32, and the two kinds of frame, for both of its ends. */
#ifndef WARDEN_BENCH_LINE_H
#define WARDEN_BENCH_LINE_H

#include "bench.h"

#include <termios.h>

#define NODE_BODY 16
#define AGENT_BODY 8
#define CRC_SIZE 4
#define LONGEST (NODE_BODY + CRC_SIZE + 1)
#define ENERGISE 0xA5

/* What arrived of a frame that is not ended yet. */
typedef struct splitter {
    uint8_t kept[LONGEST + 1];
    size_t length;
} splitter;

static inline void put16(uint8_t *at, uint16_t value)
{
    at[0] = (uint8_t)value;
    at[1] = (uint8_t)(value >> 8);
}

static inline uint16_t get16(const uint8_t *at)
{
    return (uint16_t)(at[0] | at[1] << 8);
}

static inline void put32(uint8_t *at, uint32_t value)
{
    put16(at, (uint16_t)value);
    put16(at + 2, (uint16_t)(value >> 16));
}

/* CRC-32 (IEEE), a table made at the first call, as zlib has one. */
static inline uint32_t crc32_of(const uint8_t *data, size_t length)
{
    static uint32_t table[256];
    uint32_t crc = UINT32_MAX;
    size_t i;

    if (table[1] == 0) {
        uint32_t n, bit;

        for (n = 0; n < 256; n++)
            for (table[n] = n, bit = 0; bit < 8; bit++)
                table[n] = (table[n] & 1) != 0 ? table[n] >> 1 ^ UINT32_C(0xEDB88320) : table[n] >> 1;
    }
    for (i = 0; i < length; i++)
        crc = table[(crc ^ data[i]) & 0xFF] ^ crc >> 8;
    return ~crc;
}

/* Ends `frame` (`body` bytes) with its CRC and writes it as it goes on the line; its length there. */
static inline size_t encode(uint8_t *frame, size_t body, uint8_t *out)
{
    size_t i, code = 0, at = 1;

    put32(frame + body, crc32_of(frame, body));
    for (i = 0; i < body + CRC_SIZE; i++) {
        if (frame[i] != 0) {
            out[at++] = frame[i];
            continue;
        }
        out[code] = (uint8_t)(at - code);
        code = at++;
    }
    out[code] = (uint8_t)(at - code);
    out[at++] = 0;
    return at;
}

/* The frame between two delimiters; 1: whole, of this kind and length, with a right CRC. */
static inline int decode(const uint8_t *in, size_t length, size_t body, uint8_t type, uint8_t *frame)
{
    size_t at = 0, made = 0, i;

    if (length != body + CRC_SIZE + 1)
        return 0;
    while (at < length) {
        size_t code = in[at];

        if (code == 0 || at + code > length)
            return 0;
        for (i = 1; i < code; i++)
            frame[made++] = in[at + i];
        at += code;
        if (at < length)
            frame[made++] = 0;
    }
    if (made != body + CRC_SIZE)
        return 0;
    return crc32_of(frame, body) == ((uint32_t)get16(frame + body) | (uint32_t)get16(frame + body + 2) << 16)
        && frame[0] == 1 && frame[1] == type;
}

/* Takes one byte; the length of the frame it ends, 0 while there is none. */
static inline size_t split(splitter *state, uint8_t byte)
{
    size_t length = state->length;

    if (byte == 0) {
        state->length = 0;
        return length <= LONGEST ? length : 0;
    }
    if (length <= LONGEST)
        state->kept[state->length++] = byte;
    return 0;
}

static inline void make_raw(int fd)
{
    struct termios settings;

    if (tcgetattr(fd, &settings) != 0)
        die("tcgetattr");
    cfmakeraw(&settings);
    if (tcsetattr(fd, TCSANOW, &settings) != 0)
        die("tcsetattr");
}

#endif
