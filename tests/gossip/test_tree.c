#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/attr.h"
#include "gossip/tree.h"

#define ITEMS 500

struct item {
    struct gossip_tree_node node;
    int key;
    bool in;
};

static int compare(const void *key, const struct gossip_tree_node *node)
{
    return *(const int *)key - shl_container_of(node, struct item, node)->key;
}

/* In-order walk and every lower bound agree with a plain table. */
static void check(struct gossip_tree *tree, struct item *items)
{
    struct gossip_tree_node *at;
    int key = -1, next;

    at = gossip_tree_lower_bound(tree, &key, compare);
    for (key = 0; key < ITEMS; key++) {
        if (items[key].in) {
            assert_ptr_equal(at, &items[key].node);
            at = gossip_tree_next(at);
        }
    }
    assert_null(at);
    for (key = 0; key < ITEMS; key += 7) {
        for (next = key; next < ITEMS && !items[next].in; next++) {
        }
        at = gossip_tree_lower_bound(tree, &key, compare);
        assert_ptr_equal(at, next < ITEMS ? &items[next].node : NULL);
    }
}

static void test_tree_is_like_a_sorted_table(void **state)
{
    struct gossip_tree tree = {0};
    struct item *items = calloc(ITEMS, sizeof(*items));
    unsigned random = 1;
    int round;

    (void)state;
    for (round = 0; round < 4000; round++) {
        struct item *item;

        random = random * 1103515245u + 12345u;
        item = &items[(random >> 8) % ITEMS];
        if (item->in) {
            gossip_tree_remove(&tree, &item->node);
        } else {
            item->key = (int)(item - items);
            gossip_tree_insert(&tree, &item->node, random * 2654435761u, &item->key, compare);
        }
        item->in = !item->in;
        if (round % 50 == 0) {
            check(&tree, items);
        }
    }
    check(&tree, items);
    free(items);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tree_is_like_a_sorted_table),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
