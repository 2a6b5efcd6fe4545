/*
 * Test-only: what a program does to the files below one folder, written down; and, when told to, a
 * disk that is full or broken. Preloaded into the real signer (LD_PRELOAD) by the tests of
 * tksign-bin/tests/recovery. Never part of a product.
 *
 *   TK_DISK_ROOT   the folder, absolute
 *   TK_DISK_LOG    where the record is appended; none: nothing is recorded
 *   TK_DISK_RULES  a file that is looked at before each call; its first line is one of
 *                  "ok", "full" (ENOSPC on every write that grows a file), "no-space" (on every write), "eio-write",
 *                  "eio-sync", "eio-pages" (EIO on every write to a file *.db beyond its first 4 KiB),
 *                  "short" (half of every write is made); absent: ok. After the word: so many writes or
 *                  syncs that succeed first, so many that fail then (0: all), and a number of its own
 *   TK_NO_RANDOM   set: the system's generator fails
 *   TK_DISK_SLOW   so many microseconds every sync takes at least, of any file: a disk of that speed
 *   TK_DISK_GATE   a file: whoever renames makes one of this name and ".at" and waits while it is there
 *   TK_DISK_KILL   the process is killed (SIGKILL) at the so-manieth record, counted from 1
 *
 * A record: kind 1, inode 8, offset 8, length 4, then as many bytes (little-endian). Writes and
 * renames are recorded before they are made, syncs after they have succeeded: whoever cuts the record
 * anywhere sees a sync only when it was done, and a write even if its answer never came.
 *
 * Kinds: w write, t truncate (to offset), s sync, c create (path), r rename (two paths), u unlink
 * (path), m mkdir (path), d folder synced (path), x a sync that failed, a mark (what the test says).
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

static char root[PATH_MAX];
static size_t root_len;
static int log_fd = -1;
static long kill_at;
static long slow;
static const char *rules;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static int (*real_fsync)(int);
static int (*real_fdatasync)(int);
static int (*real_ftruncate)(int, off_t);
static int (*real_open)(const char *, int, ...);
static int (*real_rename)(const char *, const char *);
static int (*real_unlink)(const char *);
static int (*real_mkdir)(const char *, mode_t);

static void start(void) {
  real_write = dlsym(RTLD_NEXT, "write");
  real_pwrite = dlsym(RTLD_NEXT, "pwrite64");
  real_fsync = dlsym(RTLD_NEXT, "fsync");
  real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
  real_ftruncate = dlsym(RTLD_NEXT, "ftruncate64");
  real_open = dlsym(RTLD_NEXT, "open64");
  real_rename = dlsym(RTLD_NEXT, "rename");
  real_unlink = dlsym(RTLD_NEXT, "unlink");
  real_mkdir = dlsym(RTLD_NEXT, "mkdir");
  const char *at = getenv("TK_DISK_ROOT");
  if (at && strlen(at) < sizeof root) {
    strcpy(root, at);
    root_len = strlen(root);
  }
  rules = getenv("TK_DISK_RULES");
  const char *at_record = getenv("TK_DISK_KILL");
  if (at_record) kill_at = atol(at_record);
  const char *micros = getenv("TK_DISK_SLOW");
  if (micros) slow = atol(micros);
  const char *log = getenv("TK_DISK_LOG");
  if (log) log_fd = real_open(log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
}

static void ready(void) { pthread_once(&once, start); }

static int inside(const char *path) {
  return root_len && strncmp(path, root, root_len) == 0 && (path[root_len] == '/' || !path[root_len]);
}

/* The path of a descriptor, if it is one of a file or folder below the root. */
static int path_of(int fd, char *out) {
  if (!root_len) return 0;
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t len = readlink(link, out, PATH_MAX - 1);
  if (len <= 0) return 0;
  out[len] = 0;
  return inside(out);
}

static uint64_t inode(int fd) {
  struct stat data;
  return fstat(fd, &data) == 0 ? (uint64_t)data.st_ino : 0;
}

static void record(char kind, uint64_t file, uint64_t offset, const void *bytes, size_t len) {
  if (kill_at && --kill_at == 0) kill(getpid(), SIGKILL);
  if (log_fd < 0) return;
  unsigned char head[21];
  uint32_t size = (uint32_t)len;
  head[0] = (unsigned char)kind;
  memcpy(head + 1, &file, 8);
  memcpy(head + 9, &offset, 8);
  memcpy(head + 17, &size, 4);
  struct iovec parts[2] = {{head, sizeof head}, {(void *)bytes, len}};
  if (writev(log_fd, parts, len ? 2 : 1) < 0) abort();
}

