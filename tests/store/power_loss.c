/* Remembers what a power loss would leave of the files beneath SHIM_ROOT: the
 * content that a file had at its last fsync or fdatasync, and the names that a
 * folder had at its last fsync. Nothing else counts, sync_file_range least of
 * all. Preloaded into the process under test; what it remembers lies in
 * SHIM_SHADOW, named by inode and time of birth.
 *
 * SHIM_IGNORE=fdatasync or =folders leaves those out, to prove that a test
 * would notice. SHIM_FAIL_AFTER=n lets every fdatasync after the nth fail. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;
static long data_syncs;

static void die(const char *what) {
    fprintf(stderr, "power-loss shim: %s: %s\n", what, strerror(errno));
    abort();
}

static int ignored(const char *what) {
    const char *ignore = getenv("SHIM_IGNORE");
    return ignore != NULL && strcmp(ignore, what) == 0;
}

static int identify(int at, const char *name, char *id, size_t size, int *folder) {
    struct statx about;
    int flags = *name == '\0' ? AT_EMPTY_PATH : AT_SYMLINK_NOFOLLOW;
    if (statx(at, name, flags, STATX_TYPE | STATX_INO | STATX_BTIME, &about) != 0) return -1;
    snprintf(id, size, "%llu-%lld-%u", (unsigned long long)about.stx_ino,
             (long long)about.stx_btime.tv_sec, about.stx_btime.tv_nsec);
    *folder = S_ISDIR(about.stx_mode);
    return 0;
}

static void copy_file(int from, FILE *to) {
    static char buffer[1 << 20];
    off_t offset = 0;
    ssize_t got;
    while ((got = pread(from, buffer, sizeof buffer, offset)) > 0) {
        if (fwrite(buffer, 1, (size_t)got, to) != (size_t)got) die("write");
        offset += got;
    }
    if (got < 0) die("read");
}

static void copy_names(int from, FILE *to) {
    DIR *folder = fdopendir(from);
    struct dirent *entry;
    if (folder == NULL) die("fdopendir");
    while ((entry = readdir(folder)) != NULL) {
        char id[128];
        int is_folder;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        /* It may be gone again. */
        if (identify(dirfd(folder), entry->d_name, id, sizeof id, &is_folder) != 0) continue;
        fprintf(to, "%s\t%c\t%s\n", id, is_folder ? 'd' : 'f', entry->d_name);
    }
    closedir(folder);
}

static void remember(int fd) {
    char self[64], path[PATH_MAX], id[128], kept[PATH_MAX], making[PATH_MAX];
    const char *root = getenv("SHIM_ROOT"), *shadow = getenv("SHIM_SHADOW");
    int is_folder;
    if (root == NULL || shadow == NULL) return;
    snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(self, path, sizeof path - 1);
    if (length < 0) die("readlink");
    path[length] = '\0';
    if (strncmp(path, root, strlen(root)) != 0) return;
    if (identify(fd, "", id, sizeof id, &is_folder) != 0) die("statx");
    if (is_folder && ignored("folders") && strcmp(path, root) != 0) return;
    int from = open(self, O_RDONLY | O_CLOEXEC);
    if (from < 0) die("open");
    snprintf(kept, sizeof kept, "%s/%s", shadow, id);
    snprintf(making, sizeof making, "%s/making", shadow);
    FILE *to = fopen(making, "we");
    if (to == NULL) die("fopen");
    if (is_folder) {
        copy_names(from, to);
    } else {
        copy_file(from, to);
        close(from);
    }
    if (fclose(to) != 0 || rename(making, kept) != 0) die("rename");
}

int fsync(int fd) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    int result = real(fd);
    if (result == 0) {
        pthread_mutex_lock(&one_at_a_time);
        remember(fd);
        pthread_mutex_unlock(&one_at_a_time);
    }
    return result;
}

int fdatasync(int fd) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    const char *fail_after = getenv("SHIM_FAIL_AFTER");
    int result = real(fd);
    pthread_mutex_lock(&one_at_a_time);
    data_syncs++;
    if (fail_after != NULL && data_syncs > atol(fail_after)) {
        errno = EIO;
        result = -1;
    } else if (result == 0 && !ignored("fdatasync")) {
        remember(fd);
    }
    pthread_mutex_unlock(&one_at_a_time);
    return result;
}
