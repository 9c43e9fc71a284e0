/* Preloaded into a daemon: its wall clock is SHOAL_TEST_CLOCK_S seconds off. The monotonic clock
 * is not touched, as with a machine whose date is wrong. */
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

typedef int (*gettime_fn)(clockid_t clock, struct timespec *ret);

static long long offset_s(void)
{
    const char *text = getenv("SHOAL_TEST_CLOCK_S");

    return text ? atoll(text) : 0;
}

__attribute__((visibility("default"))) int clock_gettime(clockid_t clock, struct timespec *ret)
{
    static gettime_fn real;
    int rc;

    if (!real) {
        real = (gettime_fn)dlsym(RTLD_NEXT, "clock_gettime");
    }
    rc = real(clock, ret);
    if (rc == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        ret->tv_sec += (time_t)offset_s();
    }
    return rc;
}

__attribute__((visibility("default"))) int gettimeofday(struct timeval *restrict ret,
                                                        void *restrict zone)
{
    struct timespec now;
    int rc = clock_gettime(CLOCK_REALTIME, &now);

    (void)zone;
    ret->tv_sec = now.tv_sec;
    ret->tv_usec = now.tv_nsec / 1000;
    return rc;
}

__attribute__((visibility("default"))) time_t time(time_t *ret)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    if (ret) {
        *ret = now.tv_sec;
    }
    return now.tv_sec;
}
