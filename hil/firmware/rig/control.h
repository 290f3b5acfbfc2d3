/* Where the rig takes its orders: a SOCK_SEQPACKET socket, one JSON object in a packet each way, as
 * hil/node_control_socket.py. A client that does not take its answer is dropped; nobody is ever waited for. */
#ifndef WARDEN_CONTROL_H
#define WARDEN_CONTROL_H

#include <poll.h>

#include "text.h"

#define CONTROL_CLIENTS 8
#define CONTROL_POLLED (1 + CONTROL_CLIENTS)
#define CONTROL_MOST 4096 /* bytes of an order */

typedef struct control {
    const char *path; /* NULL: there is none */
    int listener;
    int client[CONTROL_CLIENTS]; /* -1: free */
} control;

/* What answers one packet. Whatever does not fit into `answer` loses the client. */
typedef void control_answer(void *owner, const char *packet, size_t length, text *answer);

/* Listens on `path` (may be NULL), for its owner only. False, and a line on stderr, where that cannot be. */
bool control_open(control *self, const char *path);

/* Hangs up on everybody and takes the name away. */
void control_close(control *self);

/* What to poll: CONTROL_POLLED entries, -1 where there is nothing. */
void control_watch(const control *self, struct pollfd *polled);

/* Serves what `polled` found. */
void control_serve(control *self, const struct pollfd *polled, control_answer *answer, void *owner);

#endif
