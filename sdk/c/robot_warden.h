/* The run permits of a robot under robot-warden, for its control loop in C or C++ (PROTOCOL 1).
 *
 * One header, C99, nothing but libc (Linux; gcc or clang). Include it before any other header, or build
 * with -D_POSIX_C_SOURCE=200809L.
 *
 *     rw_permits permits;
 *     rw_verdict verdict;
 *     rw_init_folder(&permits, "/run/warden/FT-2024-0017");
 *     for (;;) {                                          // every cycle of the control loop
 *         rw_read(&permits, &verdict);
 *         if (!verdict.may_power) brake();                // drives off now
 *         else if (!verdict.may_move) stop_controlled();  // decelerate, stay powered
 *         else run(verdict.speed_permille);               // of full speed
 *         if (work.epoch < verdict.epoch) drop(&work);    // ordered before a stop: never taken up again
 *     }
 *
 * Nothing here fails: what cannot be read does not permit. While motion is permitted rw_read makes no system
 * call (clock_gettime is answered by the vDSO); while it is not, one stat(2) a permit looks for a file that is
 * new or was made anew. One rw_permits belongs to one thread.
 */
#ifndef ROBOT_WARDEN_H
#define ROBOT_WARDEN_H

#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200809L
#endif

#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#if !defined(O_CLOEXEC) || !defined(CLOCK_MONOTONIC)
#error "include robot_warden.h before any other header, or build with -D_POSIX_C_SOURCE=200809L"
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define RW_SIZE 64
#define RW_MAX_PERMITS 4
#define RW_MAX_PATH 256
#define RW_RE_READS 3
#define RW_EMERGENCY_STOP 5

/* What every permit together allows at one moment. */
typedef struct rw_verdict {
    int may_move;            /* 1: may move, generate, transmit */
    int may_power;           /* 1: drives may be energised */
    uint16_t speed_permille; /* 0 to 1000 of full speed, the smallest of all */
    uint8_t response;        /* the worst of all, 0 none to 7 retire; for display only */
    uint64_t epoch;          /* the sum of all; work ordered in an earlier one must be dropped */
} rw_verdict;

/* One permit record. Deadlines: CLOCK_MONOTONIC, nanoseconds, 0 = withdrawn. */
typedef struct rw_record {
    uint64_t motion_until_ns;
    uint64_t power_until_ns;
    uint32_t epoch;
    uint16_t speed_permille;
    uint8_t response;
} rw_record;

typedef struct rw_permit {
    char path[RW_MAX_PATH];
    const volatile uint64_t *words; /* the mapped file, or NULL */
    dev_t device;
    ino_t inode;
} rw_permit;

typedef struct rw_permits {
    rw_permit permit[RW_MAX_PERMITS];
    size_t count;
} rw_permits;

/* What a missing, short or damaged file counts as. */
static const rw_record rw_void = {0, 0, 0, 0, RW_EMERGENCY_STOP};

