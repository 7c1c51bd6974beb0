/* A disk for tests, preloaded into a process: it takes its time, and it remembers what it was told
   to keep. DISK_DELAY_MS is how long each fsync takes. DISK_KEEPS is a folder that receives, at
   each fsync, a copy of the file as it is then: what a power cut would leave. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A folder was written through: names that are gone from it are gone for good. */
static void forget(const char *path, const char *folder) {
    char there[PATH_MAX * 2], kept[PATH_MAX * 2];
    DIR *names = opendir(folder);
    if (!names) return;
    for (struct dirent *entry; (entry = readdir(names));) {
        snprintf(there, sizeof there, "%s/%s", path, entry->d_name);
        snprintf(kept, sizeof kept, "%s/%s", folder, entry->d_name);
        if (access(there, F_OK) != 0) unlink(kept);
    }
    closedir(names);
}

static void keep(int fd) {
    const char *folder = getenv("DISK_KEEPS");
    char link[64], path[PATH_MAX], kept[PATH_MAX * 2], part[PATH_MAX * 2 + 8], block[65536];
    if (!folder) return;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return;
    path[length] = 0;
    struct stat status;
    if (fstat(fd, &status) == 0 && S_ISDIR(status.st_mode)) {
        forget(path, folder);
        return;
    }
    const char *name = strrchr(path, '/');
    if (!name) return;
    snprintf(kept, sizeof kept, "%s%s", folder, name);
    snprintf(part, sizeof part, "%s.part", kept);
    int out = open(part, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (out < 0) return;
    off_t at = 0;
    for (ssize_t n; (n = pread(fd, block, sizeof block, at)) > 0; at += n)
        if (write(out, block, n) != n) abort();
    close(out);
    rename(part, kept);
}

static int sync_with(const char *symbol, int fd) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, symbol);
    const char *delay = getenv("DISK_DELAY_MS");
    if (delay) usleep(atoi(delay) * 1000);
    keep(fd);
    return real(fd);
}

int fsync(int fd) { return sync_with("fsync", fd); }
int fdatasync(int fd) { return sync_with("fdatasync", fd); }
