/* The harness for "input edge -> permit withdrawn and relay order written": two safety nodes in one process.
 *
 *     node LINK_OURS PERMIT_OURS LINK_REFERENCE PERMIT_REFERENCE PRIORITY
 *
 * Each node is a pseudo-terminal behind a symlink, and lives on between the measurements. `run N SEED` on standard
 * input opens the contacts of the one and the other in turn, N times each, at random phases of their ticks, and
 * prints, in nanoseconds of CLOCK_MONOTONIC,
 *
 *     sample WHO EDGE READ WITHDRAWN WRITTEN ARRIVED
 *
 * EDGE: right before the frame with the open contacts is written. READ: the far end has read it. WITHDRAWN: the
 * mapped permit's motion deadline is seen to be 0. WRITTEN: the far end has written the order to de-energise.
 * ARRIVED: that order is read here. READ and WRITTEN are told by inotify from within the far end's own system call:
 * between EDGE and READ, and between WRITTEN and ARRIVED, a pseudo-terminal waits for an ordinary kernel thread,
 * which a UART does not do when it sends.
 *
 * `stuck WHO`: it does not run and must be resumed. `late WHO`: no reaction within 2 s. `done`: the end of a run.
 * Anything on standard input ends a run early.
 */
#include "bench.h"
#include "line.h"

#include <inttypes.h>
#include <poll.h>
#include <sys/inotify.h>

/* How long the harness looks without a pause for what must follow a read within microseconds. After that it sleeps
 * between two looks: whoever spins in SCHED_FIFO keeps the kernel thread above from running. */
#define SPIN_NS (1 * NS_PER_MS)
#define LOOK_NS 50000
#define MOST_FRAMES 8
#define OPEN_NS (5 * NS_PER_MS)
#define LATE_NS (2 * NS_PER_S)
#define STUCK_NS (1 * NS_PER_S)

typedef struct node {
    const char *who, *permit_path;
    int master, watch;
    volatile uint64_t *words;
    splitter split;
    uint16_t seq, echo;
    int contacts, relay;
    uint64_t due_ns;
} node;

/* What was seen of one sample; 0: not yet. `written` has one time for each frame, `heard` counts those read here. */
typedef struct sighting {
    uint64_t edge_ns, read_ns, withdrawn_ns, arrived_ns;
    uint64_t written_ns[MOST_FRAMES];
    size_t written, heard;
} sighting;

static node nodes[2];
static uint64_t begun_ns, chance;

static void plug(node *self, const char *link)
{
    char name[64];
    int slave;

    self->master = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    if (self->master < 0 || grantpt(self->master) != 0 || unlockpt(self->master) != 0
        || ptsname_r(self->master, name, sizeof name) != 0)
        die("pseudo-terminal");
    slave = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC); /* kept: the line never hangs up */
    if (slave < 0)
        die(name);
    make_raw(slave);
    self->watch = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (self->watch < 0 || inotify_add_watch(self->watch, name, IN_ACCESS | IN_MODIFY) < 0)
        die("inotify");
    (void)unlink(link);
    if (symlink(name, link) != 0)
        die(link);
}

static size_t make_frame(node *self, uint8_t *out)
{
    uint8_t frame[NODE_BODY + CRC_SIZE] = {1, 1};

    put16(frame + 2, ++self->seq);
    put32(frame + 4, (uint32_t)((now_ns() - begun_ns) / NS_PER_MS));
    put16(frame + 8, self->contacts ? 0xFFFF : 0);
    put16(frame + 10, self->contacts ? 0xFFFF : 0);
    frame[12] = (uint8_t)self->relay;
    put16(frame + 14, self->echo);
    return encode(frame, NODE_BODY, out);
}

static void put(node *self, const uint8_t *frame, size_t length)
{
    if (write(self->master, frame, length) != (ssize_t)length && errno != EAGAIN)
        die("write to the line");
}

static void send_frame(node *self)
{
    uint8_t out[LONGEST + 1];
    size_t length = make_frame(self, out);

    self->due_ns = now_ns() + TICK_NS;
    put(self, out, length);
}

