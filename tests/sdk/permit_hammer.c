/* Reads one permit without pause while tests/sdk/hammer.py writes it, and counts what was never granted.
 *
 *     permit_hammer PATH COUNT     ends after COUNT permits with motion
 *
 * The writer's step i (from 64 on) is: position i % 64 under 60, a grant with motion_until_ns = i << 20,
 * power_until_ns = motion + 1, epoch = i / 64, speed = i % 1000, response = i % 3; from 60 on, a stop in epoch
 * i / 64 + 1. So a deadline names the step, and the step everything else. While step i + 1 is being stored its
 * power, speed and response may stand beside the deadline of i; its epoch may not.
 */
#include "robot_warden.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static int runs(uint64_t step)
{
    return step % 64 < 60;
}

static int fits(const rw_record *seen, uint64_t step)
{
    return seen->speed_permille == step % 1000 && seen->response == step % 3;
}

static int granted(const rw_record *seen)
{
    uint64_t step = seen->motion_until_ns >> 20;
    int renewed = runs(step + 1);
    int power = seen->power_until_ns == (step << 20) + 1
        || (renewed && seen->power_until_ns == ((step + 1) << 20) + 1);
    int manner = fits(seen, step) || (renewed && fits(seen, step + 1));

    return (step << 20) == seen->motion_until_ns && runs(step) && seen->epoch == step / 64 && power && manner;
}

int main(int count, char **words)
{
    const char *path = count > 1 ? words[1] : "";
    uint64_t wanted = count > 2 ? strtoull(words[2], NULL, 10) : 0;
    uint64_t reads = 0, moving = 0, stopped = 0, unread = 0, wrong = 0, epochs = 0, last_epoch = 0, last_motion = 0;
    rw_permits permits;

    if (!rw_init(&permits, &path, 1) || permits.permit[0].words == NULL)
        return 2;
    while (moving < wanted) {
        rw_record seen = rw_read_words(permits.permit[0].words);

        reads++;
        if (seen.epoch == 0) {
            unread++; /* void: the writer's epochs start at 1 */
            continue;
        }
        moving += seen.motion_until_ns != 0;
        stopped += seen.motion_until_ns == 0;
        wrong += seen.motion_until_ns != 0 && (!granted(&seen) || seen.motion_until_ns < last_motion);
        wrong += seen.epoch < last_epoch;
        epochs += seen.epoch != last_epoch;
        last_epoch = seen.epoch;
        if (seen.motion_until_ns != 0)
            last_motion = seen.motion_until_ns;
    }
    printf("{\"reads\": %" PRIu64 ", \"moving\": %" PRIu64 ", \"stopped\": %" PRIu64 ", \"unread\": %" PRIu64
           ", \"wrong\": %" PRIu64 ", \"epochs\": %" PRIu64 "}\n",
           reads, moving, stopped, unread, wrong, epochs);
    rw_close(&permits);
    return 0;
}
