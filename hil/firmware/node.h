/* The safety node's logic: the node's side of PROTOCOL 4, "Safety node", for any microcontroller with a C99
 * compiler. No allocation, no floating point, no library, no clock: the platform says what time it is, brings the
 * bytes and the pins, and carries out what this says. `host.c` is one platform; README.md says how to write another.
 *
 *     static node self;
 *     node_init(&self, 0x0003, ms());                           // two inputs are wired; the coil is off
 *     for (;;) {                                                // every millisecond
 *         node_hear(&self, bytes, count, ms());                 // what the line brought, often nothing
 *         set_coil(node_relay(&self, ms()));
 *         node_poll(&self, pins_a(), pins_b(), mirror(), ms());
 *         set_coil(node_relay(&self, ms()));
 *         set_supply(node_supply(&self));                       // of the contacts, until the next reading
 *         send(frame, node_frame(&self, frame, ms()));
 *     }
 *
 * Time is a free-running count of milliseconds that may wrap; only differences are used. One node belongs to one
 * thread: an interrupt may collect bytes for `node_hear`, but calls nothing here.
 */
#ifndef WARDEN_NODE_H
#define WARDEN_NODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    NODE_INPUTS = 16,
    NODE_PERIOD_MS = 10,   /* from one frame to the next; a change is told at once */
    NODE_SILENCE_MS = 100, /* so long without a good order, and the relay opens */
    NODE_ECHO_WINDOW = 16, /* a good order echoes one of so many latest seq */

    /* A contact that opens is told at the poll that sees it. It is told as closed only after so long without a
     * single open reading: bounce, and more. The agent takes a node as gone after 50 ms without a new frame and looks
     * every 10 ms, so an opening that a poll has seen is either heard by it or the line is stale meanwhile. */
    NODE_STEADY_MS = 80,
    NODE_SETTLE_MS = 50,       /* a relay that has not followed its coil by then is broken; one takes 5 to 30 ms */
    NODE_TEST_EVERY_MS = 1000, /* from one line test to the next; each takes one poll */

    NODE_FRAME_SIZE = 22, /* a status frame on the line, delimiter included */
    NODE_ORDER_SIZE = 13, /* an order on the line, without its delimiter */

    NODE_ENERGISE = 0xA5, /* the only byte that means on */
    NODE_FIRST_SEQ = 1    /* not 0, which an agent echoes that has heard nothing yet */
};

/* Bits of the `faults` byte that the logic finds by itself; the others are the platform's. While any is set the
 * relay is open. */
enum {
    NODE_FAULT_RELAY = 0x01, /* it did not follow its coil; until it is seen open and the agent has ordered off */
    NODE_FAULT_INPUT = 0x02  /* an input read closed without supply; until a line test finds none */
};

/* Why the coil is as it is. */
typedef enum node_why { NODE_START, NODE_PERMITTED, NODE_ORDERED, NODE_SILENT, NODE_FAULTY } node_why;

/* What came over the line since `node_init`. */
typedef struct node_counters {
    uint32_t orders_good, orders_off, orders_bad_echo, packets_bad, bytes_heard;
} node_counters;

/* One of the two contacts of every input; bit i is input i, 1 = closed (safe). */
typedef struct node_channel {
    unsigned closed; /* as told to the agent */
    unsigned stuck;  /* read closed without supply: told as open */
    uint32_t open_ms[NODE_INPUTS]; /* when each last read open */
} node_channel;

/* What the agent is told, sequence and time apart. */
typedef struct node_picture {
    unsigned a, b;
    bool relay;
    uint8_t faults;
} node_picture;

/* The `seq` of the latest frames, a ring. */
typedef struct node_window {
    uint16_t seq[NODE_ECHO_WINDOW];
    size_t count, next;
} node_window;

/* Everything. To be read by a platform for its own records, and written by nobody else. */
typedef struct node {
    uint32_t now_ms, started_ms;
    /* the line */
    uint8_t packet[NODE_ORDER_SIZE];
    size_t heard; /* bytes since the last delimiter; one more than `packet` holds: too many */
    node_counters counters;
    /* the relay */
    uint16_t permit;
    node_why why;
    uint32_t good_ms, followed_ms;
    bool relay_closed, relay_broken;
    /* the inputs */
    unsigned wired;
    node_channel a, b;
    bool testing;
    uint32_t tested_ms;
    /* the frames */
    bool speaking;
    uint16_t next_seq, echo;
    uint8_t platform_faults;
    uint32_t frame_ms;
    node_window sent;
    node_picture told;
} node;

/* Power-on, and every reset after. `wired`: bit i set where input i exists; the others read open for ever. For
 * NODE_STEADY_MS the node only looks: no frame goes out before the contacts are known. */
void node_init(node *self, uint16_t wired, uint32_t now_ms);

/* Bytes from the line, in any pieces; the verdict on the relay follows at once. */
void node_hear(node *self, const uint8_t *data, size_t length, uint32_t now_ms);

/* The line broke (overrun, framing error): the frame that has only begun is forgotten. */
void node_line_broke(node *self);

/* The pins as they are now, 1 = closed; `relay_closed`: the relay's mirror contact. To be called every millisecond,
 * or at the latest when `node_next_ms` says and whenever a pin changes; and not before the contacts' supply has had
 * time to follow `node_supply`. */
void node_poll(node *self, uint16_t a, uint16_t b, bool relay_closed, uint32_t now_ms);

/* What the platform found out by itself (supply, temperature, memory): `faults` bits of its own choice, 0 for none. */
void node_report(node *self, uint8_t faults);

/* True: the coil is to be energised. Judged anew at each call; false until an agent has proven itself. */
bool node_relay(const node *self, uint32_t now_ms);

/* False: the contacts' supply is to be off until the next `node_poll`, which is a line test. */
bool node_supply(const node *self);

/* The frame that is due now, into `out`; its length, or 0 while none is due. It counts as sent. */
size_t node_frame(node *self, uint8_t out[NODE_FRAME_SIZE], uint32_t now_ms);

/* True while what was last told differs from what is: a frame is due at once. */
bool node_changed(const node *self);

/* In how many milliseconds after `now_ms` the node must be polled at the latest: 0 to NODE_PERIOD_MS. */
uint32_t node_next_ms(const node *self, uint32_t now_ms);

#endif
