#define _GNU_SOURCE
#include "control.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define ANSWER_MOST 65536

static bool fail(const char *path, const char *reason)
{
    (void)fprintf(stderr, "node: %s: %s\n", path, reason);
    return false;
}

/* True when somebody listens at that address. */
static bool is_taken(const struct sockaddr_un *address)
{
    const int probe = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    const bool taken = probe >= 0
        && (connect(probe, (const struct sockaddr *)address, sizeof *address) == 0 || errno == EAGAIN);

    if (probe >= 0)
        (void)close(probe);
    return taken;
}

/* Takes a name that a dead node left behind, but not one that somebody listens on, nor another kind of file. */
static bool take_name(int listener, const char *path)
{
    struct sockaddr_un address;
    struct stat there;
    mode_t before;
    int result;

    (void)memset(&address, 0, sizeof address);
    address.sun_family = AF_UNIX;
    if (strlen(path) >= sizeof address.sun_path)
        return fail(path, "is too long for a socket");
    (void)strcpy(address.sun_path, path);
    if (lstat(path, &there) == 0 && !S_ISSOCK(there.st_mode))
        return fail(path, "exists and is not a socket");
    if (is_taken(&address))
        return fail(path, "another simulator listens there");
    (void)unlink(path);
    before = umask(0177);
    result = bind(listener, (const struct sockaddr *)&address, sizeof address);
    (void)umask(before);
    return result == 0 || fail(path, strerror(errno));
}

bool control_open(control *self, const char *path)
{
    size_t i;

    self->path = NULL;
    self->listener = -1;
    for (i = 0; i < CONTROL_CLIENTS; i++)
        self->client[i] = -1;
    if (path == NULL)
        return true;
    self->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (self->listener < 0)
        return fail(path, strerror(errno));
    if (!take_name(self->listener, path))
        return false;
    self->path = path;
    return listen(self->listener, CONTROL_CLIENTS) == 0 || fail(path, strerror(errno));
}

static void drop(control *self, size_t which)
{
    (void)close(self->client[which]);
    self->client[which] = -1;
}

void control_close(control *self)
{
    size_t i;

    for (i = 0; i < CONTROL_CLIENTS; i++)
        if (self->client[i] >= 0)
            drop(self, i);
    if (self->listener >= 0)
        (void)close(self->listener);
    self->listener = -1;
    if (self->path != NULL)
        (void)unlink(self->path);
    self->path = NULL;
}

void control_watch(const control *self, struct pollfd *polled)
{
    size_t i;

    polled[0].fd = self->listener;
    for (i = 0; i < CONTROL_CLIENTS; i++)
        polled[1 + i].fd = self->client[i];
    for (i = 0; i < CONTROL_POLLED; i++) {
        polled[i].events = POLLIN;
        polled[i].revents = 0;
    }
}

static void admit(control *self)
{
    const int fd = accept4(self->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    size_t i;

    for (i = 0; fd >= 0 && i < CONTROL_CLIENTS; i++)
        if (self->client[i] < 0) {
            self->client[i] = fd;
            return;
        }
    if (fd >= 0)
        (void)close(fd);
}

/* False when that client has gone, or does not take its answers. */
static bool serve_one(int fd, control_answer *answer, void *owner)
{
    static char packet[CONTROL_MOST], data[ANSWER_MOST];
    const ssize_t length = recv(fd, packet, sizeof packet, MSG_TRUNC);
    text reply;

    if (length < 0 && (errno == EAGAIN || errno == EINTR))
        return true;
    if (length <= 0)
        return false;
    text_init(&reply, data, sizeof data);
    if ((size_t)length > sizeof packet)
        text_add(&reply, "{\"ok\": false, \"reason\": \"an order is at most %d bytes\"}", CONTROL_MOST);
    else
        answer(owner, packet, (size_t)length, &reply);
    return !reply.cut && send(fd, reply.data, reply.length, MSG_NOSIGNAL) == (ssize_t)reply.length;
}

void control_serve(control *self, const struct pollfd *polled, control_answer *answer, void *owner)
{
    size_t i;

    for (i = 0; i < CONTROL_CLIENTS; i++)
        if (polled[1 + i].fd >= 0 && polled[1 + i].revents != 0 && !serve_one(self->client[i], answer, owner))
            drop(self, i);
    if (polled[0].fd >= 0 && polled[0].revents != 0)
        admit(self);
}
