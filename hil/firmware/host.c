/* The reference platform: the node's logic turned by a Linux process (host.h). One thread, one poll, and one timer
 * set to the moment at which the logic wants to be polled next. Frames and the relay never wait for anybody.
 */
#define _GNU_SOURCE
#include "host.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "rig/orders.h"

#define NS_PER_S UINT64_C(1000000000)
/* How long the rig waits for the frame about a contact that has closed: the logic tells it when it is steady, at the
 * poll after, and this process has to be given its turn. */
#define TELL_NS (2 * NODE_STEADY_MS * NS_PER_MS)

static volatile sig_atomic_t told_to_end;

uint64_t now_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

uint32_t host_ms(uint64_t at_ns)
{
    return (uint32_t)(at_ns / NS_PER_MS);
}

/* Metal ---------------------------------------------------------------------------------------------------------- */

bool contact_closed(const contact *self, unsigned channel)
{
    return (self->cut & channel) == 0 && ((self->welded & channel) != 0 || !self->pressed);
}

static uint16_t pins(const host *self, unsigned channel)
{
    unsigned closed = 0;
    size_t i;

    for (i = 0; node_supply(&self->logic) && i < self->inputs; i++)
        if (contact_closed(&self->contacts[i], channel))
            closed |= 1U << i;
    return (uint16_t)closed;
}

const char *why_name(node_why why)
{
    switch (why) {
    case NODE_PERMITTED:
        return "permitted";
    case NODE_ORDERED:
        return "ordered";
    case NODE_SILENT:
        return "silence";
    case NODE_FAULTY:
        return "fault";
    case NODE_START:
        break;
    }
    return "reboot"; /* a relay that is open from the start has not moved yet */
}

/* The relay's contact follows its coil, unless it is jammed. True when it moved. */
static bool move_relay(host *self, uint64_t at_ns)
{
    const bool coil = node_relay(&self->logic, host_ms(at_ns));
    transition *moved = &self->transitions[self->next];
    char data[160];
    text entry;

    if (self->jammed || coil == self->relay)
        return false;
    self->relay = coil;
    moved->at_ns = at_ns;
    moved->closed = coil;
    moved->why = self->logic.why;
    self->next = (self->next + 1) % HOST_TRANSITIONS;
    self->moved++;
    text_init(&entry, data, sizeof data);
    text_add(&entry, "{\"at_ns\": %" PRIu64 ", \"what\": \"relay\", \"closed\": %s, \"why\": \"%s\"}\n", at_ns,
        coil ? "true" : "false", why_name(moved->why));
    host_report(self, &entry);
    return true;
}

/* The logic's turn ----------------------------------------------------------------------------------------------- */

void host_boot(host *self)
{
    const uint8_t faults = self->logic.platform_faults;

    node_init(&self->logic, (uint16_t)((1UL << self->inputs) - 1), host_ms(now_ns()));
    node_report(&self->logic, faults);
}

/* The frame that is due, unless the rig keeps the node silent. A repeating one sends the same `seq` again. */
static void say(host *self, uint64_t at_ns)
{
    const bool changed = node_changed(&self->logic);
    const node_window before = self->logic.sent;
    const uint16_t seq = self->logic.next_seq;
    uint8_t frame[NODE_FRAME_SIZE];
    uint64_t sent_ns;
    size_t length;
    line_outcome outcome;

    length = self->silent ? 0 : node_frame(&self->logic, frame, host_ms(at_ns));
    if (length == 0)
        return;
    if (self->repeating) {
        self->logic.next_seq = seq;
        if (before.count > 0 && before.seq[(before.next + NODE_ECHO_WINDOW - 1) % NODE_ECHO_WINDOW] == seq)
            self->logic.sent = before;
    }
    sent_ns = now_ns();
    outcome = line_send(&self->line, frame, length);
    self->frames[outcome]++;
    if (changed) {
        self->told = true;
        self->told_ns = outcome == LINE_SENT ? sent_ns : 0;
    }
}

void host_turn(host *self, const uint8_t *data, size_t length)
{
    const uint64_t at_ns = now_ns();
    const uint32_t at_ms = host_ms(at_ns);

    if (self->deaf) {
        self->bytes_ignored += (uint32_t)length;
        length = 0;
        node_line_broke(&self->logic);
    }
    node_hear(&self->logic, data, length, at_ms);
    /* What the pins say may open the relay, and its mirror contact is a pin too. */
    do {
        (void)move_relay(self, at_ns);
        node_poll(&self->logic, pins(self, CHANNEL_A), pins(self, CHANNEL_B), self->relay, at_ms);
    } while (move_relay(self, at_ns));
    say(self, at_ns);
}

