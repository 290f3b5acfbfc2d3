/* The safety node's logic; node.h says what it is for. Every bound is a constant of node.h, every array is indexed
 * only below it, and no function waits or calls anything that is not in this file. */
#include "node.h"

enum {
    VERSION = 1,
    STATUS_TYPE = 1,
    ORDER_TYPE = 2,
    STATUS_BODY = 16,
    ORDER_BODY = 8,
    CRC = 4,
    TOO_LONG = NODE_ORDER_SIZE + 1,

    /* Not a bool: of all that a flipped bit or a stray write can leave there, only this one value closes a relay. */
    PERMIT = 0x5AC3
};

/* Bytes ---------------------------------------------------------------------------------------------------------- */

static uint16_t get16(const uint8_t *at)
{
    return (uint16_t)(at[0] | (unsigned)at[1] << 8);
}

static uint32_t get32(const uint8_t *at)
{
    return get16(at) | (uint32_t)get16(at + 2) << 16;
}

static void put16(uint8_t *at, unsigned value)
{
    at[0] = (uint8_t)(value & 0xFF);
    at[1] = (uint8_t)(value >> 8 & 0xFF);
}

static void put32(uint8_t *at, uint32_t value)
{
    put16(at, (unsigned)(value & 0xFFFF));
    put16(at + 2, (unsigned)(value >> 16));
}

