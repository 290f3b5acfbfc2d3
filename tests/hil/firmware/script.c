/* The logic behind standard input, for sanitizers that a Python process cannot hold. One line in, one line out:
 *
 *     boot WIRED MS | turn MS [HEX] | contacts A B     ->     RELAY GOOD OFF BAD_ECHO BAD BYTES [FRAME]
 *
 * Bytes are handed over in a block of just their size, so that reading one too many is seen. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "board.h"

#define LINE_MOST (1U << 20)

static char line[LINE_MOST];
static board self;
static uint8_t frame[NODE_FRAME_SIZE];

/* The bytes of a hexadecimal word, and how many. */
static uint8_t *unhex(const char *word, size_t *count)
{
    uint8_t *bytes;
    size_t i;

    *count = strspn(word, "0123456789abcdef") / 2;
    bytes = malloc(*count > 0 ? *count : 1);
    if (bytes == NULL)
        exit(1);
    for (i = 0; i < *count; i++) {
        char pair[3] = {word[2 * i], word[2 * i + 1], '\0'};

        bytes[i] = (uint8_t)strtoul(pair, NULL, 16);
    }
    return bytes;
}

static size_t turn(char *rest)
{
    char *word;
    const uint32_t ms = (uint32_t)strtoul(rest, &word, 10);
    size_t count, length;
    uint8_t *bytes = unhex(*word == ' ' ? word + 1 : word, &count);

    length = board_turn(&self, bytes, count, ms, frame);
    free(bytes);
    return length;
}

static void tell(size_t length)
{
    uint32_t numbers[BOARD_NUMBERS];
    size_t i;

    board_look(&self, numbers);
    printf("%u %u %u %u %u %u ", numbers[BOARD_RELAY], numbers[BOARD_GOOD], numbers[BOARD_OFF],
        numbers[BOARD_BAD_ECHO], numbers[BOARD_BAD], numbers[BOARD_BYTES]);
    for (i = 0; i < length; i++)
        printf("%02x", frame[i]);
    printf("\n");
    (void)fflush(stdout);
}

int main(void)
{
    while (fgets(line, sizeof line, stdin) != NULL) {
        unsigned first, second;
        size_t length = 0;

        if (sscanf(line, "boot %u %u", &first, &second) == 2)
            board_boot(&self, (uint16_t)first, second);
        else if (sscanf(line, "contacts %u %u", &first, &second) == 2)
            board_contacts(&self, (uint16_t)first, (uint16_t)second);
        else if (strncmp(line, "turn ", 5) == 0)
            length = turn(line + 5);
        else
            return 2;
        tell(length);
    }
    return 0;
}