/* Takes what the agent says; the number of frames. `off`, where given: which of them ordered the relay off first. */
static size_t hear(node *self, size_t *off)
{
    uint8_t data[256], frame[LONGEST];
    ssize_t got = read(self->master, data, sizeof data), i;
    size_t frames = 0;

    for (i = 0; i < got; i++) {
        size_t length = split(&self->split, data[i]);

        if (length == 0 || !decode(self->split.kept, length, AGENT_BODY, 2, frame))
            continue;
        frames++;
        if (off != NULL && self->relay && frame[6] != ENERGISE)
            *off = frames;
        self->echo = get16(frame + 2);
        self->relay = frame[6] == ENERGISE;
    }
    return frames;
}

static uint64_t motion_until(node *self)
{
    if (self->words == NULL && access(self->permit_path, R_OK) == 0)
        self->words = map_permit(self->permit_path, O_RDONLY);
    return self->words == NULL ? 0 : self->words[1];
}

static int runs(node *self)
{
    return self->relay && motion_until(self) > now_ns();
}

static void keep_up(void)
{
    size_t i;

    for (i = 0; i < 2; i++)
        if (now_ns() >= nodes[i].due_ns)
            send_frame(&nodes[i]);
}

/* Both nodes live on until `until_ns`, or until there is something to read on standard input. */
static int live(uint64_t until_ns)
{
    struct pollfd polled[3];
    size_t i;

    for (i = 0; i < 2; i++) {
        polled[i].fd = nodes[i].master;
        polled[i].events = POLLIN;
    }
    polled[2].fd = STDIN_FILENO;
    polled[2].events = POLLIN;
    for (;;) {
        uint64_t at_ns = now_ns(), next_ns = until_ns;
        struct timespec wait = {0, 0};

        keep_up();
        if (at_ns >= until_ns)
            return 0;
        for (i = 0; i < 2; i++)
            next_ns = nodes[i].due_ns < next_ns ? nodes[i].due_ns : next_ns;
        if (next_ns > at_ns)
            wait.tv_nsec = (long)(next_ns - at_ns);
        if (ppoll(polled, 3, &wait, NULL) < 0 && errno != EINTR)
            die("ppoll");
        for (i = 0; i < 2; i++) {
            int relay = nodes[i].relay;

            (void)hear(&nodes[i], NULL);
            if (nodes[i].relay != relay)
                send_frame(&nodes[i]); /* at once on a change */
        }
        if (polled[2].revents != 0)
            return 1;
    }
}

/* xorshift64: 0 to `below_ns` - 1. */
static uint64_t pick(uint64_t below_ns)
{
    chance ^= chance << 13;
    chance ^= chance >> 7;
    chance ^= chance << 17;
    return chance % below_ns;
}

static int until_running(node *self)
{
    uint64_t told_ns = now_ns();

    self->contacts = 1;
    while (!runs(self)) {
        if (now_ns() - told_ns >= STUCK_NS) {
            printf("stuck %s\n", self->who);
            told_ns = now_ns();
        }
        if (live(now_ns() + NS_PER_MS))
            return 0;
    }
    return 1;
}

/* Reads and writes of the far end since the last look, as inotify tells them, put down as of `at_ns`. */
static void notice(node *self, sighting *seen, uint64_t at_ns)
{
    uint8_t data[1024];
    ssize_t got = read(self->watch, data, sizeof data), at = 0;

    while (at < got) {
        struct inotify_event event;

        memcpy(&event, data + at, sizeof event);
        at += (ssize_t)(sizeof event + event.len);
        if ((event.mask & IN_ACCESS) != 0 && seen->withdrawn_ns == 0)
            seen->read_ns = at_ns;
        if ((event.mask & IN_MODIFY) != 0 && seen->written < MOST_FRAMES)
            seen->written_ns[seen->written++] = at_ns;
    }
}