/* The loop ------------------------------------------------------------------------------------------------------- */

enum { TIMER, LINE, CONTROL, POLLED = CONTROL + CONTROL_POLLED };

static void set_timer(const host *self, uint64_t due_ns)
{
    struct itimerspec when = {{0, 0}, {0, 0}};

    when.it_value.tv_sec = (time_t)(due_ns / NS_PER_S);
    when.it_value.tv_nsec = (long)(due_ns % NS_PER_S);
    (void)timerfd_settime(self->timer, TFD_TIMER_ABSTIME, &when, NULL);
}

/* Waits for something to hear, for an order, or for the logic's next moment; then turns. Signals are let in only
 * while it waits. */
static void go_on(host *self, bool with_orders)
{
    const uint64_t from_ns = now_ns();
    const uint64_t due_ns
        = (from_ns / NS_PER_MS + node_next_ms(&self->logic, host_ms(from_ns))) * NS_PER_MS;
    struct pollfd polled[POLLED];
    uint8_t data[LINE_MOST];
    sigset_t none;
    int found;

    set_timer(self, due_ns);
    polled[TIMER].fd = self->timer;
    polled[LINE].fd = line_listening(&self->line);
    polled[TIMER].events = polled[LINE].events = POLLIN;
    control_watch(&self->control, polled + CONTROL);
    (void)sigemptyset(&none);
    found = ppoll(polled, with_orders ? POLLED : CONTROL, NULL, &none);
    if (now_ns() >= due_ns + NODE_PERIOD_MS * NS_PER_MS)
        self->late_turns++;
    host_turn(self, data, line_receive(&self->line, data, sizeof data));
    if (found > 0 && with_orders)
        control_serve(&self->control, polled + CONTROL, orders_answer, self);
}

/* True while the logic tells something else than its contacts are. */
static bool is_untold(const host *self)
{
    const node_picture *told = &self->logic.told;

    return node_supply(&self->logic)
        ? told->a != pins(self, CHANNEL_A) || told->b != pins(self, CHANNEL_B)
        : true;
}

void host_until_told(host *self)
{
    const uint64_t until_ns = now_ns() + TELL_NS;

    while (!self->told && !self->silent && is_untold(self) && !told_to_end && now_ns() < until_ns)
        go_on(self, false);
}

/* The process ---------------------------------------------------------------------------------------------------- */

void host_report(host *self, const text *entry)
{
    /* One write: whole up to a kill. A full disk loses a line of the report, never a turn of the node. */
    if (self->report >= 0 && write(self->report, entry->data, entry->length) < 0)
        (void)fprintf(stderr, "node: report: %s\n", strerror(errno));
}

static void report_start(host *self)
{
    char data[NODE_INPUTS * HOST_NAME * 6 + 160];
    text entry;
    size_t i;

    text_init(&entry, data, sizeof data);
    text_add(&entry, "{\"at_ns\": %" PRIu64 ", \"what\": \"start\", \"pid\": %ld, \"inputs\": [", now_ns(),
        (long)getpid());
    for (i = 0; i < self->inputs; i++) {
        text_add(&entry, "%s", i > 0 ? ", " : "");
        text_quote(&entry, self->contacts[i].name);
    }
    text_add(&entry, "]}\n");
    host_report(self, &entry);
}

static void report_end(host *self)
{
    char data[80];
    text entry;

    text_init(&entry, data, sizeof data);
    text_add(&entry, "{\"at_ns\": %" PRIu64 ", \"what\": \"end\"}\n", now_ns());
    host_report(self, &entry);
}

static void on_signal(int number)
{
    (void)number;
    told_to_end = 1;
}

static void take_signals(void)
{
    struct sigaction action;
    sigset_t both;

    (void)sigemptyset(&both);
    (void)sigaddset(&both, SIGTERM);
    (void)sigaddset(&both, SIGINT);
    (void)sigprocmask(SIG_BLOCK, &both, NULL);
    (void)memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    (void)sigaction(SIGTERM, &action, NULL);
    (void)sigaction(SIGINT, &action, NULL);
}

int host_run(host *self, const char *socket_path)
{
    int result = EXIT_FAILURE;

    take_signals();
    self->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    host_boot(self);
    if (self->timer >= 0 && control_open(&self->control, socket_path) && line_plug(&self->line)) {
        report_start(self);
        for (self->running = true; self->running && !told_to_end;)
            go_on(self, true);
        report_end(self);
        result = EXIT_SUCCESS;
    }
    line_unplug(&self->line);
    control_close(&self->control);
    return result;
}
