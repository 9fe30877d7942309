/* Preloaded into a test process: makes the n-th armed call of the C library fail, allocations or input and output. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>
#include <unistd.h>

static volatile long allocations_left = -1, calls_left = -1;
static volatile size_t smallest = 0;
static volatile long failed = 0;

void fail_allocation(long n, size_t size) { smallest = size; failed = 0; allocations_left = n; }
void fail_call(long n) { failed = 0; calls_left = n; }
/* Stops, and returns whether a call was made to fail. */
long stop_failing(void) { allocations_left = calls_left = -1; return failed; }

static int fails(volatile long *left) {
    if (*left < 0 || __sync_sub_and_fetch(left, 1) != 0) return 0;
    *left = -1;
    failed = 1;
    return 1;
}

static int no_memory(size_t size) {
    if (allocations_left < 0 || size < smallest || !fails(&allocations_left)) return 0;
    errno = ENOMEM;
    return 1;
}

static int no_io(void) {
    if (!fails(&calls_left)) return 0;
    errno = EIO;
    return 1;
}

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

void *malloc(size_t size) { return no_memory(size) ? NULL : __libc_malloc(size); }
void *calloc(size_t n, size_t size) { return no_memory(n * size) ? NULL : __libc_calloc(n, size); }
void *realloc(void *old, size_t size) { return no_memory(size) ? NULL : __libc_realloc(old, size); }
int posix_memalign(void **out, size_t align, size_t size) {
    if (no_memory(size)) return ENOMEM;
    *out = __libc_memalign(align, size);
    return *out ? 0 : ENOMEM;
}

#define NEXT(name) ((__typeof__(name) *)dlsym(RTLD_NEXT, #name))
int fsync(int file) { return no_io() ? -1 : NEXT(fsync)(file); }
int rename(const char *from, const char *to) { return no_io() ? -1 : NEXT(rename)(from, to); }
int mkdir(const char *path, mode_t mode) { extern int mkdir(const char *, mode_t); return no_io() ? -1 : NEXT(mkdir)(path, mode); }
ssize_t write(int file, const void *data, size_t size) { return no_io() ? -1 : NEXT(write)(file, data, size); }
ssize_t read(int file, void *data, size_t size) { return no_io() ? -1 : NEXT(read)(file, data, size); }
int unlink(const char *path) { return no_io() ? -1 : NEXT(unlink)(path); }
int unlinkat(int place, const char *path, int flags) { return no_io() ? -1 : NEXT(unlinkat)(place, path, flags); }
int open64(const char *path, int flags, ...) {
    va_list rest; va_start(rest, flags); mode_t mode = va_arg(rest, int); va_end(rest);
    return no_io() ? -1 : NEXT(open64)(path, flags, mode);
}
