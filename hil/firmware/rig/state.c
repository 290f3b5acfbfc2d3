#define _GNU_SOURCE
#include "state.h"

#include <inttypes.h>

static const char *truth(bool value)
{
    return value ? "true" : "false";
}

static void tell_relay(const host *self, text *out)
{
    const size_t count = self->moved < HOST_TRANSITIONS ? self->moved : HOST_TRANSITIONS;
    size_t i;

    text_add(out, ", \"relay\": %s, \"transitions\": [", truth(self->relay));
    for (i = 0; i < count; i++) {
        const transition *at = &self->transitions[(self->next + HOST_TRANSITIONS - count + i) % HOST_TRANSITIONS];

        text_add(out, "%s{\"at_ns\": %" PRIu64 ", \"closed\": %s, \"why\": \"%s\"}", i > 0 ? ", " : "", at->at_ns,
            truth(at->closed), why_name(at->why));
    }
    text_add(out, "]");
}

static void tell_inputs(const host *self, text *out)
{
    static const char *const names[] = {"", "\"a\"", "\"b\"", "\"a\", \"b\""};
    size_t i;

    text_add(out, ", \"inputs\": {");
    for (i = 0; i < self->inputs; i++) {
        const contact *at = &self->contacts[i];

        text_add(out, "%s", i > 0 ? ", " : "");
        text_quote(out, at->name);
        text_add(out, ": {\"a\": %s, \"b\": %s, \"pressed\": %s, \"cut\": [%s], \"welded\": [%s]",
            truth(contact_closed(at, CHANNEL_A)), truth(contact_closed(at, CHANNEL_B)), truth(at->pressed),
            names[at->cut], names[at->welded]);
        text_add(out, ", \"changed_ns\": %" PRIu64 "}", at->changed_ns);
    }
    text_add(out, "}");
}

static void tell_counters(const host *self, text *out)
{
    const node_counters *heard = &self->logic.counters;

    text_add(out, ", \"counters\": {\"frames_sent\": %" PRIu32 ", \"frames_unheard\": %" PRIu32,
        self->frames[LINE_SENT], self->frames[LINE_UNHEARD]);
    text_add(out, ", \"frames_dropped\": %" PRIu32 ", \"late_turns\": %" PRIu32, self->frames[LINE_DROPPED],
        self->late_turns);
    text_add(out, ", \"orders_good\": %" PRIu32 ", \"orders_off\": %" PRIu32 ", \"orders_bad_echo\": %" PRIu32,
        heard->orders_good, heard->orders_off, heard->orders_bad_echo);
    text_add(out, ", \"packets_bad\": %" PRIu32 ", \"bytes_heard\": %" PRIu32 ", \"bytes_ignored\": %" PRIu32 "}",
        heard->packets_bad, heard->bytes_heard, self->bytes_ignored);
}

static void tell_frames(const host *self, text *out)
{
    const node_window *sent = &self->logic.sent;

    if (sent->count == 0)
        text_add(out, ", \"seq\": null");
    else
        text_add(out, ", \"seq\": %u", (unsigned)sent->seq[(sent->next + NODE_ECHO_WINDOW - 1) % NODE_ECHO_WINDOW]);
    text_add(out, ", \"echo\": %u, \"node_ms\": %" PRIu32 ", \"faults\": %u", (unsigned)self->logic.echo,
        host_ms(now_ns()) - self->logic.started_ms, (unsigned)self->logic.told.faults);
}

void state_tell(const host *self, text *out)
{
    tell_relay(self, out);
    tell_inputs(self, out);
    tell_counters(self, out);
    tell_frames(self, out);
    text_add(out, ", \"silent\": %s, \"deaf\": %s, \"repeating\": %s, \"jammed\": %s", truth(self->silent),
        truth(self->deaf), truth(self->repeating), truth(self->jammed));
    text_add(out, ", \"plugged\": %s, \"opened\": %s", truth(self->line.master >= 0),
        truth(line_listening(&self->line) >= 0));
}
