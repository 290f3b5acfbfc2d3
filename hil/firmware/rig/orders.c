#define _GNU_SOURCE
#include "orders.h"

#include <inttypes.h>
#include <string.h>

#include "../host.h"
#include "json.h"
#include "noise.h"
#include "state.h"

#define MOST_NOISE LINE_MOST
#define LIST_MOST 1024
#define MORE_MOST 16384

typedef struct row row;

/* One order, checked and complete, and what it leaves behind. */
typedef struct order {
    host *host;
    const row *row;
    contact *contact;
    unsigned channels;
    int64_t number, seed;
    uint64_t at_ns;      /* when it is carried out */
    text more;           /* members of the answer, beside when */
    const char *refused; /* why it could not be carried out */
} order;

typedef void deed(order *it);

/* Which channels an order may name, and which it means where it names none. */
typedef enum channels { NO_CHANNEL, ONE_CHANNEL, ANY_CHANNEL } channels;

/* One order. `flag`: where in `host` the boolean is that it sets to `on`, where there is no deed. `number`: the name
 * of its whole number, from `low` to `high`. */
struct row {
    const char *name;
    deed *deed;
    size_t flag;
    bool on, on_input, seeded;
    channels channels;
    const char *number;
    int64_t low, high;
};

/* What each order does ------------------------------------------------------------------------------------------- */

static void alter(const order *it, bool pressed, unsigned cut_now, unsigned welded_now)
{
    contact *self = it->contact;
    const bool a = contact_closed(self, CHANNEL_A), b = contact_closed(self, CHANNEL_B);

    self->pressed = pressed;
    self->cut = cut_now;
    self->welded = welded_now;
    if (contact_closed(self, CHANNEL_A) != a || contact_closed(self, CHANNEL_B) != b)
        self->changed_ns = it->at_ns;
}

static void press(order *it)
{
    alter(it, true, it->contact->cut, it->contact->welded);
}

static void release(order *it)
{
    alter(it, false, it->contact->cut, it->contact->welded);
}

static void cut(order *it)
{
    alter(it, it->contact->pressed, it->contact->cut | it->channels, it->contact->welded);
}

static void mend(order *it)
{
    alter(it, it->contact->pressed, it->contact->cut & ~it->channels, it->contact->welded);
}

static void weld(order *it)
{
    alter(it, it->contact->pressed, it->contact->cut, it->contact->welded | it->channels);
}

static void unweld(order *it)
{
    alter(it, it->contact->pressed, it->contact->cut, it->contact->welded & ~it->channels);
}

/* The one order that reaches into the logic: no node does this by itself. */
static void skew(order *it)
{
    it->host->logic.next_seq = (uint16_t)(it->host->logic.next_seq + it->number);
}

static void set_faults(order *it)
{
    node_report(&it->host->logic, (uint8_t)it->number);
}

static void reboot(order *it)
{
    host_boot(it->host);
}

static void garbage(order *it)
{
    static const char *const outcomes[LINE_OUTCOMES] = {"sent", "unheard", "dropped"};
    uint8_t noise[MOST_NOISE];
    const size_t count = (size_t)it->number;
    size_t i;

    noise_fill((uint64_t)it->seed, noise, count);
    text_add(&it->more, ", \"sent\": \"%s\", \"bytes\": \"", outcomes[line_send(&it->host->line, noise, count)]);
    for (i = 0; i < count; i++)
        text_add(&it->more, "%02x", noise[i]);
    text_add(&it->more, "\"");
}

static void unplug(order *it)
{
    line_unplug(&it->host->line);
}

static void plug(order *it)
{
    if (!line_plug(&it->host->line))
        it->refused = "the port cannot be made; standard error says why";
}

static void state(order *it)
{
    state_tell(it->host, &it->more);
}

/* The table ------------------------------------------------------------------------------------------------------ */