/* Waits for the next thing to see. Between a read and what follows it, nothing: there the harness spins. */
static void pause_for(node *self, const sighting *seen)
{
    struct pollfd polled[2] = {{self->watch, POLLIN, 0}, {self->master, POLLIN, 0}};
    struct timespec wait = {0, (long)NS_PER_MS};
    int expected = seen->read_ns != 0 && (seen->withdrawn_ns == 0 || seen->written == 0);

    if (expected && now_ns() - seen->read_ns < SPIN_NS)
        return;
    if (expected)
        wait.tv_nsec = LOOK_NS;
    (void)ppoll(polled, 2, &wait, NULL);
}

static void look(node *self, sighting *seen)
{
    size_t off = 0, frames;

    notice(self, seen, now_ns());
    if (seen->withdrawn_ns == 0 && self->words[1] == 0) {
        uint64_t at_ns = now_ns();

        notice(self, seen, at_ns); /* read, at the latest, before it was withdrawn */
        seen->withdrawn_ns = at_ns;
    }
    if (seen->written == 0)
        return; /* reading an empty line in a loop would hold up the far end's write to it */
    frames = hear(self, &off);
    if (off != 0 && seen->arrived_ns == 0) {
        seen->arrived_ns = now_ns();
        notice(self, seen, seen->arrived_ns); /* written, at the latest, before it arrived */
        seen->heard += off;
    } else if (seen->arrived_ns == 0)
        seen->heard += frames;
}

static void tell(const node *self, const sighting *seen)
{
    size_t which = seen->heard < seen->written ? seen->heard : seen->written;

    if (seen->read_ns == 0 || seen->withdrawn_ns == 0 || seen->arrived_ns == 0 || which == 0)
        printf("late %s\n", self->who);
    else
        printf("sample %s %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", self->who, seen->edge_ns,
            seen->read_ns, seen->withdrawn_ns, seen->written_ns[which - 1], seen->arrived_ns);
}

/* Opens the contacts and looks until every effect is seen. */
static void sample(node *self)
{
    sighting seen;
    uint8_t out[LONGEST + 1];
    size_t length;

    memset(&seen, 0, sizeof seen);
    (void)hear(self, NULL);
    notice(self, &seen, 0); /* what was before does not count */
    memset(&seen, 0, sizeof seen);
    self->contacts = 0;
    length = make_frame(self, out);
    seen.edge_ns = now_ns();
    put(self, out, length);
    self->due_ns = seen.edge_ns + TICK_NS;
    while ((seen.withdrawn_ns == 0 || seen.arrived_ns == 0) && now_ns() - seen.edge_ns < LATE_NS) {
        pause_for(self, &seen);
        look(self, &seen);
        keep_up();
    }
    send_frame(self); /* the relay has dropped */
    tell(self, &seen);
}

/* One after the other, `count` times each, or until something comes on standard input. */
static void measure(unsigned long count)
{
    unsigned long done = 0;

    while (done < 2 * count) {
        node *self = &nodes[done % 2];

        if (!until_running(self) || live(now_ns() + NS_PER_MS + pick(TICK_NS)))
            break;
        if (!runs(self))
            continue; /* it stopped by itself meanwhile, which is no reaction to us */
        sample(self);
        done++;
        if (live(now_ns() + OPEN_NS))
            break;
        self->contacts = 1;
        send_frame(self);
    }
    nodes[0].contacts = nodes[1].contacts = 1;
    printf("done\n");
}

int main(int argc, char **argv)
{
    char line[64];
    unsigned long count, seed;
    size_t i;

    if (argc != 6)
        return 2;
    begun_ns = now_ns();
    for (i = 0; i < 2; i++) {
        nodes[i].who = i == 0 ? "ours" : "reference";
        nodes[i].permit_path = argv[2 + 2 * i];
        nodes[i].contacts = 1;
        plug(&nodes[i], argv[1 + 2 * i]);
    }
    settle(atoi(argv[5]));
    for (;;) {
        if (!live(now_ns() + NS_PER_S))
            continue;
        if (fgets(line, sizeof line, stdin) == NULL)
            return 0;
        if (sscanf(line, "run %lu %lu", &count, &seed) == 2) {
            chance = seed * UINT64_C(0x9E3779B97F4A7C15) | 1;
            measure(count);
        }
    }
}
