/*
 * A disk that refuses, below Python: preloaded (LD_PRELOAD), it stands between the writer and the kernel.
 *
 * Every call that changes something under one folder is counted. From the `at`-th on, `times` calls in a row
 * fail with `code`; or the process ends in the first of them, as by kill -9; or as by a cut of power, when
 * what was not synced is lost as well. A write may have done its first `part` bytes by then. After failures
 * the power may be cut too, in call `cut_at`.
 *
 * What a power cut loses is undone by hand: before each change the old bytes are noted, a sync forgets the
 * notes of its file, a folder's sync those of its names. The seed decides which of the rest had reached the
 * disk by themselves. A file that is removed waits beside the folder until then, the same inode. (Not undone:
 * what a rename put away, and what a process before this one left unsynced.)
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum mode { OFF, FAIL, KILL, CUT };
enum { NAMED = -1, REMOVED = -2 };

struct note {
  struct note *before;
  ino_t inode;        /* whose sync makes it durable: the file's, or for a name the folder's */
  int fd;             /* of our own: of the file, or of the folder */
  off_t at, length;   /* of the file before; at < 0: NAMED or REMOVED */
  size_t size;
  char *old;          /* bytes; NAMED: the name before, "" for none; REMOVED: path where the file waits */
  char name[NAME_MAX + 1];
};

static char folder[PATH_MAX];
static enum mode mode = OFF;
static long at_call, times_left, cut_at, part = -1, most = -1, calls, failures, removed;
static int code, forgets, trace = -1;
static unsigned seed;
static struct note *notes;

/* ---- the plan, set by the process itself through ctypes */

void faulty_arm(const char *under, int how, long at, long times, int number, long bytes, int lossy, unsigned dice);
void faulty_cut(long at);
void faulty_short(const char *under, long bytes);
void faulty_trace(int fd);
long faulty_calls(void);
long faulty_failures(void);

void faulty_arm(const char *under, int how, long at, long times, int number, long bytes, int lossy, unsigned dice) {
  snprintf(folder, sizeof folder, "%s", under);
  mode = (enum mode)how;
  at_call = at;
  times_left = times;
  code = number;
  part = bytes;
  forgets = lossy;
  seed = dice;
  calls = failures = 0;
}

/* 0: never. */
void faulty_cut(long at) { cut_at = at; }

void faulty_short(const char *under, long bytes) {
  snprintf(folder, sizeof folder, "%s", under);
  most = bytes;
}

/* From now on a line for each write: number of the call, bytes, path. */
void faulty_trace(int fd) { trace = fd; }

long faulty_calls(void) { return calls; }
long faulty_failures(void) { return failures; }

/* ---- what is under the folder */

static int path_inside(const char *path) {
  size_t length = strlen(folder);
  return length && !strncmp(path, folder, length) && (path[length] == '/' || !path[length]);
}

/* The path behind a descriptor, "" for none. */
static void path_of(int fd, char path[PATH_MAX]) {
  char link[40];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  long length = syscall(SYS_readlink, link, path, PATH_MAX - 1);
  path[length < 0 ? 0 : length] = '\0';
}

static int inside(int fd) {
  char path[PATH_MAX];
  if (!folder[0]) return 0;
  path_of(fd, path);
  return path_inside(path);
}

static int named_inside(int dir, const char *name) {
  return name[0] == '/' || dir == AT_FDCWD ? path_inside(name) : inside(dir);
}

/* ---- what a cut of power takes */

static ino_t inode_of(int fd) {
  struct stat found;
  return fstat(fd, &found) ? 0 : found.st_ino;
}

static struct note *new_note(int fd, int own) {
  struct note *made = calloc(1, sizeof *made);
  if (!made || own < 0) abort();
  made->inode = inode_of(fd);
  made->fd = own;
  made->before = notes;
  notes = made;
  return made;
}

/* The bytes from `at` on, and the file's length, before they change. */
static void note_bytes(int fd, off_t at, size_t size) {
  struct stat found;
  if (!forgets || fstat(fd, &found)) return;
  struct note *made = new_note(fd, fcntl(fd, F_DUPFD_CLOEXEC, 0));
  made->at = at;
  made->length = found.st_size;
  made->old = malloc(size + 1);
  if (!made->old) abort();
  ssize_t got = pread(fd, made->old, size, at);
  made->size = got > 0 ? (size_t)got : 0;
}

