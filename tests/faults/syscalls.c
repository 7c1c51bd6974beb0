/* Make one system call on the files of a folder fail, once. Preloaded into a test's process.

   fail_call(folder, number, error) counts the calls on paths below `folder` from now on and lets
   call `number` fail with `error`; with number 0 none fails. calls_made() says how many there were,
   failed_call() which one failed; allow_calls() ends it. A close() that fails has closed the file,
   as on Linux. fcntl() and flock() fail to lock and never to unlock: no local disk refuses that, and
   SQLite would hold the lock for as long as a connection is open. What the C library calls by
   itself (as in fopen) is not seen. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/types.h>
#include <unistd.h>
#include <utime.h>

static char folder[PATH_MAX], failed[PATH_MAX + 64];
static size_t folder_length;
static int armed, error_number;
static long calls, failing_number;

void fail_call(const char *below, long number, int error) {
    folder_length = strlen(below);
    memcpy(folder, below, folder_length + 1);
    failed[0] = 0;
    calls = 0;
    failing_number = number;
    error_number = error;
    armed = 1;
}

void allow_calls(void) { armed = 0; }
long calls_made(void) { return calls; }
const char *failed_call(void) { return failed; }

static int fails(const char *call, const char *path) {
    if (strncmp(path, folder, folder_length) != 0) return 0;
    if (path[folder_length] != 0 && path[folder_length] != '/') return 0;
    if (__atomic_add_fetch(&calls, 1, __ATOMIC_SEQ_CST) != failing_number) return 0;
    snprintf(failed, sizeof failed, "%s %s", call, path + folder_length);
    errno = error_number;
    return 1;
}

static int fails_fd(const char *call, int fd) {
    if (!armed) return 0;
    int before = errno;
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t (*real)(const char *, char *, size_t) = dlsym(RTLD_NEXT, "readlink");
    ssize_t length = real(link, path, sizeof path - 1);
    errno = before;
    if (length < 0) return 0;
    path[length] = 0;
    return fails(call, path);
}

static int fails_at(const char *call, int at, const char *name) {
    if (!armed || !name) return 0;
    if (name[0] == '/') return fails(call, name);
    if (name[0] == 0 && at != AT_FDCWD) return fails_fd(call, at);
    int before = errno;
    char link[64], path[PATH_MAX * 2];
    if (at == AT_FDCWD)
        snprintf(link, sizeof link, "/proc/self/cwd");
    else
        snprintf(link, sizeof link, "/proc/self/fd/%d", at);
    ssize_t (*real)(const char *, char *, size_t) = dlsym(RTLD_NEXT, "readlink");
    ssize_t length = real(link, path, PATH_MAX - 1);
    errno = before;
    if (length < 0) return 0;
    snprintf(path + length, sizeof path - length, "/%s", name);
    return fails(call, path);
}

#define REAL(symbol) ((__typeof__(&symbol))dlsym(RTLD_NEXT, #symbol))

#define ON_PATH(type, bad, name, parameters, arguments)                                            \
    type name parameters {                                                                         \
        if (fails_at(#name, AT_FDCWD, path)) return bad;                                           \
        return REAL(name) arguments;                                                               \
    }
#define ON_FD(type, bad, name, parameters, arguments)                                              \
    type name parameters {                                                                         \
        if (fails_fd(#name, fd)) return bad;                                                       \
        return REAL(name) arguments;                                                               \
    }
#define ON_BOTH(type, bad, name, parameters, arguments)                                            \
    type name parameters {                                                                         \
        if (fails_at(#name, at, path)) return bad;                                                 \
        return REAL(name) arguments;                                                               \
    }

#define MODE                                                                                       \
    va_list more;                                                                                  \
    va_start(more, flags);                                                                         \
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0;                        \
    va_end(more)

#define OPEN(name)                                                                                 \
    int name(const char *path, int flags, ...) {                                                   \
        MODE;                                                                                      \
        if (fails_at(#name, AT_FDCWD, path)) return -1;                                            \
        return REAL(name)(path, flags, mode);                                                      \
    }
#define OPENAT(name)                                                                               \
    int name(int at, const char *path, int flags, ...) {                                           \
        MODE;                                                                                      \
        if (fails_at(#name, at, path)) return -1;                                                  \
        return REAL(name)(at, path, flags, mode);                                                  \
    }
#define FCNTL(name)                                                                                \
    int name(int fd, int command, ...) {                                                           \
        va_list more;                                                                              \
        va_start(more, command);                                                                   \
        void *argument = va_arg(more, void *);                                                     \
        va_end(more);                                                                              \
        int locks = command == F_SETLK || command == F_SETLKW || command == F_GETLK;               \
        short kind = locks ? ((struct flock *)argument)->l_type : F_UNLCK;                         \
        if (kind == F_RDLCK && fails_fd(#name " read lock", fd)) return -1;                        \
        if (kind == F_WRLCK && fails_fd(#name " write lock", fd)) return -1;                       \
        return REAL(name)(fd, command, argument);                                                  \
    }

OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)
FCNTL(fcntl)
FCNTL(fcntl64)

int flock(int fd, int operation) {
    if (!(operation & LOCK_UN) && fails_fd("flock", fd)) return -1;
    return REAL(flock)(fd, operation);
}

int close(int fd) {
    int bad = fails_fd("close", fd), answer = REAL(close)(fd);
    if (!bad) return answer;
    errno = error_number;
    return -1;
}

ON_PATH(int, -1, stat, (const char *path, struct stat *status), (path, status))
ON_PATH(int, -1, stat64, (const char *path, struct stat64 *status), (path, status))
ON_PATH(int, -1, lstat, (const char *path, struct stat *status), (path, status))
ON_PATH(int, -1, lstat64, (const char *path, struct stat64 *status), (path, status))
ON_FD(int, -1, fstat, (int fd, struct stat *status), (fd, status))
ON_FD(int, -1, fstat64, (int fd, struct stat64 *status), (fd, status))
ON_BOTH(int, -1, fstatat, (int at, const char *path, struct stat *status, int flags),
        (at, path, status, flags))
ON_BOTH(int, -1, fstatat64, (int at, const char *path, struct stat64 *status, int flags),
        (at, path, status, flags))
ON_BOTH(int, -1, statx,
        (int at, const char *path, int flags, unsigned int mask, struct statx *status),
        (at, path, flags, mask, status))
ON_PATH(int, -1, statvfs, (const char *path, struct statvfs *status), (path, status))
ON_PATH(int, -1, statvfs64, (const char *path, struct statvfs64 *status), (path, status))
ON_PATH(int, -1, access, (const char *path, int mode), (path, mode))
ON_PATH(ssize_t, -1, readlink, (const char *path, char *text, size_t size), (path, text, size))

ON_FD(ssize_t, -1, read, (int fd, void *data, size_t size), (fd, data, size))
ON_FD(ssize_t, -1, pread, (int fd, void *data, size_t size, off_t at), (fd, data, size, at))
ON_FD(ssize_t, -1, pread64, (int fd, void *data, size_t size, off64_t at), (fd, data, size, at))
ON_FD(ssize_t, -1, write, (int fd, const void *data, size_t size), (fd, data, size))
ON_FD(ssize_t, -1, pwrite, (int fd, const void *data, size_t size, off_t at), (fd, data, size, at))
ON_FD(ssize_t, -1, pwrite64, (int fd, const void *data, size_t size, off64_t at),
      (fd, data, size, at))
ON_FD(off_t, -1, lseek, (int fd, off_t offset, int whence), (fd, offset, whence))
ON_FD(off64_t, -1, lseek64, (int fd, off64_t offset, int whence), (fd, offset, whence))
ON_FD(int, -1, fsync, (int fd), (fd))
ON_FD(int, -1, fdatasync, (int fd), (fd))
ON_FD(int, -1, ftruncate, (int fd, off_t size), (fd, size))
ON_FD(int, -1, ftruncate64, (int fd, off64_t size), (fd, size))
ON_FD(int, -1, fchmod, (int fd, mode_t mode), (fd, mode))
ON_FD(int, -1, fchown, (int fd, uid_t owner, gid_t group), (fd, owner, group))
ON_FD(void *, MAP_FAILED, mmap,
      (void *where, size_t size, int protection, int flags, int fd, off_t at),
      (where, size, protection, flags, fd, at))
ON_FD(void *, MAP_FAILED, mmap64,
      (void *where, size_t size, int protection, int flags, int fd, off64_t at),
      (where, size, protection, flags, fd, at))

ON_PATH(int, -1, chmod, (const char *path, mode_t mode), (path, mode))
ON_PATH(int, -1, utime, (const char *path, const struct utimbuf *times), (path, times))
ON_BOTH(int, -1, utimensat, (int at, const char *path, const struct timespec times[2], int flags),
        (at, path, times, flags))
ON_FD(int, -1, futimens, (int fd, const struct timespec times[2]), (fd, times))
ON_PATH(int, -1, unlink, (const char *path), (path))
ON_BOTH(int, -1, unlinkat, (int at, const char *path, int flags), (at, path, flags))
ON_PATH(int, -1, mkdir, (const char *path, mode_t mode), (path, mode))
ON_PATH(int, -1, rmdir, (const char *path), (path))
ON_PATH(int, -1, rename, (const char *path, const char *other), (path, other))
ON_BOTH(int, -1, renameat, (int at, const char *path, int other_at, const char *other),
        (at, path, other_at, other))
ON_PATH(int, -1, link, (const char *path, const char *other), (path, other))
ON_BOTH(int, -1, linkat, (int at, const char *path, int other_at, const char *other, int flags),
        (at, path, other_at, other, flags))

ON_PATH(DIR *, NULL, opendir, (const char *path), (path))

struct dirent64 *readdir64(DIR *names) {
    if (fails_fd("readdir64", dirfd(names))) return NULL;
    return REAL(readdir64)(names);
}
