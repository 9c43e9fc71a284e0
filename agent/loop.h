/* Event loop of the agent: descriptors by epoll, timers, one thread.
 *
 * Watches and timers are embedded in their owners and call back on the loop thread.
 * A callback may remove any watch or timer, its own and others, and free what they
 * are embedded in: nothing of a removed one is touched again.
 */
#ifndef SHL_AGENT_LOOP_H
#define SHL_AGENT_LOOP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

#include "base/attr.h"
#include "base/list.h"

#define AGENT_LOOP_BATCH 32

struct agent_watch {
    int fd; /* borrowed; -1: not watched */
    void (*fn)(void *arg, uint32_t events);
    void *arg;
};

struct agent_timer {
    struct shl_list node;
    uint64_t at_ms; /* monotonic */
    void (*fn)(void *arg);
    void *arg;
};

struct agent_loop {
    int epoll_fd;
    struct shl_list timers; /* earliest first */
    uint64_t now_ms;        /* monotonic, read once per turn */
    bool stopped;
    void (*on_turn)(void *arg); /* end of each turn, before it waits; may be NULL */
    void *arg;
    int batch_len;
    struct epoll_event batch[AGENT_LOOP_BATCH];
};

/* 0 or -errno. */
SHL_MUST_CHECK int agent_loop_init(struct agent_loop *loop);
void agent_loop_release(struct agent_loop *loop);

/* Runs until agent_loop_stop. 0, or -errno when epoll itself fails. */
SHL_MUST_CHECK int agent_loop_run(struct agent_loop *loop);
void agent_loop_stop(struct agent_loop *loop);

/* @watch has fn and arg set. @events as for epoll (EPOLLET allowed). 0 or -errno. */
SHL_MUST_CHECK int agent_watch_add(struct agent_loop *loop,
                                   struct agent_watch *watch,
                                   int fd,
                                   uint32_t events);
/* Fine on a watch that is not active. Does not close the descriptor. */
void agent_watch_remove(struct agent_loop *loop, struct agent_watch *watch);

void agent_timer_init(struct agent_timer *timer, void (*fn)(void *arg), void *arg);
/* (Re)arms for @delay_ms from now. */
void agent_timer_start(struct agent_loop *loop, struct agent_timer *timer, uint64_t delay_ms);
void agent_timer_stop(struct agent_timer *timer);

#endif /* SHL_AGENT_LOOP_H */
