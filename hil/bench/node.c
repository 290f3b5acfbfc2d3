/* The harness for "input edge -> permit withdrawn and relay order written": two safety nodes in one process.
 *
 *     node LINK_OURS PERMIT_OURS LINK_REFERENCE PERMIT_REFERENCE PRIORITY
 *
 * Each node is a pseudo-terminal behind a symlink. `run N SEED` on standard input opens the contacts of the one and
 * the other in turn, N times each, at random phases of their ticks, and prints for each
 *
 *     sample WHO EDGE_NS WITHDRAWN_NS ORDERED_NS
 *
 * EDGE_NS: right before the frame with the open contacts is written; WITHDRAWN_NS: the mapped permit's motion
 * deadline is seen to be 0; ORDERED_NS: the frame that orders the relay off is read at the node's end.
 * `stuck WHO`: it does not run, a guardian must resume it. `late WHO`: no reaction within 2 s.
 */
#include "bench.h"
#include "line.h"

#include <poll.h>

#define LOOK_NS 2000 /* between two looks at the permit: the processor is free for the kernel's own work */
#define OPEN_NS (15 * NS_PER_MS)
#define LATE_NS (2 * NS_PER_S)
#define STUCK_NS (1 * NS_PER_S)

typedef struct node {
    const char *who, *permit_path;
    int master;
    volatile uint64_t *words;
    splitter split;
    uint16_t seq, echo;
    int contacts, relay;
    uint64_t due_ns;
} node;

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

/* Takes what the agent says. 1: the relay was ordered off just now. */
static int hear(node *self)
{
    uint8_t data[256], frame[LONGEST];
    ssize_t got = read(self->master, data, sizeof data), i;
    int before = self->relay;

    for (i = 0; i < got; i++) {
        size_t length = split(&self->split, data[i]);

        if (length == 0 || !decode(self->split.kept, length, AGENT_BODY, 2, frame))
            continue;
        self->echo = get16(frame + 2);
        self->relay = frame[6] == ENERGISE;
    }
    return before && !self->relay;
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

            (void)hear(&nodes[i]);
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

/* Opens the contacts and looks until both effects are seen. */
static void sample(node *self)
{
    const struct timespec look = {0, LOOK_NS};
    uint64_t edge_ns, withdrawn_ns = 0, ordered_ns = 0;
    uint8_t out[LONGEST + 1];
    size_t length;

    self->contacts = 0;
    length = make_frame(self, out);
    edge_ns = now_ns();
    put(self, out, length);
    self->due_ns = edge_ns + TICK_NS;
    while ((withdrawn_ns == 0 || ordered_ns == 0) && now_ns() - edge_ns < LATE_NS) {
        if (withdrawn_ns == 0 && self->words[1] == 0)
            withdrawn_ns = now_ns();
        if (ordered_ns == 0 && hear(self))
            ordered_ns = now_ns();
        keep_up();
        (void)clock_nanosleep(CLOCK_MONOTONIC, 0, &look, NULL);
    }
    send_frame(self);
    if (withdrawn_ns != 0 && ordered_ns != 0)
        printf("sample %s %llu %llu %llu\n", self->who, (unsigned long long)edge_ns,
            (unsigned long long)withdrawn_ns, (unsigned long long)ordered_ns);
    else
        printf("late %s\n", self->who);
}

/* One after the other, `count` times each, or until something comes on standard input. */
static void measure(unsigned long count)
{
    unsigned long done = 0;

    while (done < 2 * count) {
        node *self = &nodes[done % 2];

        if (!until_running(self) || live(now_ns() + NS_PER_MS + pick(2 * TICK_NS)))
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
