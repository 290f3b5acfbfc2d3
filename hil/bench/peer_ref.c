/* The reference for "peer killed -> permit withdrawn": C on pidfd and epoll.
 *
 *     peer_ref PERMIT PRIORITY
 *
 * A process id on standard input: it is watched, `watching` is printed, and the permit is renewed every 10 ms until
 * the process has ended.
 */
#include "bench.h"

#include <sys/syscall.h>

static int watch(int poller)
{
    char line[32];
    int fd;

    if (fgets(line, sizeof line, stdin) == NULL)
        exit(0);
    fd = (int)syscall(SYS_pidfd_open, atoi(line), 0U);
    if (fd < 0)
        die("pidfd_open");
    add_reader(poller, fd);
    return fd;
}

int main(int argc, char **argv)
{
    int poller = epoll_create1(EPOLL_CLOEXEC), ticker = make_ticker(), peer = -1;
    permit held;

    if (argc != 3 || poller < 0)
        return 2;
    held = hold_permit(argv[1]);
    add_reader(poller, ticker);
    add_reader(poller, STDIN_FILENO);
    settle(atoi(argv[2]));
    for (;;) {
        struct epoll_event events[4];
        int i, ready = epoll_wait(poller, events, 4, -1);

        for (i = 0; i < ready; i++) {
            uint64_t beats;

            if (events[i].data.fd == peer) {
                withdraw(&held);
                (void)close(peer);
                peer = -1;
            } else if (events[i].data.fd == STDIN_FILENO) {
                peer = watch(poller);
                renew(&held, now_ns());
                printf("watching\n");
            } else if (read(ticker, &beats, sizeof beats) > 0 && peer >= 0)
                renew(&held, now_ns());
        }
    }
}
