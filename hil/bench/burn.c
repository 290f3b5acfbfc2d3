/* One busy core: the load beside the measurement. Ends with the process that started it, whatever ends that.
 *
 *     burn PARENT_PID
 */
#define _GNU_SOURCE

#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    volatile unsigned long turns = 0;

    if (argc != 2 || prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != (pid_t)atol(argv[1]))
        return 2;
    for (;;)
        turns++;
}
