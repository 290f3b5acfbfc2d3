/* Looks at permits and says when they were withdrawn.
 *
 *     watch PRIORITY PERMIT...
 *
 * Orders on standard input, one line each: `withdrawn LOOK_US I...`: until the motion deadline of each permit I
 * (from 0) is 0; `stopped LOOK_US`: until the robot's own reader (sdk/c) no longer permits motion by all of them
 * together. LOOK_US: between two looks; a watcher that never sleeps takes a processor from what it watches. The
 * answer is `armed` once it looks, then `seen I NS` for each (I: -1 for the reader; CLOCK_MONOTONIC), `late I` for
 * what was not seen in 5 s.
 */
#include "bench.h"
#include "robot_warden.h"

#include <inttypes.h>

#define LATE_NS (5 * NS_PER_S)
#define READER (-1)

static rw_permits permits;

static int stopped(int which)
{
    rw_verdict verdict;

    if (which != READER)
        return rw_load_(permits.permit[which].words, 1) == 0;
    rw_read(&permits, &verdict);
    return !verdict.may_move;
}

static void look(const int *wanted, size_t count, long look_us)
{
    const struct timespec pause = {0, look_us * 1000};
    uint64_t begun_ns = now_ns(), seen_ns[RW_MAX_PERMITS] = {0};
    size_t i, left = count;

    printf("armed\n");
    while (left > 0 && now_ns() - begun_ns < LATE_NS) {
        for (i = 0; i < count; i++)
            if (seen_ns[i] == 0 && stopped(wanted[i])) {
                seen_ns[i] = now_ns();
                left--;
            }
        if (left > 0)
            (void)clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
    }
    for (i = 0; i < count; i++)
        if (seen_ns[i] != 0)
            printf("seen %d %" PRIu64 "\n", wanted[i], seen_ns[i]);
        else
            printf("late %d\n", wanted[i]);
}

/* What one line asks for; the number of permits, 0: nothing that can be looked at. */
static size_t understand(char *line, int *wanted, long *look_us)
{
    char *word = strtok(line, " \n");
    const int reader = word != NULL && strcmp(word, "stopped") == 0;
    size_t count = 0;

    if (!reader && (word == NULL || strcmp(word, "withdrawn") != 0))
        return 0;
    word = strtok(NULL, " \n");
    *look_us = word == NULL ? 0 : atol(word);
    if (*look_us < 1 || *look_us > 100000)
        return 0;
    if (reader)
        wanted[count++] = READER;
    while ((word = strtok(NULL, " \n")) != NULL) {
        int which = atoi(word);

        if (reader || count == RW_MAX_PERMITS || which < 0 || (size_t)which >= permits.count
            || permits.permit[which].words == NULL)
            return 0;
        wanted[count++] = which;
    }
    return count;
}

int main(int argc, char **argv)
{
    char line[64];
    int wanted[RW_MAX_PERMITS];
    long look_us;

    if (argc < 3 || !rw_init(&permits, (const char *const *)argv + 2, (size_t)argc - 2))
        return 2;
    settle(atoi(argv[1]));
    while (fgets(line, sizeof line, stdin) != NULL) {
        size_t count = understand(line, wanted, &look_us);

        if (count == 0)
            return 2;
        look(wanted, count, look_us);
    }
    return 0;
}
