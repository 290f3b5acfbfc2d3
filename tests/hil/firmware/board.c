#include "board.h"

size_t board_size(void)
{
    return sizeof(board);
}

void board_boot(board *self, uint16_t wired, uint32_t ms)
{
    node_init(&self->logic, wired, ms);
    if (!self->jammed)
        self->relay = false;
}

void board_contacts(board *self, uint16_t a, uint16_t b)
{
    self->a = a;
    self->b = b;
}

void board_shorts(board *self, uint16_t a, uint16_t b)
{
    self->short_a = a;
    self->short_b = b;
}

void board_jam(board *self, bool jammed)
{
    self->jammed = jammed;
}

void board_report(board *self, uint8_t faults)
{
    node_report(&self->logic, faults);
}

void board_break_line(board *self)
{
    node_line_broke(&self->logic);
}

void board_look(const board *self, uint32_t numbers[BOARD_NUMBERS])
{
    numbers[BOARD_RELAY] = self->relay;
    numbers[BOARD_MOVED_MS] = self->moved_ms;
    numbers[BOARD_WHY] = (uint32_t)self->logic.why;
    numbers[BOARD_SUPPLY] = node_supply(&self->logic);
    numbers[BOARD_GOOD] = self->logic.counters.orders_good;
    numbers[BOARD_OFF] = self->logic.counters.orders_off;
    numbers[BOARD_BAD_ECHO] = self->logic.counters.orders_bad_echo;
    numbers[BOARD_BAD] = self->logic.counters.packets_bad;
    numbers[BOARD_BYTES] = self->logic.counters.bytes_heard;
}

bool board_coil(const board *self, uint32_t ms)
{
    return node_relay(&self->logic, ms);
}

uint32_t board_next(const board *self, uint32_t ms)
{
    return node_next_ms(&self->logic, ms);
}

static void set_coil(board *self, bool energised, uint32_t ms)
{
    if (self->jammed || energised == self->relay)
        return;
    self->relay = energised;
    self->moved_ms = ms;
}

size_t board_turn(board *self, const uint8_t *data, size_t length, uint32_t ms, uint8_t frame[NODE_FRAME_SIZE])
{
    const unsigned supplied = node_supply(&self->logic) ? 0xFFFF : 0;

    node_hear(&self->logic, data, length, ms);
    set_coil(self, node_relay(&self->logic, ms), ms);
    node_poll(&self->logic, (uint16_t)((self->a & supplied) | self->short_a),
        (uint16_t)((self->b & supplied) | self->short_b), self->relay, ms);
    set_coil(self, node_relay(&self->logic, ms), ms);
    return node_frame(&self->logic, frame, ms);
}

size_t board_run(board *self, uint32_t *ms, uint32_t count, uint8_t frame[NODE_FRAME_SIZE])
{
    size_t length = 0;

    for (; count > 0 && length == 0; count--)
        length = board_turn(self, NULL, 0, ++*ms, frame);
    return length;
}
