#include "agent/loop.h"

#include <errno.h>
#include <unistd.h>

#include "base/io.h"

#define WAIT_MAX_MS 3600000

int agent_loop_init(struct agent_loop *loop)
{
    *loop = (struct agent_loop){.epoll_fd = epoll_create1(EPOLL_CLOEXEC)};
    shl_list_init(&loop->timers);
    loop->now_ms = shl_monotonic_ms();
    return loop->epoll_fd < 0 ? -errno : 0;
}

void agent_loop_release(struct agent_loop *loop)
{
    if (loop->epoll_fd >= 0) {
        (void)close(loop->epoll_fd);
        loop->epoll_fd = -1;
    }
}

void agent_loop_stop(struct agent_loop *loop)
{
    loop->stopped = true;
}

int agent_watch_add(struct agent_loop *loop, struct agent_watch *watch, int fd, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = watch};

    if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) {
        return -errno;
    }
    watch->fd = fd;
    return 0;
}

void agent_watch_remove(struct agent_loop *loop, struct agent_watch *watch)
{
    int i;

    if (watch->fd < 0) {
        return;
    }
    (void)epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, watch->fd, NULL);
    watch->fd = -1;
    /* Events of this turn that were already fetched must not reach it any more. */
    for (i = 0; i < loop->batch_len; i++) {
        if (loop->batch[i].data.ptr == watch) {
            loop->batch[i].data.ptr = NULL;
        }
    }
}

void agent_timer_init(struct agent_timer *timer, void (*fn)(void *arg), void *arg)
{
    *timer = (struct agent_timer){.fn = fn, .arg = arg};
    shl_list_init(&timer->node);
}

void agent_timer_start(struct agent_loop *loop, struct agent_timer *timer, uint64_t delay_ms)
{
    struct shl_list *at;

    shl_list_remove(&timer->node);
    timer->at_ms = shl_monotonic_ms() + delay_ms;
    for (at = loop->timers.prev; at != &loop->timers; at = at->prev) {
        if (shl_container_of(at, struct agent_timer, node)->at_ms <= timer->at_ms) {
            break;
        }
    }
    shl_list_push_front(at, &timer->node);
}

void agent_timer_stop(struct agent_timer *timer)
{
    shl_list_remove(&timer->node);
}

static void run_timers(struct agent_loop *loop)
{
    struct shl_list *first;

    while ((first = shl_list_first(&loop->timers)) != NULL) {
        struct agent_timer *timer = shl_container_of(first, struct agent_timer, node);

        if (timer->at_ms > loop->now_ms) {
            return;
        }
        shl_list_remove(first);
        timer->fn(timer->arg);
    }
}

static int wait_ms(struct agent_loop *loop)
{
    struct shl_list *first = shl_list_first(&loop->timers);
    uint64_t at_ms, now_ms;

    if (!first) {
        return -1;
    }
    at_ms = shl_container_of(first, struct agent_timer, node)->at_ms;
    now_ms = shl_monotonic_ms();
    return at_ms <= now_ms ? 0 : (int)SHL_MIN(at_ms - now_ms, (uint64_t)WAIT_MAX_MS);
}

int agent_loop_run(struct agent_loop *loop)
{
    loop->stopped = false;
    while (!loop->stopped) {
        int count = epoll_wait(loop->epoll_fd, loop->batch, AGENT_LOOP_BATCH, wait_ms(loop));
        int i;

        if (count < 0 && errno != EINTR) {
            return -errno;
        }
        loop->now_ms = shl_monotonic_ms();
        loop->batch_len = SHL_MAX(count, 0);
        for (i = 0; i < loop->batch_len; i++) {
            struct agent_watch *watch = loop->batch[i].data.ptr;

            if (watch) {
                watch->fn(watch->arg, loop->batch[i].events);
            }
        }
        loop->batch_len = 0;
        run_timers(loop);
        if (loop->on_turn) {
            loop->on_turn(loop->arg);
        }
    }
    return 0;
}
