/* The event loop of the I/O thread: epoll and a list of watched descriptors.
 *
 * A watch is embedded in its owner and borrows the descriptor. Callbacks run on the
 * loop's thread; add and remove belong to that thread (or to the time before it runs).
 * vmm_loop_modify may be called from any thread. A callback may remove any watch,
 * itself included.
 */
#ifndef SHL_VMM_LOOP_H
#define SHL_VMM_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"

struct vmm_watch {
    int fd;
    uint32_t events; /* EPOLLIN, EPOLLOUT */
    void (*on_event)(struct vmm_watch *watch, uint32_t events);
    bool added;
};

struct vmm_loop {
    int epoll_fd;
    bool stopping;
    void (*before_event)(struct vmm_loop *loop); /* each callback; NULL: nothing */
    struct vmm_watch *batch[16];                 /* events of this round not yet delivered */
    unsigned batch_count;
};

SHL_MUST_CHECK int vmm_loop_init(struct vmm_loop *loop);
void vmm_loop_release(struct vmm_loop *loop);

SHL_MUST_CHECK int vmm_loop_add(struct vmm_loop *loop,
                                struct vmm_watch *watch,
                                int fd,
                                uint32_t events,
                                void (*on_event)(struct vmm_watch *watch, uint32_t events));
void vmm_loop_modify(struct vmm_loop *loop, struct vmm_watch *watch, uint32_t events);
void vmm_loop_remove(struct vmm_loop *loop, struct vmm_watch *watch);

/* Deliver events until loop->stopping is set by a callback. 0 or -errno. */
SHL_MUST_CHECK int vmm_loop_run(struct vmm_loop *loop);

#endif /* SHL_VMM_LOOP_H */