/* What becomes of a write, or of a sync: 'f' full, 'w' writes fail, 's' syncs fail, 'p' those of pages,
 * 'n' no space, 'h' half of it, 0 all is well. */
static char rule(int is_sync) {
  static char known[64];
  static long seen;
  if (!rules) return 0;
  int fd = real_open(rules, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  char text[sizeof known] = {0}, word[16];
  ssize_t len = read(fd, text, sizeof text - 1);
  close(fd);
  long after = 0, count = 0;
  if (len <= 0 || sscanf(text, "%15s %ld %ld", word, &after, &count) < 1) return 0;
  char kind = strcmp(word, "full") == 0        ? 'f'
              : strcmp(word, "eio-write") == 0 ? 'w'
              : strcmp(word, "eio-sync") == 0  ? 's'
              : strcmp(word, "eio-pages") == 0 ? 'p'
              : strcmp(word, "short") == 0     ? 'h'
              : strcmp(word, "no-space") == 0  ? 'n'
                                               : 0;
  if (!kind || is_sync != (kind == 's')) return 0;
  pthread_mutex_lock(&lock);
  if (strcmp(known, text) != 0) {
    strcpy(known, text);
    seen = 0;
  }
  long at = seen++;
  pthread_mutex_unlock(&lock);
  return at < after || (count && at >= after + count) ? 0 : kind;
}

/* How many bytes of a write are made; -1: none, and errno says why. */
static ssize_t allowed(int fd, const char *path, off_t offset, size_t len) {
  struct stat data;
  off_t end = offset + (off_t)len;
  size_t name = strlen(path);
  switch (rule(0)) {
    case 'w': errno = EIO; return -1;
    case 'n': errno = ENOSPC; return -1;
    case 'p':
      if (end <= 4096 || name < 3 || strcmp(path + name - 3, ".db") != 0) return (ssize_t)len;
      errno = EIO;
      return -1;
    case 'f':
      if (fstat(fd, &data) != 0 || end <= data.st_size) return (ssize_t)len;
      errno = ENOSPC;
      return -1;
    case 'h': return (ssize_t)(len / 2);
    default: return (ssize_t)len;
  }
}

EXPORT ssize_t pwrite64(int fd, const void *bytes, size_t len, off_t offset) {
  ready();
  char path[PATH_MAX];
  if (!path_of(fd, path)) return real_pwrite(fd, bytes, len, offset);
  ssize_t part = allowed(fd, path, offset, len);
  if (part <= 0 && len) return part;
  len = (size_t)part;
  pthread_mutex_lock(&lock);
  record('w', inode(fd), (uint64_t)offset, bytes, len);
  ssize_t done = real_pwrite(fd, bytes, len, offset);
  pthread_mutex_unlock(&lock);
  return done;
}
EXPORT ssize_t pwrite(int fd, const void *bytes, size_t len, off_t offset) {
  return pwrite64(fd, bytes, len, offset);
}

EXPORT ssize_t write(int fd, const void *bytes, size_t len) {
  ready();
  char path[PATH_MAX];
  if (!path_of(fd, path)) return real_write(fd, bytes, len);
  int flags = fcntl(fd, F_GETFL);
  off_t offset = lseek(fd, 0, (flags & O_APPEND) ? SEEK_END : SEEK_CUR);
  if (offset < 0) return real_write(fd, bytes, len);
  ssize_t part = allowed(fd, path, offset, len);
  if (part <= 0 && len) return part;
  len = (size_t)part;
  pthread_mutex_lock(&lock);
  record('w', inode(fd), (uint64_t)offset, bytes, len);
  ssize_t done = real_write(fd, bytes, len);
  pthread_mutex_unlock(&lock);
  return done;
}

static int synced(int fd, int (*real)(int)) {
  char path[PATH_MAX];
  if (!path_of(fd, path)) return real(fd);
  if (rule(1) == 's') {
    record('x', inode(fd), 0, path, strlen(path));
    errno = EIO;
    return -1;
  }
  pthread_mutex_lock(&lock);
  int done = real(fd);
  if (done == 0) {
    struct stat data;
    int is_folder = fstat(fd, &data) == 0 && S_ISDIR(data.st_mode);
    record(is_folder ? 'd' : 's', inode(fd), 0, path, strlen(path));
  }
  pthread_mutex_unlock(&lock);
  return done;
}

static int paced(int fd, int (*real)(int)) {
  ready();
  struct timespec end;
  if (slow) clock_gettime(CLOCK_MONOTONIC, &end);
  int done = synced(fd, real);
  if (slow) {
    long nanos = end.tv_nsec + slow % 1000000 * 1000;
    end.tv_sec += slow / 1000000 + nanos / 1000000000;
    end.tv_nsec = nanos % 1000000000;
    int error = errno;
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &end, 0) == EINTR) {}
    errno = error;
  }
  return done;
}
EXPORT int fsync(int fd) { return paced(fd, real_fsync); }
EXPORT int fdatasync(int fd) { return paced(fd, real_fdatasync); }

