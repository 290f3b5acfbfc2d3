/* Looks at permits without a pause and says when one was withdrawn.
 *
 *     watch PRIORITY PERMIT...
 *
 * Orders on standard input, one line each: `withdrawn I`: until the motion deadline of permit I (from 0) is 0;
 * `stopped`: until the robot's own reader (sdk/c) no longer permits motion by all of them together. The answer is
 * `armed` once it looks, then `seen NS` (CLOCK_MONOTONIC), or `late` after 5 s.
 */
#include "bench.h"
#include "robot_warden.h"

#include <inttypes.h>

#define LOOK_NS 20000 /* between two looks: a spinning watcher would take a processor from what it watches */
#define LATE_NS (5 * NS_PER_S)

static rw_permits permits;

/* I: one permit's motion deadline; -1: all permits by the robot's reader. */
static int stopped(int which)
{
    rw_verdict verdict;

    if (which >= 0)
        return rw_load_(permits.permit[which].words, 1) == 0;
    rw_read(&permits, &verdict);
    return !verdict.may_move;
}

static void look(int which)
{
    const struct timespec pause = {0, LOOK_NS};
    uint64_t begun_ns = now_ns();

    printf("armed\n");
    while (!stopped(which)) {
        if (now_ns() - begun_ns > LATE_NS) {
            printf("late\n");
            return;
        }
        (void)clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
    }
    printf("seen %" PRIu64 "\n", now_ns());
}

int main(int argc, char **argv)
{
    char line[64];
    int which;

    if (argc < 3 || !rw_init(&permits, (const char *const *)argv + 2, (size_t)argc - 2))
        return 2;
    settle(atoi(argv[1]));
    while (fgets(line, sizeof line, stdin) != NULL) {
        if (strcmp(line, "stopped\n") == 0)
            look(-1);
        else if (sscanf(line, "withdrawn %d", &which) == 1 && which >= 0 && (size_t)which < permits.count
            && permits.permit[which].words != NULL)
            look(which);
        else
            return 2;
    }
    return 0;
}