static int noted(int dir, const char *name) { return forgets && dir != AT_FDCWD && name[0] != '/'; }

static void note_change(int dir, const char *old, const char *name, off_t what) {
  /* Opened anew: a duplicate would share the lock on the folder, and keep it. */
  struct note *made = new_note(dir, (int)syscall(SYS_openat, dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  made->at = what;
  made->old = strdup(old);
  snprintf(made->name, sizeof made->name, "%s", name);
}

/* `name` in the folder was `old` before, or was not there. */
static void note_name(int dir, const char *old, const char *name) {
  if (noted(dir, name)) note_change(dir, old, name, NAMED);
}

/* Removes `name`, so that it can come back. */
static int put_away(int dir, const char *name) {
  char beside[PATH_MAX + 60];
  snprintf(beside, sizeof beside, "%s.removed-%ld-%ld", folder, (long)getpid(), removed++);
  int failed = (int)syscall(SYS_renameat, dir, name, AT_FDCWD, beside);
  if (!failed) note_change(dir, beside, name, REMOVED);
  return failed;
}

static void drop(struct note **place) {
  struct note *gone = *place;
  *place = gone->before;
  if (gone->at == REMOVED) syscall(SYS_unlinkat, AT_FDCWD, gone->old, 0); /* not there any more if undone */
  syscall(SYS_close, gone->fd);
  free(gone->old);
  free(gone);
}

static void undo(const struct note *note) {
  if (note->at == REMOVED)
    syscall(SYS_renameat, AT_FDCWD, note->old, note->fd, note->name);
  else if (note->at < 0 && note->old[0])
    syscall(SYS_renameat, note->fd, note->name, note->fd, note->old);
  else if (note->at < 0)
    syscall(SYS_unlinkat, note->fd, note->name, 0);
  else {
    if (note->size) syscall(SYS_pwrite64, note->fd, note->old, note->size, note->at);
    if (inode_of(note->fd)) syscall(SYS_ftruncate, note->fd, note->length);
  }
}

/*
 * Newest first. `inode` 0: everything, as far as the dice say so; else all bytes of that file, and no names: a
 * folder that cannot be synced ends its file system (ext4 aborts the journal), it loses no name while it runs.
 */
static void lose(ino_t inode) {
  for (struct note **place = &notes; *place;) {
    if (inode && ((*place)->inode != inode || (*place)->at < 0)) {
      place = &(*place)->before;
      continue;
    }
    if (inode || rand_r(&seed) % 2) undo(*place);
    drop(place);
  }
}

static void synced(int fd) {
  ino_t inode = inode_of(fd);
  for (struct note **place = &notes; *place;)
    if ((*place)->inode == inode)
      drop(place);
    else
      place = &(*place)->before;
}

/* ---- one call */

static int due(void) {
  calls++;
  if (cut_at && calls == cut_at) {
    mode = CUT;
    times_left = 1;
  }
  if (mode == OFF || calls < at_call || times_left <= 0) return 0;
  times_left--;
  failures++;
  return 1;
}

static int refuse(void) {
  if (mode == CUT) lose(0);
  if (mode != FAIL) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
  }
  errno = code;
  return -1;
}

static ssize_t put(int fd, const void *data, size_t size, off_t at) {
  if (at < 0) return syscall(SYS_write, fd, data, size);
  return syscall(SYS_pwrite64, fd, data, size, at);
}

static void trace_write(int fd, size_t size) {
  char line[PATH_MAX + 60], path[PATH_MAX];
  if (trace < 0) return;
  path_of(fd, path);
  int length = snprintf(line, sizeof line, "write %ld %zu %s\n", calls, size, path);
  syscall(SYS_write, trace, line, length);
}

static ssize_t any_write(int fd, const void *data, size_t size, off_t at) {
  if (!inside(fd)) return put(fd, data, size, at);
  int fails = due();
  trace_write(fd, size);
  if (fails && part < 0) return refuse();
  size_t wanted = fails && (size_t)part < size ? (size_t)part : size;
  if (!fails && most > 0 && (size_t)most < wanted) wanted = (size_t)most;
  if (at >= 0) note_bytes(fd, at, wanted);
  ssize_t done = put(fd, data, wanted, at);
  return fails ? refuse() : done;
}

static int any_sync(int fd, long number) {
  if (!inside(fd)) return (int)syscall(number, fd);
  if (due()) {
    if (mode == FAIL && forgets) lose(inode_of(fd));
    return refuse();
  }
  synced(fd);
  return 0; /* what ends here is a process, or a power cut done by hand: no need to wait for a real disk */
}

ssize_t write(int fd, const void *data, size_t size) { return any_write(fd, data, size, -1); }
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) { return any_write(fd, data, size, at); }
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) { return any_write(fd, data, size, at); }
int fsync(int fd) { return any_sync(fd, SYS_fsync); }
int fdatasync(int fd) { return any_sync(fd, SYS_fdatasync); }

