/* What the C programs of the benchmark share: clock, real-time class, and one run permit held or watched.
 *
 * Include it first. Linux, C99. Each program speaks lines on standard output and ends when its standard input
 * does, so that nothing outlives the benchmark.
 */
#ifndef WARDEN_BENCH_H
#define WARDEN_BENCH_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_MS UINT64_C(1000000)
#define NS_PER_S UINT64_C(1000000000)
#define TICK_NS (10 * NS_PER_MS) /* as agent/shell.py: a turn at least every 10 ms */
#define TTL_NS (100 * NS_PER_MS)
#define SS1_NS (800 * NS_PER_MS)
#define PERMIT_SIZE 64
#define EMERGENCY_STOP 5

static inline void die(const char *what)
{
    perror(what);
    exit(1);
}

/* CLOCK_MONOTONIC, nanoseconds. */
static inline uint64_t now_ns(void)
{
    struct timespec now;

    if (clock_gettime(CLOCK_MONOTONIC, &now) != 0)
        die("clock_gettime");
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

/* Takes what agent/realtime.py takes, and says what was granted: the comparison under load is fair only then. */
static inline void settle(int priority)
{
    struct sched_param param;
    int fifo, locked;

    memset(&param, 0, sizeof param);
    param.sched_priority = priority;
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    (void)setvbuf(stdin, NULL, _IONBF, 0); /* what poll does not show must not wait in a buffer of ours */
    (void)prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
    fifo = sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &param) == 0;
    locked = mlockall(MCL_CURRENT | MCL_FUTURE) == 0;
    printf("ready fifo=%d locked=%d\n", fifo, locked);
}

/* The 64 bytes of a permit (PROTOCOL 1) as eight words; little-endian hosts only, which is all we measure on. */
typedef struct permit {
    volatile uint64_t *words;
    uint64_t sequence;
    uint32_t epoch;
} permit;

static inline volatile uint64_t *map_permit(const char *path, int flags)
{
    int fd = open(path, flags | O_CLOEXEC, 0644);
    void *mapped;

    if (fd < 0)
        die(path);
    if ((flags & O_CREAT) != 0 && ftruncate(fd, PERMIT_SIZE) != 0)
        die(path);
    mapped = mmap(NULL, PERMIT_SIZE, (flags & O_RDWR) != 0 ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd, 0);
    if (mapped == MAP_FAILED)
        die(path);
    (void)close(fd);
    return (volatile uint64_t *)mapped;
}

static inline void put_pair(volatile uint64_t *words, uint64_t value)
{
    words[0] = value;
    words[1] = ~value;
    __atomic_thread_fence(__ATOMIC_RELEASE);
}

/* One whole record; a stop's motion first, a grant's motion last (PROTOCOL 1, writer's rule). */
static inline void put_permit(permit *held, uint64_t motion_until, uint64_t power_until, uint8_t response)
{
    uint16_t speed = motion_until != 0 ? 1000 : 0;
    uint64_t manner = (uint64_t)speed | (uint64_t)(uint16_t)~speed << 16 | (uint64_t)response << 32
        | (uint64_t)(uint8_t)~response << 40;

    if (motion_until == 0)
        put_pair(held->words + 1, 0);
    put_pair(held->words + 3, power_until);
    held->words[5] = (uint64_t)held->epoch | (uint64_t)(uint32_t)~held->epoch << 32;
    held->words[6] = manner;
    __atomic_thread_fence(__ATOMIC_RELEASE);
    if (motion_until != 0)
        put_pair(held->words + 1, motion_until);
    held->words[7] = ++held->sequence;
}

static inline void withdraw(permit *held)
{
    put_pair(held->words + 1, 0);
    held->epoch++;
    put_permit(held, 0, 0, EMERGENCY_STOP);
}

static inline void renew(permit *held, uint64_t at_ns)
{
    put_permit(held, at_ns + TTL_NS, at_ns + TTL_NS + SS1_NS, 0);
}

static inline permit hold_permit(const char *path)
{
    permit held = {map_permit(path, O_RDWR | O_CREAT), 0, 0};

    memcpy((void *)(uintptr_t)held.words, "WPERMIT1", 8);
    put_permit(&held, 0, 0, EMERGENCY_STOP);
    return held;
}

/* A timerfd that beats every 10 ms, as the module's own. */
static inline int make_ticker(void)
{
    struct itimerspec beat = {{0, (long)TICK_NS}, {0, (long)TICK_NS}};
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);

    if (fd < 0 || timerfd_settime(fd, 0, &beat, NULL) != 0)
        die("timerfd");
    return fd;
}

static inline void add_reader(int poller, int fd)
{
    struct epoll_event event;

    memset(&event, 0, sizeof event);
    event.events = EPOLLIN;
    event.data.fd = fd;
    if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event) != 0)
        die("epoll_ctl");
}

#endif
