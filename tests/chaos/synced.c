/* Notes how much of each file is safe on the disk, for an emulated power cut.

   Preloaded into a server, it keeps one small file per inode in $SYNCED: the length that the file
   had when its last successful fsync or fdatasync began. A cut is then: kill -9, and cut every file
   back to its noted length; what was never synced has length 0. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;

static int note_of(ino_t inode, char *path, size_t size)
{
    const char *folder = getenv("SYNCED");
    return folder && snprintf(path, size, "%s/%ju", folder, (uintmax_t)inode) < (int)size;
}

/* Raise the noted length to `length`, or with `shrunk` lower it: two threads may sync at once, and
   the later one may have begun earlier. */
static void note(ino_t inode, int64_t length, int shrunk)
{
    char path[4096];
    int64_t noted = 0;
    if (!note_of(inode, path, sizeof path)) return;
    pthread_mutex_lock(&one_at_a_time);
    int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (file >= 0) {
        int known = pread(file, &noted, sizeof noted, 0) == sizeof noted;
        if (shrunk ? known && length < noted : length > noted)
            if (pwrite(file, &length, sizeof length, 0) != sizeof length) abort();
        close(file);
    }
    pthread_mutex_unlock(&one_at_a_time);
}

static int synced(int fd, int (*real)(int))
{
    struct stat before;
    int is_file = fstat(fd, &before) == 0 && S_ISREG(before.st_mode);
    int result = real(fd);
    if (result == 0 && is_file) note(before.st_ino, before.st_size, 0);
    return result;
}

int fsync(int fd)
{
    return synced(fd, (int (*)(int))dlsym(RTLD_NEXT, "fsync"));
}

int fdatasync(int fd)
{
    return synced(fd, (int (*)(int))dlsym(RTLD_NEXT, "fdatasync"));
}

static int truncated(int fd, off64_t length, int result)
{
    struct stat now;
    if (result == 0 && fstat(fd, &now) == 0) note(now.st_ino, length, 1);
    return result;
}

int ftruncate64(int fd, off64_t length)
{
    int (*real)(int, off64_t) = (int (*)(int, off64_t))dlsym(RTLD_NEXT, "ftruncate64");
    return truncated(fd, length, real(fd, length));
}

int ftruncate(int fd, off_t length)
{
    int (*real)(int, off_t) = (int (*)(int, off_t))dlsym(RTLD_NEXT, "ftruncate");
    return truncated(fd, length, real(fd, length));
}

/* A file that is gone leaves its inode to a new one, of which nothing is safe yet. */
int unlink(const char *name)
{
    char path[4096];
    struct stat gone;
    int (*real)(const char *) = (int (*)(const char *))dlsym(RTLD_NEXT, "unlink");
    if (lstat(name, &gone) == 0 && gone.st_nlink == 1 && note_of(gone.st_ino, path, sizeof path))
        real(path);
    return real(name);
}
