/* The safety node on this machine: a pseudo-terminal for its UART, memory for its contacts and its relay, the
 * kernel's clock. host.c turns it; rig/ lets a person or a test press, cut and break what a board has in metal.
 */
#ifndef WARDEN_HOST_H
#define WARDEN_HOST_H

#include "line.h"
#include "node.h"
#include "rig/control.h"

#define NS_PER_MS UINT64_C(1000000)
#define HOST_NAME 33 /* bytes of an input's name, its end included */
#define HOST_TRANSITIONS 64

/* Channels of a contact, as bits. */
#define CHANNEL_A 1U
#define CHANNEL_B 2U

/* One input: two normally-closed contacts that a button opens. All times: CLOCK_MONOTONIC, nanoseconds. */
typedef struct contact {
    char name[HOST_NAME];
    bool pressed;
    unsigned cut, welded; /* channels; a cut wire is in series with a welded contact */
    uint64_t changed_ns;  /* when either channel last read differently */
} contact;

/* One movement of the relay's own contact. */
typedef struct transition {
    uint64_t at_ns;
    bool closed;
    node_why why;
} transition;

typedef struct host {
    node logic;
    line line;
    control control;
    int timer, report; /* descriptors; no report: -1 */
    bool running;
    uint64_t started_ns; /* of the logic */
    uint32_t frames[LINE_OUTCOMES], late_turns, bytes_ignored;
    /* metal */
    contact contacts[NODE_INPUTS];
    size_t inputs;
    bool relay;
    transition transitions[HOST_TRANSITIONS]; /* a ring */
    size_t moved, next;
    /* what is wrong with it */
    bool jammed, silent, deaf, repeating;
    /* the last frame that told of a change */
    bool told;
    uint64_t told_ns; /* right before the kernel took it; 0: it did not */
} host;

uint64_t now_ns(void);

/* Milliseconds as the logic counts them. */
uint32_t host_ms(uint64_t at_ns);

/* The logic starts again, as at power-on. */
void host_boot(host *self);

/* One turn: the logic hears `data`, moves the relay, reads the pins and says what is due. */
void host_turn(host *self, const uint8_t *data, size_t length);

/* Goes on until the line was told of what an order did to a contact, or nobody will be. */
void host_until_told(host *self);

/* What the logic would read at one channel (CHANNEL_A, CHANNEL_B) with the supply on. */
bool contact_closed(const contact *self, unsigned channel);

/* The name of a reason for the relay's last movement. */
const char *why_name(node_why why);

/* One line of the report, its end included. */
void host_report(host *self, const text *entry);

/* Runs until SIGTERM, SIGINT or `running` is false; the inputs, the line and the report are there already.
 * `socket_path`: where it takes orders, may be NULL. The process's exit code. */
int host_run(host *self, const char *socket_path);

#endif
