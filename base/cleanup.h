/* Scope-bound release for synchronous code (not for loop objects, which close in
 * two phases). Hand a value on with shl_steal_ptr / shl_steal_fd; do not mix with
 * goto clean-up in one function. */
#ifndef SHL_BASE_CLEANUP_H
#define SHL_BASE_CLEANUP_H

#include <stdlib.h>
#include <unistd.h>

#define SHL_CLEANUP(fn) __attribute__((cleanup(fn)))

static inline void shl_cleanup_free_(void *ptr)
{
    free(*(void **)ptr);
}

static inline void shl_cleanup_fd_(int *fd)
{
    if (*fd >= 0) {
        (void)close(*fd);
    }
}

#define SHL_CLEANUP_FREE SHL_CLEANUP(shl_cleanup_free_)
#define SHL_CLEANUP_FD   SHL_CLEANUP(shl_cleanup_fd_)

static inline int shl_steal_fd(int *fd)
{
    int taken = *fd;

    *fd = -1;
    return taken;
}

static inline void *shl_steal_ptr_(void *ptr)
{
    void **slot = ptr;
    void *taken = *slot;

    *slot = NULL;
    return taken;
}
#define shl_steal_ptr(ptr) ((__typeof__(*(ptr)))shl_steal_ptr_(ptr))

#endif /* SHL_BASE_CLEANUP_H */