EXPORT int ftruncate64(int fd, off_t len) {
  ready();
  char path[PATH_MAX];
  if (!path_of(fd, path)) return real_ftruncate(fd, len);
  if (allowed(fd, path, len, 0) < 0) return -1;
  pthread_mutex_lock(&lock);
  record('t', inode(fd), (uint64_t)len, "", 0);
  int done = real_ftruncate(fd, len);
  pthread_mutex_unlock(&lock);
  return done;
}
EXPORT int ftruncate(int fd, off_t len) { return ftruncate64(fd, len); }

EXPORT int open64(const char *path, int flags, ...) {
  ready();
  va_list more;
  va_start(more, flags);
  mode_t mode = (flags & (O_CREAT | O_TMPFILE)) ? va_arg(more, mode_t) : 0;
  va_end(more);
  if (!(flags & O_CREAT) || !inside(path)) return real_open(path, flags, mode);
  pthread_mutex_lock(&lock);
  struct stat data;
  int is_new = stat(path, &data) != 0;
  int fd = real_open(path, flags, mode);
  if (fd >= 0 && is_new) record('c', inode(fd), 0, path, strlen(path));
  if (fd >= 0 && !is_new && (flags & O_TRUNC)) record('t', inode(fd), 0, "", 0);
  pthread_mutex_unlock(&lock);
  return fd;
}
EXPORT int open(const char *path, int flags, ...) {
  va_list more;
  va_start(more, flags);
  mode_t mode = (flags & (O_CREAT | O_TMPFILE)) ? va_arg(more, mode_t) : 0;
  va_end(more);
  return open64(path, flags, mode);
}

static void wait_at_gate(void) {
  const char *gate = getenv("TK_DISK_GATE");
  if (!gate || access(gate, F_OK) != 0) return;
  char at[PATH_MAX];
  snprintf(at, sizeof at, "%s.at", gate);
  close(real_open(at, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
  while (access(gate, F_OK) == 0) usleep(5000);
}

EXPORT int rename(const char *from, const char *to) {
  ready();
  if (!inside(from) || !inside(to)) return real_rename(from, to);
  wait_at_gate();
  char both[2 * PATH_MAX + 1];
  int len = snprintf(both, sizeof both, "%s%c%s", from, 0, to);
  pthread_mutex_lock(&lock);
  record('r', 0, 0, both, (size_t)len);
  int done = real_rename(from, to);
  pthread_mutex_unlock(&lock);
  return done;
}

EXPORT int unlink(const char *path) {
  ready();
  if (!inside(path)) return real_unlink(path);
  pthread_mutex_lock(&lock);
  record('u', 0, 0, path, strlen(path));
  int done = real_unlink(path);
  pthread_mutex_unlock(&lock);
  return done;
}

/* Calls with flags are the standard library's, for its hash maps; keys are made without. */
EXPORT ssize_t getrandom(void *to, size_t len, unsigned flags) {
  if (!flags && getenv("TK_NO_RANDOM")) {
    errno = EIO;
    return -1;
  }
  return syscall(SYS_getrandom, to, len, flags);
}

EXPORT int mkdir(const char *path, mode_t mode) {
  ready();
  if (inside(path)) record('m', 0, 0, path, strlen(path));
  return real_mkdir(path, mode);
}