static const row rows[] = {
    {.name = "press", .deed = press, .on_input = true},
    {.name = "release", .deed = release, .on_input = true},
    {.name = "cut", .deed = cut, .on_input = true, .channels = ONE_CHANNEL},
    {.name = "mend", .deed = mend, .on_input = true, .channels = ANY_CHANNEL},
    {.name = "weld", .deed = weld, .on_input = true, .channels = ONE_CHANNEL},
    {.name = "unweld", .deed = unweld, .on_input = true, .channels = ANY_CHANNEL},
    {.name = "silent", .flag = offsetof(host, silent), .on = true},
    {.name = "speak", .flag = offsetof(host, silent), .on = false},
    {.name = "deaf", .flag = offsetof(host, deaf), .on = true},
    {.name = "listen", .flag = offsetof(host, deaf), .on = false},
    {.name = "repeat", .flag = offsetof(host, repeating), .on = true},
    {.name = "advance", .flag = offsetof(host, repeating), .on = false},
    {.name = "skew", .deed = skew, .number = "step", .low = 1, .high = 0xFFFF},
    {.name = "faults", .deed = set_faults, .number = "value", .low = 0, .high = 0xFF},
    {.name = "jam", .flag = offsetof(host, jammed), .on = true},
    {.name = "free", .flag = offsetof(host, jammed), .on = false},
    {.name = "reboot", .deed = reboot},
    {.name = "garbage", .deed = garbage, .number = "count", .low = 1, .high = MOST_NOISE, .seeded = true},
    {.name = "unplug", .deed = unplug},
    {.name = "plug", .deed = plug},
    {.name = "state", .deed = state},
    {.name = "quit", .flag = offsetof(host, running), .on = false},
};

#define ROWS (sizeof rows / sizeof rows[0])

/* Checking: each gives false and says in `why` what it wants instead --------------------------------------------- */

static bool check_row(const json_object *message, const row **found, text *why)
{
    const json_member *name = json_find(message, "order");
    size_t i;

    for (i = 0; name != NULL && name->kind == JSON_STRING && i < ROWS; i++)
        if (json_is(&name->string, rows[i].name)) {
            *found = &rows[i];
            return true;
        }
    text_add(why, "order must be one of ");
    for (i = 0; i < ROWS; i++)
        text_add(why, "%s%s", i > 0 ? ", " : "", rows[i].name);
    return false;
}

static bool is_wanted(const row *kind, const json_string *key)
{
    return json_is(key, "order") || (kind->on_input && json_is(key, "input"))
        || (kind->channels != NO_CHANNEL && json_is(key, "channel")) || (kind->seeded && json_is(key, "seed"))
        || (kind->number != NULL && json_is(key, kind->number));
}

static bool check_keys(const json_object *message, const row *kind, text *why)
{
    size_t i;

    for (i = 0; i < message->count; i++)
        if (!is_wanted(kind, &message->member[i].key)) {
            const json_string *key = &message->member[i].key;
            char name[JSON_BYTES + 1] = {0};

            (void)memcpy(name, key->bytes, key->whole ? key->length : 0);
            text_add(why, "%s takes no %s", kind->name, name);
            return false;
        }
    return true;
}

static bool check_input(const json_object *message, order *it, text *why)
{
    const json_member *name = json_find(message, "input");
    host *self = it->host;
    size_t i;

    for (i = 0; name != NULL && name->kind == JSON_STRING && i < self->inputs; i++)
        if (json_is(&name->string, self->contacts[i].name)) {
            it->contact = &self->contacts[i];
            return true;
        }
    text_add(why, "input must be one of ");
    for (i = 0; i < self->inputs; i++)
        text_add(why, "%s%s", i > 0 ? ", " : "", self->contacts[i].name);
    return false;
}

static bool check_channels(const json_object *message, channels wanted, unsigned *found, text *why)
{
    const json_member *name = json_find(message, "channel");

    *found = wanted == ONE_CHANNEL ? CHANNEL_A : CHANNEL_A | CHANNEL_B;
    if (name == NULL)
        return true;
    if (name->kind == JSON_STRING && json_is(&name->string, "a"))
        *found = CHANNEL_A;
    else if (name->kind == JSON_STRING && json_is(&name->string, "b"))
        *found = CHANNEL_B;
    else if (wanted == ONE_CHANNEL || name->kind != JSON_STRING || !json_is(&name->string, "both")) {
        text_add(why, "channel must be one of a, b%s", wanted == ONE_CHANNEL ? "" : ", both");
        return false;
    }
    return true;
}

