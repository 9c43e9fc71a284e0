#include "vmm-kvm/loop.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

int vmm_loop_init(struct vmm_loop *loop)
{
    memset(loop, 0, sizeof(*loop));
    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    return loop->epoll_fd < 0 ? -errno : 0;
}

void vmm_loop_release(struct vmm_loop *loop)
{
    if (loop->epoll_fd >= 0) {
        (void)close(loop->epoll_fd);
    }
    loop->epoll_fd = -1;
}

int vmm_loop_add(struct vmm_loop *loop,
                 struct vmm_watch *watch,
                 int fd,
                 uint32_t events,
                 void (*on_event)(struct vmm_watch *watch, uint32_t events))
{
    struct epoll_event event = {.events = events, .data.ptr = watch};

    watch->fd = fd;
    watch->events = events;
    watch->on_event = on_event;
    if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) {
        return -errno;
    }
    watch->added = true;
    return 0;
}

void vmm_loop_modify(struct vmm_loop *loop, struct vmm_watch *watch, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = watch};

    if (watch->added && watch->events != events) {
        watch->events = events;
        (void)epoll_ctl(loop->epoll_fd, EPOLL_CTL_MOD, watch->fd, &event);
    }
}

void vmm_loop_remove(struct vmm_loop *loop, struct vmm_watch *watch)
{
    unsigned i;

    if (!watch->added) {
        return;
    }
    watch->added = false;
    (void)epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, watch->fd, NULL);
    for (i = 0; i < loop->batch_count; i++) {
        if (loop->batch[i] == watch) {
            loop->batch[i] = NULL;
        }
    }
}

int vmm_loop_run(struct vmm_loop *loop)
{
    struct epoll_event events[SHL_ARRAY_SIZE(loop->batch)];

    while (!loop->stopping) {
        int n = epoll_wait(loop->epoll_fd, events, SHL_ARRAY_SIZE(events), -1);
        int i;

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return -errno;
        }
        for (i = 0; i < n; i++) {
            loop->batch[i] = events[i].data.ptr;
        }
        loop->batch_count = (unsigned)n;
        for (i = 0; i < n; i++) {
            struct vmm_watch *watch;

            if (loop->before_event) {
                loop->before_event(loop);
            }
            watch = loop->batch[i];
            if (watch) {
                watch->on_event(watch, events[i].events);
            }
        }
        loop->batch_count = 0;
    }
    return 0;
}
