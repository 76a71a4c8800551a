/* For LD_PRELOAD: a disk that takes SLOW_SYNC_MS for each sync, once the file SLOW_SYNC_FROM is there. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static void wait_for_disk(void)
{
    const char *from = getenv("SLOW_SYNC_FROM");
    const char *text = getenv("SLOW_SYNC_MS");
    if (!from || !text || access(from, F_OK) != 0)
        return;
    long ms = atol(text);
    struct timespec span = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&span, NULL);
}

int fsync(int file)
{
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    wait_for_disk();
    return real(file);
}

int fdatasync(int file)
{
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    wait_for_disk();
    return real(file);
}
