#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "node/sandbox/sandbox.h"

static struct sandbox_waiter *waiter_new(node_sandbox_cb cb, void *arg)
{
    struct sandbox_waiter *waiter = calloc(1, sizeof(*waiter));

    if (waiter) {
        waiter->cb = cb;
        waiter->arg = arg;
    }
    return waiter;
}

int waiter_add(struct shl_list *list, node_sandbox_cb cb, void *arg)
{
    struct sandbox_waiter *waiter = waiter_new(cb, arg);

    if (!waiter) {
        return -ENOMEM;
    }
    shl_list_push_back(list, &waiter->node);
    return 0;
}

/* Who is added meanwhile waits for the next outcome. */
void waiters_answer(struct shl_list *list, int code, const char *msg)
{
    struct shl_list now;
    struct shl_list *node;

    shl_list_init(&now);
    while ((node = shl_list_first(list))) {
        shl_list_remove(node);
        shl_list_push_back(&now, node);
    }
    while ((node = shl_list_first(&now))) {
        struct sandbox_waiter *waiter = shl_container_of(node, struct sandbox_waiter, node);

        shl_list_remove(node);
        waiter->cb(waiter->arg, code, msg);
        free(waiter);
    }
}

void answer_deferred(struct node_manager *manager)
{
    struct shl_list *node;

    while ((node = shl_list_first(&manager->deferred))) {
        struct sandbox_waiter *waiter = shl_container_of(node, struct sandbox_waiter, node);

        shl_list_remove(node);
        waiter->cb(waiter->arg, waiter->code, waiter->msg);
        free(waiter);
    }
}

static void on_defer(uv_timer_t *timer)
{
    answer_deferred(timer->data);
}

void answer_later(struct node_manager *manager,
                  node_sandbox_cb cb,
                  void *arg,
                  int code,
                  const char *msg)
{
    struct sandbox_waiter *waiter = waiter_new(cb, arg);

    if (!waiter) {
        cb(arg, -ENOMEM, "there is not enough memory");
        return;
    }
    waiter->code = code;
    (void)snprintf(waiter->msg, sizeof(waiter->msg), "%s", msg);
    shl_list_push_back(&manager->deferred, &waiter->node);
    (void)uv_timer_start(&manager->defer, on_defer, 0, 0);
}

void waiters_answer_later(struct node_manager *manager,
                          struct shl_list *list,
                          int code,
                          const char *msg)
{
    struct shl_list *node;

    while ((node = shl_list_first(list))) {
        struct sandbox_waiter *waiter = shl_container_of(node, struct sandbox_waiter, node);

        shl_list_remove(node);
        waiter->code = code;
        (void)snprintf(waiter->msg, sizeof(waiter->msg), "%s", msg);
        shl_list_push_back(&manager->deferred, &waiter->node);
    }
    (void)uv_timer_start(&manager->defer, on_defer, 0, 0);
}
