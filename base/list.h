/* Intrusive doubly linked list. The head is a node that embeds in nothing; an
 * initialised node points at itself. Callbacks may remove the entry they are
 * handed: iterate with the _SAFE form. */
#ifndef SHL_BASE_LIST_H
#define SHL_BASE_LIST_H

#include <stdbool.h>

#include "base/attr.h"

struct shl_list {
    struct shl_list *prev;
    struct shl_list *next;
};

#define SHL_LIST_INIT(head) \
    {                       \
        &(head), &(head)    \
    }

static inline void shl_list_init(struct shl_list *node)
{
    node->prev = node;
    node->next = node;
}

static inline bool shl_list_empty(const struct shl_list *head)
{
    return head->next == head;
}

static inline void shl_list_insert_before(struct shl_list *at, struct shl_list *node)
{
    node->prev = at->prev;
    node->next = at;
    at->prev->next = node;
    at->prev = node;
}

static inline void shl_list_push_back(struct shl_list *head, struct shl_list *node)
{
    shl_list_insert_before(head, node);
}

static inline void shl_list_push_front(struct shl_list *head, struct shl_list *node)
{
    shl_list_insert_before(head->next, node);
}

/* Safe on a node that is not in a list (initialised). */
static inline void shl_list_remove(struct shl_list *node)
{
    node->prev->next = node->next;
    node->next->prev = node->prev;
    shl_list_init(node);
}

/* First node, or NULL when empty. */
static inline struct shl_list *shl_list_first(struct shl_list *head)
{
    return shl_list_empty(head) ? NULL : head->next;
}

#define SHL_LIST_FOREACH(it, head) for ((it) = (head)->next; (it) != (head); (it) = (it)->next)
#define SHL_LIST_FOREACH_SAFE(it, tmp, head) \
    for ((it) = (head)->next, (tmp) = (it)->next; (it) != (head); (it) = (tmp), (tmp) = (it)->next)

#endif /* SHL_BASE_LIST_H */