/* CRC-32 (IEEE 802.3) bit by bit: a frame is 16 bytes, a table would be 1 KiB of flash. */
static uint32_t crc32(const uint8_t *data, size_t length)
{
    uint32_t crc = UINT32_C(0xFFFFFFFF);
    size_t i;
    unsigned bit;

    for (i = 0; i < length; i++) {
        crc ^= data[i];
        for (bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ ((crc & 1) != 0 ? UINT32_C(0xEDB88320) : 0);
    }
    return ~crc;
}

/* COBS of `length` bytes, at most 253, and the delimiter: `out` takes `length` + 2. */
static void stuff(const uint8_t *plain, size_t length, uint8_t *out)
{
    size_t mark = 0, i;

    for (i = 0; i < length; i++) {
        out[1 + i] = plain[i];
        if (plain[i] == 0) {
            out[mark] = (uint8_t)(1 + i - mark);
            mark = 1 + i;
        }
    }
    out[mark] = (uint8_t)(1 + length - mark);
    out[1 + length] = 0;
}

/* The inverse for a packet of an order's size; false where a block goes past its end. */
static bool unstuff(const uint8_t packet[NODE_ORDER_SIZE], uint8_t plain[NODE_ORDER_SIZE - 1])
{
    size_t at = 0;

    while (at < NODE_ORDER_SIZE) {
        const size_t end = at + packet[at];

        if (end == at || end > NODE_ORDER_SIZE)
            return false;
        if (at > 0)
            plain[at - 1] = 0;
        for (at++; at < end; at++)
            plain[at - 1] = packet[at];
    }
    return true;
}

/* The relay ------------------------------------------------------------------------------------------------------ */

static uint8_t faults(const node *self)
{
    unsigned found = self->platform_faults;

    if (self->relay_broken)
        found |= NODE_FAULT_RELAY;
    if ((self->a.stuck | self->b.stuck) != 0)
        found |= NODE_FAULT_INPUT;
    return (uint8_t)found;
}

static void drop(node *self, node_why why)
{
    if (self->permit == PERMIT)
        self->why = why;
    self->permit = 0;
}

/* A good order. What is closed stays closed; what is open closes only if its mirror contact was seen open since (a
 * welded relay is found out before it is relied on) and nothing is broken. */
static void permit(node *self)
{
    if (self->permit != PERMIT) {
        if (self->relay_closed || faults(self) != 0)
            return;
        self->why = NODE_PERMITTED;
    }
    self->permit = PERMIT;
    self->good_ms = self->now_ms;
}

bool node_relay(const node *self, uint32_t now_ms)
{
    return self->permit == PERMIT && now_ms - self->good_ms < NODE_SILENCE_MS && faults(self) == 0;
}

/* It is broken when it has not followed its coil for NODE_SETTLE_MS. */
static void watch_relay(node *self, bool closed)
{
    self->relay_closed = closed;
    if (closed == node_relay(self, self->now_ms))
        self->followed_ms = self->now_ms;
    else if (self->now_ms - self->followed_ms >= NODE_SETTLE_MS)
        self->relay_broken = true;
}

/* Time goes on; every call that is told the time begins here.
 *
 * Whoever has not been called for as long as the relay's silence cannot say when the bytes came that wait for it, and
 * the echo in them is of frames from before: none of it proves that the agent is there now. */
static void advance(node *self, uint32_t now_ms)
{
    const bool stalled = now_ms - self->now_ms >= NODE_SILENCE_MS;

    self->now_ms = now_ms;
    if (stalled) {
        self->sent.count = 0;
        self->followed_ms = now_ms;
    }
    if (stalled || now_ms - self->good_ms >= NODE_SILENCE_MS)
        drop(self, NODE_SILENT);
}

/* What the agent says -------------------------------------------------------------------------------------------- */

static bool sent_lately(const node_window *sent, uint16_t seq)
{
    size_t i;

    for (i = 0; i < sent->count; i++)
        if (sent->seq[(sent->next + NODE_ECHO_WINDOW - 1 - i) % NODE_ECHO_WINDOW] == seq)
            return true;
    return false;
}

static void obey(node *self, uint16_t seq, uint16_t echo, uint8_t energise)
{
    self->echo = seq;
    if (energise != NODE_ENERGISE) {
        /* Off needs no echo: the safe direction is open to every whole frame. */
        self->counters.orders_off++;
        drop(self, NODE_ORDERED);
        self->relay_broken = self->relay_broken && self->relay_closed;
    } else if (!sent_lately(&self->sent, echo)) {
        self->counters.orders_bad_echo++;
    } else {
        self->counters.orders_good++;
        permit(self);
    }
}

/* What stood between two delimiters. */
static void judge(node *self)
{
    uint8_t plain[ORDER_BODY + CRC];

    if (self->heard != NODE_ORDER_SIZE || !unstuff(self->packet, plain)
        || get32(plain + ORDER_BODY) != crc32(plain, ORDER_BODY) || plain[0] != VERSION || plain[1] != ORDER_TYPE
        || plain[7] != 0)
        self->counters.packets_bad++;
    else
        obey(self, get16(plain + 2), get16(plain + 4), plain[6]);
}

void node_hear(node *self, const uint8_t *data, size_t length, uint32_t now_ms)
{
    size_t i;

    advance(self, now_ms);
    self->counters.bytes_heard += (uint32_t)length;
    for (i = 0; i < length; i++) {
        if (data[i] == 0) {
            if (self->heard > 0)
                judge(self);
            self->heard = 0;
        } else {
            if (self->heard < NODE_ORDER_SIZE)
                self->packet[self->heard] = data[i];
            if (self->heard < TOO_LONG)
                self->heard++;
        }
    }
}

void node_line_broke(node *self)
{
    self->heard = 0;
}

/* What the pins say ---------------------------------------------------------------------------------------------- */

static void watch_contacts(node_channel *self, unsigned reading, uint32_t now_ms)
{
    unsigned i;

    reading &= ~self->stuck;
    self->closed &= reading;
    for (i = 0; i < NODE_INPUTS; i++) {
        if ((reading >> i & 1) == 0)
            self->open_ms[i] = now_ms;
        else if (now_ms - self->open_ms[i] >= NODE_STEADY_MS)
            self->closed |= 1U << i;
    }
}

/* The supply was off, so whatever reads closed does so by itself: a short, a dead pin. It is told as open. */
static void test_contacts(node_channel *self, unsigned reading)
{
    self->stuck = reading;
    self->closed &= ~reading;
}

void node_poll(node *self, uint16_t a, uint16_t b, bool relay_closed, uint32_t now_ms)
{
    advance(self, now_ms);
    if (self->testing) {
        test_contacts(&self->a, a & self->wired);
        test_contacts(&self->b, b & self->wired);
        self->tested_ms = now_ms;
        self->testing = false;
    } else {
        watch_contacts(&self->a, a & self->wired, now_ms);
        watch_contacts(&self->b, b & self->wired, now_ms);
        self->testing = now_ms - self->tested_ms >= NODE_TEST_EVERY_MS;
    }
    watch_relay(self, relay_closed);
    if (faults(self) != 0)
        drop(self, NODE_FAULTY);
    if (!self->speaking && now_ms - self->started_ms >= NODE_STEADY_MS) {
        self->speaking = true;
        self->frame_ms = now_ms - NODE_PERIOD_MS;
    }
}

bool node_supply(const node *self)
{
    return !self->testing;
}

void node_report(node *self, uint8_t found)
{
    self->platform_faults = found;
    if (faults(self) != 0)
        drop(self, NODE_FAULTY);
}

/* What the node says --------------------------------------------------------------------------------------------- */

static node_picture look(const node *self)
{
    node_picture now;

    now.a = self->a.closed;
    now.b = self->b.closed;
    now.relay = self->relay_closed;
    now.faults = faults(self);
    return now;
}

bool node_changed(const node *self)
{
    const node_picture now = look(self), *told = &self->told;

    return self->speaking
        && (now.a != told->a || now.b != told->b || now.relay != told->relay || now.faults != told->faults);
}

static void remember(node_window *sent, uint16_t seq)
{
    sent->seq[sent->next] = seq;
    sent->next = (sent->next + 1) % NODE_ECHO_WINDOW;
    if (sent->count < NODE_ECHO_WINDOW)
        sent->count++;
}

static void write_frame(const node *self, uint16_t seq, uint8_t out[NODE_FRAME_SIZE])
{
    uint8_t plain[STATUS_BODY + CRC];

    plain[0] = VERSION;
    plain[1] = STATUS_TYPE;
    put16(plain + 2, seq);
    put32(plain + 4, self->now_ms - self->started_ms);
    put16(plain + 8, self->told.a);
    put16(plain + 10, self->told.b);
    plain[12] = self->told.relay;
    plain[13] = self->told.faults;
    put16(plain + 14, self->echo);
    put32(plain + STATUS_BODY, crc32(plain, STATUS_BODY));
    stuff(plain, sizeof plain, out);
}

size_t node_frame(node *self, uint8_t out[NODE_FRAME_SIZE], uint32_t now_ms)
{
    uint32_t elapsed_ms;

    advance(self, now_ms);
    elapsed_ms = now_ms - self->frame_ms;
    if (!self->speaking || (elapsed_ms < NODE_PERIOD_MS && !node_changed(self)))
        return 0;
    /* Periodic frames stay on their grid, whatever changes are told in between; what was missed is left out. */
    self->frame_ms += elapsed_ms - elapsed_ms % NODE_PERIOD_MS;
    self->told = look(self);
    write_frame(self, self->next_seq, out);
    remember(&self->sent, self->next_seq);
    self->next_seq = (uint16_t)(self->next_seq + 1U);
    return NODE_FRAME_SIZE;
}

/* The platform ---------------------------------------------------------------------------------------------------- */

static uint32_t left(uint32_t since_ms, uint32_t span_ms, uint32_t now_ms)
{
    return now_ms - since_ms < span_ms ? span_ms - (now_ms - since_ms) : 0;
}

static uint32_t least(uint32_t one, uint32_t other)
{
    return one < other ? one : other;
}

uint32_t node_next_ms(const node *self, uint32_t now_ms)
{
    uint32_t next_ms = NODE_PERIOD_MS;

    if (self->speaking)
        next_ms = least(next_ms, left(self->frame_ms, NODE_PERIOD_MS, now_ms));
    else
        next_ms = least(next_ms, left(self->started_ms, NODE_STEADY_MS, now_ms));
    if (self->permit == PERMIT)
        next_ms = least(next_ms, left(self->good_ms, NODE_SILENCE_MS, now_ms));
    return self->testing ? least(next_ms, 1) : next_ms; /* no longer without supply than it takes to read */
}

void node_init(node *self, uint16_t wired, uint32_t now_ms)
{
    static const node blank;
    size_t i;

    *self = blank;
    self->wired = wired;
    self->now_ms = self->started_ms = self->tested_ms = self->followed_ms = self->good_ms = now_ms;
    self->next_seq = NODE_FIRST_SEQ;
    self->relay_closed = true; /* not seen open yet */
    for (i = 0; i < NODE_INPUTS; i++)
        self->a.open_ms[i] = self->b.open_ms[i] = now_ms;
}
