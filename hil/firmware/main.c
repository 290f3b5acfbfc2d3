/* The command line of the node on this machine; the orders and the report are those of hil/node.py too.
 *
 *     node --link PORT [--control SOCKET] [--inputs N|NAME,NAME...] [--report FILE]
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host.h"

#define WRONG_USAGE 2

#ifdef __SANITIZE_ADDRESS__
/* There is no allocation to leak, and the leak checker hangs where a SIGCONT comes while it looks. */
const char *__asan_default_options(void);

const char *__asan_default_options(void)
{
    return "detect_leaks=0";
}
#endif

/* One more input; false when there are 16, or its name is taken, empty, too long or hard to print. */
static bool add_input(host *self, const char *name, size_t length)
{
    const uint64_t at_ns = now_ns();
    contact *added = &self->contacts[self->inputs];
    size_t i;

    if (self->inputs == NODE_INPUTS || length == 0 || length >= HOST_NAME)
        return false;
    (void)memcpy(added->name, name, length);
    added->name[length] = '\0';
    added->changed_ns = at_ns;
    for (i = 0; i < length; i++)
        if (name[i] <= ' ' || name[i] > '~')
            return false;
    for (i = 0; i < self->inputs; i++)
        if (strcmp(self->contacts[i].name, added->name) == 0)
            return false;
    self->inputs++;
    return true;
}

static bool add_count(host *self, unsigned long count)
{
    static const char *const names[] = {"estop", "bumper"}; /* PROTOCOL 8's plan */
    unsigned long i;

    for (i = 0; i < count; i++) {
        char name[HOST_NAME];

        if (i < 2)
            (void)strcpy(name, names[i]);
        else
            (void)snprintf(name, sizeof name, "input_%lu", i);
        if (!add_input(self, name, strlen(name)))
            return false;
    }
    return count > 0;
}

/* `2` or `estop,bumper`. */
static bool add_inputs(host *self, const char *words)
{
    size_t length = strspn(words, "0123456789");

    if (length > 0 && words[length] == '\0')
        return add_count(self, strtoul(words, NULL, 10));
    for (;;) {
        length = strcspn(words, ",");
        if (!add_input(self, words, length))
            return false;
        if (words[length] == '\0')
            return true;
        words += length + 1;
    }
}

static int usage(const char *wrong)
{
    (void)fprintf(stderr, "node: %s\nusage: node --link PORT [--control SOCKET] [--inputs N|NAME,NAME...]"
                          " [--report FILE]\n",
        wrong);
    return WRONG_USAGE;
}

int main(int count, char **words)
{
    static const struct option options[] = {{"link", required_argument, NULL, 'l'},
        {"control", required_argument, NULL, 'c'}, {"inputs", required_argument, NULL, 'i'},
        {"report", required_argument, NULL, 'r'}, {NULL, 0, NULL, 0}};
    static host self;
    const char *link = NULL, *socket_path = NULL, *inputs = "estop,bumper", *report = NULL;
    int found;

    while ((found = getopt_long(count, words, "", options, NULL)) != -1) {
        switch (found) {
        case 'l':
            link = optarg;
            break;
        case 'c':
            socket_path = optarg;
            break;
        case 'i':
            inputs = optarg;
            break;
        case 'r':
            report = optarg;
            break;
        default:
            return usage("wrong usage");
        }
    }
    if (link == NULL || optind < count)
        return usage("a --link is needed, and nothing but options");
    if (!add_inputs(&self, inputs))
        return usage("1 to 16 different inputs of 1 to 32 printable letters");
    line_init(&self.line, link);
    self.report = report == NULL ? -1 : open(report, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (report != NULL && self.report < 0) {
        (void)fprintf(stderr, "node: %s: %s\n", report, strerror(errno));
        return EXIT_FAILURE;
    }
    return host_run(&self, socket_path);
}