int ftruncate(int fd, off_t size) {
  struct stat found;
  if (inside(fd)) {
    if (due()) return refuse();
    if (!fstat(fd, &found)) note_bytes(fd, size, found.st_size > size ? (size_t)(found.st_size - size) : 0);
  }
  return (int)syscall(SYS_ftruncate, fd, size);
}
int ftruncate64(int fd, off64_t size) { return ftruncate(fd, size); }

int fallocate(int fd, int how, off_t at, off_t size) {
  if (inside(fd) && due()) return refuse();
  return (int)syscall(SYS_fallocate, fd, how, at, size);
}
int fallocate64(int fd, int how, off64_t at, off64_t size) { return fallocate(fd, how, at, size); }

/* These tell the number instead of setting errno. */
int posix_fallocate(int fd, off_t at, off_t size) {
  if (inside(fd)) {
    if (due()) return refuse(), code;
    note_bytes(fd, at, 0);
  }
  return syscall(SYS_fallocate, fd, 0, at, size) ? errno : 0;
}
int posix_fallocate64(int fd, off64_t at, off64_t size) { return posix_fallocate(fd, at, size); }

int renameat(int from, const char *old, int to, const char *name) {
  if (named_inside(to, name)) {
    if (due()) return refuse();
    note_name(to, old, name);
  }
  return (int)syscall(SYS_renameat, from, old, to, name);
}
int rename(const char *old, const char *name) { return renameat(AT_FDCWD, old, AT_FDCWD, name); }
int renameat2(int from, const char *old, int to, const char *name, unsigned flags) {
  if (named_inside(to, name) && due()) return refuse();
  return (int)syscall(SYS_renameat2, from, old, to, name, flags);
}

int unlinkat(int dir, const char *name, int flags) {
  int ours = named_inside(dir, name);
  if (ours && due()) return refuse();
  if (ours && noted(dir, name) && !flags) return put_away(dir, name);
  return (int)syscall(SYS_unlinkat, dir, name, flags);
}
int unlink(const char *name) { return unlinkat(AT_FDCWD, name, 0); }

/* Only the making of a file changes the disk. */
static int any_open(int dir, const char *name, int flags, mode_t rights) {
  int makes = (flags & O_CREAT) && named_inside(dir, name);
  if (makes && due()) return refuse();
  int fd = (int)syscall(SYS_openat, dir, name, flags, rights);
  if (makes && fd >= 0 && (flags & O_EXCL)) note_name(dir, "", name);
  return fd;
}

static mode_t rights_of(int flags, va_list more) { return flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0; }

#define OPEN(call, head, dir)                     \
  int call head {                                 \
    va_list more;                                 \
    va_start(more, flags);                        \
    mode_t rights = rights_of(flags, more);       \
    va_end(more);                                 \
    return any_open(dir, name, flags, rights);    \
  }
OPEN(open, (const char *name, int flags, ...), AT_FDCWD)
OPEN(open64, (const char *name, int flags, ...), AT_FDCWD)
OPEN(openat, (int dir, const char *name, int flags, ...), dir)
OPEN(openat64, (int dir, const char *name, int flags, ...), dir)
