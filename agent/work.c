#include "agent/work.h"

#include <assert.h>
#include <errno.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* Threads start with an ordinary priority, whatever the loop thread has. */
static void become_urgent(bool children_too)
{
    struct sched_param urgent = {.sched_priority = 1};

    (void)sched_setscheduler(0, SCHED_RR | (children_too ? 0 : SCHED_RESET_ON_FORK), &urgent);
}

static void *thread_main(void *arg)
{
    struct agent_pool *pool = arg;

    if (pool->urgent) {
        become_urgent(pool->urgent_children);
    }
    (void)pthread_mutex_lock(&pool->lock);
    while (!pool->stopping) {
        struct shl_list *first = shl_list_first(&pool->queue);
        struct agent_work *work;

        if (!first) {
            pool->idle_count++;
            (void)pthread_cond_wait(&pool->wake, &pool->lock);
            pool->idle_count--;
            continue;
        }
        shl_list_remove(first);
        pool->queued_count--;
        (void)pthread_mutex_unlock(&pool->lock);
        work = shl_container_of(first, struct agent_work, node);
        work->run(work);
        (void)pthread_mutex_lock(&pool->lock);
        shl_list_push_back(&pool->finished, &work->node);
        (void)eventfd_write(pool->event_fd, 1);
    }
    (void)pthread_mutex_unlock(&pool->lock);
    return NULL;
}

static void on_event(void *arg, uint32_t events)
{
    struct agent_pool *pool = arg;
    eventfd_t count;

    (void)events;
    (void)eventfd_read(pool->event_fd, &count);
    agent_pool_poll(pool);
}

int agent_pool_init(struct agent_pool *pool, struct agent_loop *loop, unsigned thread_max)
{
    assert(thread_max <= AGENT_POOL_THREADS_MAX);
    *pool = (struct agent_pool){.loop = loop, .thread_max = thread_max};
    pool->watch = (struct agent_watch){-1, on_event, pool};
    (void)pthread_mutex_init(&pool->lock, NULL);
    (void)pthread_cond_init(&pool->wake, NULL);
    shl_list_init(&pool->queue);
    shl_list_init(&pool->finished);
    pool->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (pool->event_fd < 0) {
        return -errno;
    }
    return agent_watch_add(loop, &pool->watch, pool->event_fd, EPOLLIN);
}

void agent_pool_release(struct agent_pool *pool)
{
    struct shl_list *first;
    unsigned i;

    (void)pthread_mutex_lock(&pool->lock);
    pool->stopping = true;
    (void)pthread_cond_broadcast(&pool->wake);
    (void)pthread_mutex_unlock(&pool->lock);
    for (i = 0; i < pool->thread_count; i++) {
        (void)pthread_join(pool->threads[i], NULL);
    }
    while ((first = shl_list_first(&pool->queue)) != NULL) {
        shl_list_remove(first);
        shl_list_push_back(&pool->finished, first);
    }
    agent_pool_poll(pool);
    agent_watch_remove(pool->loop, &pool->watch);
    (void)close(pool->event_fd);
    (void)pthread_mutex_destroy(&pool->lock);
    (void)pthread_cond_destroy(&pool->wake);
}

void agent_pool_submit(struct agent_pool *pool, struct agent_work *work)
{
    bool need_thread;

    assert(!pool->stopping);
    shl_list_init(&work->node);
    if (pool->run_here) {
        pool->run_here(work);
        shl_list_push_back(&pool->finished, &work->node);
        return;
    }
    (void)pthread_mutex_lock(&pool->lock);
    shl_list_push_back(&pool->queue, &work->node);
    pool->queued_count++;
    need_thread = pool->queued_count > pool->idle_count && pool->thread_count < pool->thread_max;
    (void)pthread_cond_signal(&pool->wake);
    (void)pthread_mutex_unlock(&pool->lock);
    if (need_thread &&
        pthread_create(&pool->threads[pool->thread_count], NULL, thread_main, pool) == 0) {
        pool->thread_count++;
    }
    if (pool->thread_count == 0) {
        /* No memory for even one thread: do it here, late is better than never. */
        shl_list_remove(&work->node);
        pool->queued_count--;
        work->run(work);
        shl_list_push_back(&pool->finished, &work->node);
        (void)eventfd_write(pool->event_fd, 1);
    }
}

void agent_pool_poll(struct agent_pool *pool)
{
    struct shl_list batch = SHL_LIST_INIT(batch);
    struct shl_list *first;

    (void)pthread_mutex_lock(&pool->lock);
    while ((first = shl_list_first(&pool->finished)) != NULL) {
        shl_list_remove(first);
        shl_list_push_back(&batch, first);
    }
    (void)pthread_mutex_unlock(&pool->lock);
    while ((first = shl_list_first(&batch)) != NULL) {
        struct agent_work *work = shl_container_of(first, struct agent_work, node);

        shl_list_remove(first);
        work->done(work);
    }
}