static bool check_number(const json_object *message, const char *name, int64_t low, int64_t high, int64_t *found,
    text *why)
{
    const json_member *number = json_find(message, name);

    if (number == NULL || number->kind != JSON_INTEGER || number->integer < low || number->integer > high) {
        text_add(why, "%s must be a whole number from %" PRId64 " to %" PRId64, name, low, high);
        return false;
    }
    *found = number->integer;
    return true;
}

static bool check(const char *packet, size_t length, order *it, text *why)
{
    json_object message;
    const row *kind;

    if (!json_parse(packet, length, &message)) {
        text_add(why, "an order is JSON: one flat JSON object of strings and whole numbers");
        return false;
    }
    if (!check_row(&message, &it->row, why) || !check_keys(&message, it->row, why))
        return false;
    kind = it->row;
    if (kind->on_input && !check_input(&message, it, why))
        return false;
    if (kind->channels != NO_CHANNEL && !check_channels(&message, kind->channels, &it->channels, why))
        return false;
    if (kind->number != NULL && !check_number(&message, kind->number, kind->low, kind->high, &it->number, why))
        return false;
    return !kind->seeded || json_find(&message, "seed") == NULL
        || check_number(&message, "seed", 0, INT64_MAX, &it->seed, why);
}

/* Carrying out, answering, reporting ----------------------------------------------------------------------------- */

static void tell_times(const order *it, text *out)
{
    text_add(out, ", \"at_ns\": %" PRIu64 ", \"frame_ns\": ", it->at_ns);
    if (it->host->told_ns == 0)
        text_add(out, "null");
    else
        text_add(out, "%" PRIu64, it->host->told_ns);
}

static void report(const order *it)
{
    static const char *const names[] = {"", "a", "b", "both"};
    char data[LIST_MOST];
    text entry;

    text_init(&entry, data, sizeof data);
    text_add(&entry, "{\"what\": \"order\", \"order\": \"%s\"", it->row->name);
    tell_times(it, &entry);
    if (it->row->on_input) {
        text_add(&entry, ", \"input\": ");
        text_quote(&entry, it->contact->name);
    }
    if (it->row->channels != NO_CHANNEL)
        text_add(&entry, ", \"channel\": \"%s\"", names[it->channels]);
    if (it->row->number != NULL)
        text_add(&entry, ", \"%s\": %" PRId64, it->row->number, it->number);
    if (it->row->seeded)
        text_add(&entry, ", \"seed\": %" PRId64, it->seed);
    text_add(&entry, "}\n");
    host_report(it->host, &entry);
}

/* A frame that tells of it has gone out when this returns, if any could. */
static void carry_out(order *it)
{
    host *self = it->host;

    it->at_ns = now_ns();
    self->told = false;
    self->told_ns = 0;
    if (it->row->deed != NULL)
        it->row->deed(it);
    else
        *(bool *)((char *)self + it->row->flag) = it->row->on;
    host_turn(self, NULL, 0);
    if (it->row->on_input)
        host_until_told(self);
}

static void refuse(text *answer, const char *why)
{
    text_add(answer, "{\"ok\": false, \"reason\": ");
    text_quote(answer, why);
    text_add(answer, "}");
}

void orders_answer(void *owner, const char *packet, size_t length, text *answer)
{
    static char why_data[LIST_MOST], more_data[MORE_MOST];
    order it;
    text why;

    (void)memset(&it, 0, sizeof it);
    it.host = owner;
    text_init(&why, why_data, sizeof why_data);
    text_init(&it.more, more_data, sizeof more_data);
    if (!check(packet, length, &it, &why)) {
        refuse(answer, why.data);
        return;
    }
    carry_out(&it);
    if (it.refused != NULL) {
        refuse(answer, it.refused);
        return;
    }
    if (it.row->deed != state)
        report(&it);
    text_add(answer, "{\"ok\": true, \"order\": \"%s\"", it.row->name);
    tell_times(&it, answer);
    text_add(answer, "%s}", it.more.data);
    answer->cut = answer->cut || it.more.cut;
}
