#define _GNU_SOURCE
#include "line.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#define LONGEST_PATH 4096

static bool fail(const char *path, const char *reason)
{
    (void)fprintf(stderr, "node: %s %s\n", path, reason);
    return false;
}

void line_init(line *self, const char *link)
{
    (void)memset(self, 0, sizeof *self);
    self->link = link;
    self->master = -1;
}

/* Raw also means no echo: the node must not hear its own frames. */
static bool make_raw(const char *name)
{
    struct termios settings;
    const int fd = open(name, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    bool done;

    if (fd < 0)
        return false;
    done = tcgetattr(fd, &settings) == 0;
    if (done) {
        cfmakeraw(&settings);
        done = tcsetattr(fd, TCSANOW, &settings) == 0;
    }
    (void)close(fd);
    return done;
}

/* Replaces the link in one step, so that an agent never finds half a change. */
static bool point(const char *link, const char *target)
{
    char fresh[LONGEST_PATH];
    struct stat there;
    const int length = snprintf(fresh, sizeof fresh, "%s.%ld.new", link, (long)getpid());

    if (length < 0 || (size_t)length >= sizeof fresh)
        return fail(link, "is too long");
    if (lstat(link, &there) == 0 && !S_ISLNK(there.st_mode))
        return fail(link, "exists and is not a symlink");
    (void)unlink(fresh);
    if (symlink(target, fresh) != 0 || rename(fresh, link) != 0)
        return fail(link, strerror(errno));
    return true;
}

bool line_plug(line *self)
{
    int master;

    if (self->master >= 0)
        return true;
    master = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    if (master < 0)
        return fail("pseudo-terminal", strerror(errno));
    if (grantpt(master) != 0 || unlockpt(master) != 0 || ptsname_r(master, self->name, sizeof self->name) != 0
        || !make_raw(self->name) || !point(self->link, self->name)) {
        (void)close(master);
        return false;
    }
    self->master = master;
    self->torn = self->unread = false;
    return true;
}

void line_unplug(line *self)
{
    char target[sizeof self->name + 1];
    ssize_t length;

    if (self->master < 0)
        return;
    length = readlink(self->link, target, sizeof target);
    if (length >= 0 && (size_t)length == strlen(self->name) && memcmp(target, self->name, (size_t)length) == 0)
        (void)unlink(self->link);
    (void)close(self->master);
    self->master = -1;
}

int line_listening(const line *self)
{
    struct pollfd end = {self->master, 0, 0};

    /* A hang-up is told without being asked for. */
    return self->master >= 0 && poll(&end, 1, 0) == 0 ? self->master : -1;
}

/* From the master's side only half of the kernel's buffers can be emptied. */
static void forget(line *self)
{
    int fd;

    if (self->master < 0 || !self->unread)
        return;
    fd = open(self->name, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return; /* somebody has it open after all, for himself alone */
    (void)tcflush(fd, TCIFLUSH);
    (void)close(fd);
    self->torn = self->unread = false;
}

line_outcome line_send(line *self, const uint8_t *data, size_t length)
{
    /* After a torn frame a delimiter goes first, so that what is left of it does not spoil this one as well. */
    uint8_t whole[1 + LINE_MOST] = {0};
    const size_t from = self->torn ? 0 : 1, wanted = 1 - from + length;
    ssize_t taken;

    if (line_listening(self) < 0) {
        forget(self);
        return LINE_UNHEARD;
    }
    self->unread = true;
    (void)memcpy(whole + 1, data, length);
    taken = write(self->master, whole + from, wanted);
    if (taken < 0)
        return LINE_DROPPED;
    self->torn = (size_t)taken < wanted;
    return self->torn ? LINE_DROPPED : LINE_SENT;
}

size_t line_receive(line *self, uint8_t *data, size_t size)
{
    const ssize_t got = self->master < 0 ? 0 : read(self->master, data, size);

    return got > 0 ? (size_t)got : 0; /* EIO: closed; what the agent wrote last was read before */
}