/* CLOCK_MONOTONIC in nanoseconds: the clock of the deadlines. */
static inline uint64_t rw_now_ns(void)
{
    struct timespec now;

    if (clock_gettime(CLOCK_MONOTONIC, &now) != 0)
        return UINT64_MAX; /* no deadline is later: stop */
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

/* One aligned load of the little-endian file, not to be moved by the compiler. */
static inline uint64_t rw_load_(const volatile uint64_t *words, size_t at)
{
    uint64_t word = words[at];

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = __builtin_bswap64(word);
#endif
    return word;
}

/* The fields of one attempt. 0: damaged, or a write was under way.
 *
 * The writer withdraws motion before it changes anything else and grants it after all else, so what is read
 * between two equal motion deadlines belongs to them. The fences keep the loads in that order.
 */
static inline int rw_attempt_(const volatile uint64_t *words, rw_record *record)
{
    const uint64_t magic = UINT64_C(0x3154494d52455057); /* "WPERMIT1", little-endian */
    uint64_t motion, no_motion, power, no_power, epoch, manner, again, no_again;

    motion = rw_load_(words, 1);
    no_motion = rw_load_(words, 2);
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    power = rw_load_(words, 3);
    no_power = rw_load_(words, 4);
    epoch = rw_load_(words, 5);
    manner = rw_load_(words, 6);
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    again = rw_load_(words, 1);
    no_again = rw_load_(words, 2);

    record->motion_until_ns = motion;
    record->power_until_ns = power;
    record->epoch = (uint32_t)epoch;
    record->speed_permille = (uint16_t)manner;
    record->response = (uint8_t)(manner >> 32);
    return rw_load_(words, 0) == magic && motion == again && no_motion == no_again
        && (motion ^ no_motion) == UINT64_MAX && (power ^ no_power) == UINT64_MAX
        && (record->epoch ^ (uint32_t)(epoch >> 32)) == UINT32_MAX
        && (record->speed_permille ^ (uint16_t)(manner >> 16)) == UINT16_MAX
        && (record->response ^ (uint8_t)(manner >> 40)) == UINT8_MAX && (manner >> 48) == 0
        && record->speed_permille <= 1000 && record->response <= 7;
}

/* The permit of one mapped file (PROTOCOL 1, reader's rule). */
static inline rw_record rw_read_words(const volatile uint64_t *words)
{
    rw_record record;
    int attempt;

    for (attempt = 0; words != NULL && attempt < 1 + RW_RE_READS; attempt++)
        if (rw_attempt_(words, &record))
            return record;
    return rw_void;
}

static inline void rw_unmap_(rw_permit *permit)
{
    if (permit->words != NULL)
        (void)munmap((void *)(uintptr_t)permit->words, RW_SIZE);
    permit->words = NULL;
}

static inline int rw_map_(rw_permit *permit)
{
    struct stat opened;
    void *mapped = MAP_FAILED;
    int fd = open(permit->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

    if (fd < 0)
        return 0;
    if (fstat(fd, &opened) == 0 && S_ISREG(opened.st_mode) && opened.st_size >= RW_SIZE)
        mapped = mmap(NULL, RW_SIZE, PROT_READ, MAP_SHARED, fd, 0);
    (void)close(fd);
    if (mapped == MAP_FAILED)
        return 0;
    rw_unmap_(permit);
    permit->words = (const volatile uint64_t *)mapped;
    permit->device = opened.st_dev;
    permit->inode = opened.st_ino;
    return 1;
}

/* Maps what the path names now, unless that is mapped already. 1: mapped anew. A file that is gone is kept:
 * nobody renews its deadlines, so they run out by themselves. */
static inline int rw_follow_path_(rw_permit *permit)
{
    struct stat there;

    if (lstat(permit->path, &there) != 0)
        return 0;
    if (permit->words != NULL && there.st_dev == permit->device && there.st_ino == permit->inode)
        return 0;
    return rw_map_(permit);
}

/* Takes up to RW_MAX_PERMITS paths. What does not fit (a path too long, a permit too many) leaves a permit that
 * is never there: the robot stays stopped, and the return value is 0. 1: all were taken. */
static inline int rw_init(rw_permits *permits, const char *const *paths, size_t count)
{
    size_t i;
    int taken = count > 0 && count <= RW_MAX_PERMITS;

    (void)memset(permits, 0, sizeof *permits);
    permits->count = taken ? count : 0;
    for (i = 0; i < permits->count; i++) {
        size_t length = strlen(paths[i]);

        if (length >= RW_MAX_PATH) {
            taken = 0;
            continue;
        }
        (void)memcpy(permits->permit[i].path, paths[i], length);
        (void)rw_follow_path_(&permits->permit[i]);
    }
    return taken;
}

/* Takes `reflex.permit` and `remote.permit` in the run folder. 0: the folder's name is too long. */
static inline int rw_init_folder(rw_permits *permits, const char *folder)
{
    static const char *const names[2] = {"/reflex.permit", "/remote.permit"};
    char paths[2][RW_MAX_PATH];
    const char *both[2];
    size_t i, length = strlen(folder);

    if (length + sizeof "/reflex.permit" > RW_MAX_PATH)
        return rw_init(permits, NULL, 0);
    for (i = 0; i < 2; i++) {
        (void)memcpy(paths[i], folder, length);
        (void)memcpy(paths[i] + length, names[i], strlen(names[i]) + 1);
        both[i] = paths[i];
    }
    return rw_init(permits, both, 2);
}

/* `now_ns`: 0 takes the clock, after the permits were read, so that time lost in between counts. */
static inline void rw_judge_(const rw_permits *permits, uint64_t now_ns, rw_verdict *verdict)
{
    rw_record record[RW_MAX_PERMITS];
    size_t i;
    const int any = permits->count > 0;

    for (i = 0; i < permits->count; i++)
        record[i] = rw_read_words(permits->permit[i].words);
    if (now_ns == 0)
        now_ns = rw_now_ns();
    verdict->may_move = any;
    verdict->may_power = any;
    verdict->speed_permille = any ? UINT16_MAX : 0;
    verdict->response = any ? 0 : RW_EMERGENCY_STOP;
    verdict->epoch = 0;
    for (i = 0; i < permits->count; i++) {
        verdict->may_move &= now_ns < record[i].motion_until_ns;
        verdict->may_power &= now_ns < record[i].power_until_ns;
        if (record[i].speed_permille < verdict->speed_permille)
            verdict->speed_permille = record[i].speed_permille;
        if (record[i].response > verdict->response)
            verdict->response = record[i].response;
        verdict->epoch += record[i].epoch;
    }
}

/* The verdict at `now_ns` (CLOCK_MONOTONIC; 0: now). */
static inline void rw_read_at(rw_permits *permits, uint64_t now_ns, rw_verdict *verdict)
{
    size_t i;
    int fresh = 0;

    rw_judge_(permits, now_ns, verdict);
    if (verdict->may_move)
        return;
    for (i = 0; i < permits->count; i++)
        fresh |= rw_follow_path_(&permits->permit[i]);
    if (fresh)
        rw_judge_(permits, now_ns, verdict);
}

/* The verdict now; call it every cycle. */
static inline void rw_read(rw_permits *permits, rw_verdict *verdict)
{
    rw_read_at(permits, 0, verdict);
}

/* Lets the mappings go. A later read maps the files again. */
static inline void rw_close(rw_permits *permits)
{
    size_t i;

    for (i = 0; i < permits->count; i++)
        rw_unmap_(&permits->permit[i]);
}

#ifdef __cplusplus
}
#endif

#endif
