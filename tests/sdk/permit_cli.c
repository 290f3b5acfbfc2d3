/* What the C reader makes of permit files, for tests and benchmarks: "by the C reader's account".
 *
 *     permit_cli PATH...              one verdict, now
 *     permit_cli --ask PATH...        for each line on standard input, a time in ns (0: now), one verdict
 *     permit_cli --follow PATH...     polls every millisecond; a line at the start and at each change of
 *                                     may_move or may_power; ends on SIGTERM or when standard input ends
 *
 * A verdict is one line: mono_ns=... may_move=0|1 may_power=0|1 speed_permille=... epoch=... response=...
 */
#include "robot_warden.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

static void print_verdict(uint64_t now_ns, const rw_verdict *verdict)
{
    printf("mono_ns=%" PRIu64 " may_move=%d may_power=%d speed_permille=%u epoch=%" PRIu64 " response=%u\n", now_ns,
           verdict->may_move, verdict->may_power, (unsigned)verdict->speed_permille, verdict->epoch,
           (unsigned)verdict->response);
    (void)fflush(stdout);
}

static int ask(rw_permits *permits)
{
    char line[64];
    rw_verdict verdict;

    while (fgets(line, sizeof line, stdin) != NULL) {
        uint64_t now_ns = strtoull(line, NULL, 10);

        rw_read_at(permits, now_ns, &verdict);
        print_verdict(now_ns, &verdict);
    }
    return 0;
}

static int input_ended(void)
{
    struct pollfd input = {0, POLLIN, 0};
    char byte;

    return poll(&input, 1, 0) > 0 && read(0, &byte, 1) == 0;
}

/* Absolute wake-ups: a late one does not push the next. */
static void wait_for_next(struct timespec *next)
{
    next->tv_nsec += 1000000;
    if (next->tv_nsec >= 1000000000) {
        next->tv_nsec -= 1000000000;
        next->tv_sec++;
    }
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, next, NULL) == EINTR)
        continue;
}

static int follow(rw_permits *permits)
{
    rw_verdict verdict, last = {-1, -1, 0, 0, 0};
    struct timespec next;

    (void)clock_gettime(CLOCK_MONOTONIC, &next);
    while (!input_ended()) {
        rw_read(permits, &verdict);
        if (verdict.may_move != last.may_move || verdict.may_power != last.may_power)
            print_verdict(rw_now_ns(), &verdict);
        last = verdict;
        wait_for_next(&next);
    }
    return 0;
}

int main(int count, char **words)
{
    const char *mode = count > 1 && strncmp(words[1], "--", 2) == 0 ? words[1] : "";
    int first = *mode ? 2 : 1, result = 0;
    rw_permits permits;
    rw_verdict verdict;

    if (count <= first || !rw_init(&permits, (const char *const *)&words[first], (size_t)(count - first))) {
        (void)fprintf(stderr, "usage: permit_cli [--ask | --follow] PATH... (at most %d)\n", RW_MAX_PERMITS);
        return 2;
    }
    if (strcmp(mode, "--ask") == 0) {
        result = ask(&permits);
    } else if (strcmp(mode, "--follow") == 0) {
        result = follow(&permits);
    } else if (*mode == '\0') {
        rw_read(&permits, &verdict);
        print_verdict(rw_now_ns(), &verdict);
    } else {
        (void)fprintf(stderr, "permit_cli: unknown mode %s\n", mode);
        result = 2;
    }
    rw_close(&permits);
    return result;
}
