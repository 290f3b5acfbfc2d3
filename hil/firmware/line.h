/* The node's end of its serial line: a pseudo-terminal behind a symlink, which can be unplugged.
 *
 * A UART sends into the air when nobody has the port open. A pseudo-terminal would keep kilobytes of old frames for
 * whoever opens it next, so nothing is written while the far end is closed, and what a reader left is thrown away.
 */
#ifndef WARDEN_LINE_H
#define WARDEN_LINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What became of bytes given to the line: with the kernel, nobody there, no room for all of them. */
typedef enum line_outcome { LINE_SENT, LINE_UNHEARD, LINE_DROPPED, LINE_OUTCOMES } line_outcome;

typedef struct line {
    const char *link; /* the port's name for the agent */
    char name[64];    /* what the link points to */
    int master;       /* -1: unplugged */
    bool torn;        /* the kernel took only part of the last bytes */
    bool unread;      /* bytes went out since the far end was last seen closed */
} line;

/* Unplugged. `link` must stay where it is. */
void line_init(line *self, const char *link);

/* A new raw pseudo-terminal under the link; nothing when it is in. False, and errno or what stands in the way on
 * stderr, when it cannot be had. */
bool line_plug(line *self);

/* Whoever has the port open reads its end; the link is gone if it is still ours. */
void line_unplug(line *self);

/* The descriptor to wait on, -1 while nobody has the port open: it would be readable for ever. */
int line_listening(const line *self);

/* Hands bytes to the kernel now, or loses them. `length` is at most LINE_MOST. */
#define LINE_MOST 4096
line_outcome line_send(line *self, const uint8_t *data, size_t length);

/* What has come; 0 when nothing has, or the far end is closed. */
size_t line_receive(line *self, uint8_t *data, size_t size);

#endif
