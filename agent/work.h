/* A few threads for what may block: disk, and vfork until the child has exec'd.
 *
 * A work item is embedded in its owner. Between agent_pool_submit and its done
 * callback it belongs to the pool; run is called on some thread, done on the loop
 * thread afterwards. There is no cancel: an owner that loses interest says so in a
 * flag of its own and cleans up in done. Items start in the order they came, so
 * owners that do one bounded step per item share the threads fairly. Threads start
 * when first needed.
 */
#ifndef SHL_AGENT_WORK_H
#define SHL_AGENT_WORK_H

#include <pthread.h>

#include "agent/loop.h"

#define AGENT_POOL_THREADS_MAX 8

struct agent_work {
    struct shl_list node;
    void (*run)(struct agent_work *work);
    void (*done)(struct agent_work *work);
};

struct agent_pool {
    pthread_mutex_t lock; /* of everything below up to the blank line */
    pthread_cond_t wake;
    struct shl_list queue;
    struct shl_list finished;
    unsigned queued_count;
    unsigned idle_count;
    bool stopping;

    unsigned thread_count; /* loop thread only, like the rest */
    unsigned thread_max;
    pthread_t threads[AGENT_POOL_THREADS_MAX];
    struct agent_loop *loop;
    struct agent_watch watch;
    int event_fd;
    /* Set before the first submit: */
    bool urgent;          /* threads run as the loop thread does */
    bool urgent_children; /* so do processes they make, until these change it */
    /* Tests: called on the loop thread instead of work->run on another one. */
    void (*run_here)(struct agent_work *work);
};

/* 0 or -errno. */
SHL_MUST_CHECK int agent_pool_init(struct agent_pool *pool,
                                   struct agent_loop *loop,
                                   unsigned thread_max);

/* Waits for running items, then hands every remaining one to its done callback. */
void agent_pool_release(struct agent_pool *pool);

void agent_pool_submit(struct agent_pool *pool, struct agent_work *work);

/* Call done of everything that has finished (the loop does this by itself). */
void agent_pool_poll(struct agent_pool *pool);

#endif /* SHL_AGENT_WORK_H */
