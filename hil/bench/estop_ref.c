/* The reference for "input edge -> permit withdrawn and relay order written": C on epoll, the same job.
 *
 *     estop_ref PORT PERMIT PRIORITY
 *
 * One safety node on PORT: frames decoded and judged as drivers/serial_node does (CRC, kind, a later seq, younger
 * than 50 ms), both contacts of input 0 checked, the permit renewed every 10 ms, an agent frame sent every 20 ms.
 * Contacts open: permit withdrawn, then the order to de-energise written. Both closed: it runs again.
 */
#include "bench.h"
#include "line.h"

#define STALE_NS (50 * NS_PER_MS)

typedef struct agent {
    int port;
    permit held;
    splitter split;
    uint64_t heard_ns;
    uint16_t seq, echo;
    int heard, closed, running;
    unsigned ticks;
} agent;

static void send_frame(agent *self)
{
    uint8_t frame[AGENT_BODY + CRC_SIZE] = {1, 2}, out[sizeof frame + 2];
    size_t length;

    put16(frame + 2, ++self->seq);
    put16(frame + 4, self->echo);
    frame[6] = self->running ? ENERGISE : 0;
    length = encode(frame, AGENT_BODY, out);
    if (write(self->port, out, length) != (ssize_t)length && errno != EAGAIN)
        die("write");
}

static void turn(agent *self, uint64_t at_ns)
{
    int runs = self->heard && self->closed && at_ns - self->heard_ns < STALE_NS;

    if (runs)
        renew(&self->held, at_ns);
    else if (self->running)
        withdraw(&self->held);
    if (runs == self->running)
        return;
    self->running = runs;
    send_frame(self);
}

static void take(agent *self, const uint8_t *stretch, size_t length, uint64_t at_ns)
{
    uint8_t frame[LONGEST];
    uint16_t seq;

    if (!decode(stretch, length, NODE_BODY, 1, frame))
        return;
    seq = get16(frame + 2);
    if (self->heard && (uint16_t)(seq - self->echo - 1) >= 1 << 15)
        return;
    self->heard = 1;
    self->echo = seq;
    self->heard_ns = at_ns;
    self->closed = (get16(frame + 8) & 1) != 0 && (get16(frame + 10) & 1) != 0 && frame[13] == 0;
    if (self->closed != self->running)
        turn(self, at_ns);
}

static void on_port(agent *self)
{
    uint8_t data[1024];
    ssize_t got = read(self->port, data, sizeof data), i;
    uint64_t at_ns = now_ns();

    if (got < 0 && errno == EAGAIN)
        return;
    if (got <= 0)
        exit(0); /* the node hung up: the benchmark is over */
    for (i = 0; i < got; i++) {
        size_t length = split(&self->split, data[i]);

        if (length > 0)
            take(self, self->split.kept, length, at_ns);
    }
}

static void on_tick(agent *self, int ticker)
{
    uint64_t beats;

    if (read(ticker, &beats, sizeof beats) < 0)
        return;
    if (++self->ticks % 2 == 0)
        send_frame(self);
    turn(self, now_ns());
}

int main(int argc, char **argv)
{
    agent self;
    int poller = epoll_create1(EPOLL_CLOEXEC), ticker = make_ticker();

    if (argc != 4 || poller < 0)
        return 2;
    memset(&self, 0, sizeof self);
    self.port = open(argv[1], O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    if (self.port < 0)
        die(argv[1]);
    make_raw(self.port);
    self.held = hold_permit(argv[2]);
    add_reader(poller, self.port);
    add_reader(poller, ticker);
    add_reader(poller, STDIN_FILENO);
    settle(atoi(argv[3]));
    for (;;) {
        struct epoll_event events[4];
        int i, ready = epoll_wait(poller, events, 4, -1);

        for (i = 0; i < ready; i++) {
            if (events[i].data.fd == STDIN_FILENO)
                return 0;
            if (events[i].data.fd == self.port)
                on_port(&self);
            else
                on_tick(&self, ticker);
        }
    }
}
