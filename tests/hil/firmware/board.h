/* A board in a test's hands: the logic in the loop that node.h shows, with contacts and a relay made of variables.
 * The test says what time it is. Flat functions, so that ctypes can call them. */
#ifndef WARDEN_TEST_BOARD_H
#define WARDEN_TEST_BOARD_H

#include "node.h"

typedef struct board {
    node logic;
    uint16_t a, b;           /* the contacts, 1 = closed */
    uint16_t short_a, short_b; /* pins that read closed whether supplied or not */
    bool relay, jammed;
    uint32_t moved_ms; /* when the relay moved last */
} board;

/* Numbers of what `board_look` tells, in this order. */
enum {
    BOARD_RELAY, BOARD_MOVED_MS, BOARD_WHY, BOARD_SUPPLY, BOARD_GOOD, BOARD_OFF, BOARD_BAD_ECHO, BOARD_BAD, BOARD_BYTES,
    BOARD_NUMBERS
};

size_t board_size(void);
void board_boot(board *self, uint16_t wired, uint32_t ms);
void board_contacts(board *self, uint16_t a, uint16_t b);
void board_shorts(board *self, uint16_t a, uint16_t b);
void board_jam(board *self, bool jammed);
void board_report(board *self, uint8_t faults);
void board_break_line(board *self);
void board_look(const board *self, uint32_t numbers[BOARD_NUMBERS]);
bool board_coil(const board *self, uint32_t ms);
uint32_t board_next(const board *self, uint32_t ms);

/* One turn of the loop; the length of the frame that is due, or 0. */
size_t board_turn(board *self, const uint8_t *data, size_t length, uint32_t ms, uint8_t frame[NODE_FRAME_SIZE]);

/* A turn for each of up to `count` milliseconds after `*ms`, which goes along; ends early with a frame. */
size_t board_run(board *self, uint32_t *ms, uint32_t count, uint8_t frame[NODE_FRAME_SIZE]);

#endif
