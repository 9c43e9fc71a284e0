/* node/mesh: links come up, tell, go down and come back; who is not welcome hears why. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/node/mesh/fixture.h"

struct fixture {
    uv_loop_t loop;
    struct test_mesh a, b, c;
    int messages;
    char last[64];
    struct shl_node_id from;
};

static int setup(void **state)
{
    struct fixture *fix = calloc(1, sizeof(*fix));

    assert_int_equal(uv_loop_init(&fix->loop), 0);
    *state = fix;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fix = *state;
    struct test_mesh *all[] = {&fix->a, &fix->b, &fix->c};
    size_t i;

    for (i = 0; i < 3; i++) {
        if (all[i]->mesh) {
            test_mesh_close(all[i]);
        }
    }
    assert_int_equal(uv_run(&fix->loop, UV_RUN_DEFAULT), 0);
    assert_int_equal(uv_loop_close(&fix->loop), 0);
    free(fix);
    return 0;
}

static void on_message(void *arg, const struct shl_node_id *from, struct shl_bytes body)
{
    struct fixture *fix = arg;

    fix->messages++;
    fix->from = *from;
    assert_true(body.len < sizeof(fix->last));
    memcpy(fix->last, body.base, body.len);
    fix->last[body.len] = 0;
}

static void open_two(struct fixture *fix)
{
    test_mesh_open(&fix->a, &fix->loop, NULL);
    test_mesh_open(&fix->b, &fix->loop, NULL);
    node_mesh_on(fix->a.mesh, "test", 64, on_message, fix);
    node_mesh_on(fix->b.mesh, "test", 64, on_message, fix);
}

static int send_text(struct test_mesh *from, const struct test_mesh *to, const char *text)
{
    return node_mesh_send(from->mesh, &to->keys.id, "test", shl_bytes_of(text, strlen(text)));
}

static void test_link_up_and_messages_both_ways(void **state)
{
    struct fixture *fix = *state;

    open_two(fix);
    fix->a.keys.boot = 1;
    assert_int_equal(send_text(&fix->a, &fix->b, "early"), SHL_EUNAVAILABLE);
    test_mesh_connect(&fix->a, &fix->b);
    RUN_UNTIL(&fix->loop, fix->a.up == 1 && fix->b.up == 1);
    assert_int_equal(fix->a.version, NODE_MESH_VERSION_MAX);
    assert_int_equal(fix->a.peer_boot, 1);
    assert_int_equal(send_text(&fix->a, &fix->b, "to b"), 0);
    RUN_UNTIL(&fix->loop, fix->messages == 1);
    assert_string_equal(fix->last, "to b");
    assert_true(shl_node_id_equal(&fix->from, &fix->a.keys.id));
    assert_int_equal(send_text(&fix->b, &fix->a, "to a"), 0);
    RUN_UNTIL(&fix->loop, fix->messages == 2);
    assert_string_equal(fix->last, "to a");
    assert_true(shl_node_id_equal(&fix->from, &fix->b.keys.id));
    assert_int_equal(fix->a.down + fix->b.down, 0);
}

/* Messages of a kind the other side does not know are counted and do no harm. */
static void test_link_unknown_kind_is_ignored(void **state)
{
    struct fixture *fix = *state;

    open_two(fix);
    test_mesh_connect(&fix->a, &fix->b);
    assert_int_equal(
        node_mesh_send(fix->a.mesh, &fix->b.keys.id, "new-in-v9", shl_bytes_of("x", 1)), 0);
    assert_int_equal(send_text(&fix->a, &fix->b, "after"), 0);
    RUN_UNTIL(&fix->loop, fix->messages == 1);
    assert_int_equal(test_stats(&fix->b).unknown, 1);
    assert_true(test_mesh_is_up(&fix->b, &fix->a));
}

static void test_link_to_a_node_that_ended_goes_down_and_comes_back(void **state)
{
    struct fixture *fix = *state;

    open_two(fix);
    test_mesh_connect(&fix->a, &fix->b);
    test_mesh_close(&fix->b);
    RUN_UNTIL(&fix->loop, fix->a.down == 1);
    assert_false(test_mesh_is_up(&fix->a, &fix->b));
    assert_int_equal(send_text(&fix->a, &fix->b, "lost"), SHL_EUNAVAILABLE);
    fix->b.keys.boot++;
    test_mesh_reopen(&fix->b, NULL);
    node_mesh_on(fix->b.mesh, "test", 64, on_message, fix);
    test_mesh_introduce(&fix->b, &fix->a);
    test_mesh_wait_up(&fix->a, &fix->b);
    RUN_UNTIL(&fix->loop, fix->a.up == 2);
    assert_int_equal(fix->a.peer_boot, 2);
    assert_int_equal(send_text(&fix->a, &fix->b, "again"), 0);
    RUN_UNTIL(&fix->loop, fix->messages == 1);
    assert_string_equal(fix->last, "again");
    assert_int_equal(fix->a.conflicts, 0);
}

static void test_link_unknown_key_is_refused_and_admitted_later(void **state)
{
    struct fixture *fix = *state;

    open_two(fix);
    test_mesh_introduce(&fix->a, &fix->b);      /* b knows nothing of a */
    RUN_UNTIL(&fix->loop, fix->a.refused >= 2); /* refused, and tried again with a new socket */
    assert_int_equal(fix->a.refused_why, NODE_MESH_REFUSED_KEY);
    assert_true(test_stats(&fix->b).refused[NODE_MESH_REFUSED_KEY] >= 2);
    assert_false(test_mesh_is_up(&fix->a, &fix->b));
    test_mesh_introduce(&fix->b, &fix->a);
    test_mesh_wait_up(&fix->a, &fix->b);
}

static void test_link_of_a_removed_node_ends_on_both_sides(void **state)
{
    struct fixture *fix = *state;

    open_two(fix);
    test_mesh_connect(&fix->a, &fix->b);
    RUN_UNTIL(&fix->loop, fix->a.up == 1 && fix->b.up == 1);
    node_mesh_remove_peer(fix->b.mesh, &fix->a.keys.id);
    assert_int_equal(fix->b.down, 0); /* not inside the call */
    RUN_UNTIL(&fix->loop, fix->b.down == 1 && fix->a.down == 1);
    RUN_UNTIL(&fix->loop, fix->a.refused > 0);
    assert_int_equal(fix->a.refused_why, NODE_MESH_REFUSED_KEY);
    test_mesh_introduce(&fix->b, &fix->a);
    test_mesh_wait_up(&fix->a, &fix->b);
}

static void test_link_wrong_cluster_is_refused_on_both_sides(void **state)
{
    struct fixture *fix = *state;
    struct node_mesh_config other = {.cluster = "another-cluster"};

    test_mesh_open(&fix->a, &fix->loop, NULL);
    test_mesh_open(&fix->b, &fix->loop, &other);
    test_mesh_introduce(&fix->a, &fix->b);
    test_mesh_introduce(&fix->b, &fix->a);
    RUN_UNTIL(&fix->loop, fix->a.refused > 0 && fix->b.refused > 0);
    assert_int_equal(fix->a.refused_why, NODE_MESH_REFUSED_CLUSTER);
    assert_int_equal(fix->b.refused_why, NODE_MESH_REFUSED_CLUSTER);
    assert_non_null(strstr(fix->a.refused_msg, "another cluster"));
    assert_true(test_stats(&fix->a).refused[NODE_MESH_REFUSED_CLUSTER] > 0);
    assert_false(test_mesh_is_up(&fix->a, &fix->b));
    node_mesh_set_cluster(fix->b.mesh, test_cluster);
    test_mesh_wait_up(&fix->a, &fix->b);
    node_mesh_set_cluster(fix->b.mesh, other.cluster);
    RUN_UNTIL(&fix->loop, !test_mesh_is_up(&fix->a, &fix->b) && fix->b.down > 0);
}

static void test_link_versions_meet_or_are_refused(void **state)
{
    struct fixture *fix = *state;
    struct node_mesh_config old = {.version_min = 1, .version_max = 2};
    struct node_mesh_config new = {.version_min = 2, .version_max = 3};
    struct node_mesh_config newer = {.version_min = 3, .version_max = 4};

    test_mesh_open(&fix->a, &fix->loop, &old);
    test_mesh_open(&fix->b, &fix->loop, &new);
    test_mesh_open(&fix->c, &fix->loop, &newer);
    test_mesh_connect(&fix->a, &fix->b);
    RUN_UNTIL(&fix->loop, fix->a.up == 1 && fix->b.up == 1);
    assert_int_equal(fix->a.version, 2);
    assert_int_equal(fix->b.version, 2);
    test_mesh_connect(&fix->b, &fix->c);
    RUN_UNTIL(&fix->loop, fix->c.up == 1);
    assert_int_equal(fix->c.version, 3);
    test_mesh_introduce(&fix->a, &fix->c);
    test_mesh_introduce(&fix->c, &fix->a);
    RUN_UNTIL(&fix->loop, fix->a.refused > 0 && fix->c.refused > 0);
    assert_int_equal(fix->a.refused_why, NODE_MESH_REFUSED_VERSION);
    assert_non_null(strstr(fix->a.refused_msg, "it speaks 1 to 2, this node 3 to 4"));
    assert_false(test_mesh_is_up(&fix->a, &fix->c));
    assert_true(test_mesh_is_up(&fix->a, &fix->b));
}

/* Two processes with one key and one count of starts: the first stays, the second hears why. */
static void test_link_copied_identity_is_refused(void **state)
{
    struct fixture *fix = *state;

    open_two(fix);
    test_mesh_connect(&fix->a, &fix->b);
    memset(&fix->c, 0, sizeof(fix->c));
    fix->c.loop = &fix->loop;
    fix->c.keys = fix->b.keys;
    test_mesh_reopen(&fix->c, NULL);
    test_mesh_introduce(&fix->c, &fix->a);
    RUN_UNTIL(&fix->loop, fix->c.refused > 0);
    assert_int_equal(fix->c.refused_why, NODE_MESH_REFUSED_IDENTITY);
    assert_non_null(strstr(fix->c.refused_msg, "stop one of them"));
    assert_true(fix->a.conflicts > 0);
    assert_true(test_stats(&fix->a).refused[NODE_MESH_REFUSED_IDENTITY] > 0);
    assert_false(test_mesh_is_up(&fix->c, &fix->a));
    assert_true(test_mesh_is_up(&fix->a, &fix->b));
    assert_int_equal(fix->a.down, 0);
    assert_int_equal(send_text(&fix->b, &fix->a, "still here"), 0);
    RUN_UNTIL(&fix->loop, fix->messages == 1);
}

/* A copy that was started more often looks like a restart and takes over; the first one is
 * refused from then on, so that at most one of them is ever connected. */
static void test_link_copy_with_more_starts_takes_over(void **state)
{
    struct fixture *fix = *state;

    open_two(fix);
    test_mesh_connect(&fix->a, &fix->b);
    fix->c.loop = &fix->loop;
    fix->c.keys = fix->b.keys;
    fix->c.keys.boot++;
    test_mesh_reopen(&fix->c, NULL);
    test_mesh_introduce(&fix->c, &fix->a);
    test_mesh_introduce(&fix->a, &fix->c); /* the address of the copy */
    RUN_UNTIL(&fix->loop, fix->b.refused > 0);
    assert_int_equal(fix->b.refused_why, NODE_MESH_REFUSED_IDENTITY);
    assert_true(fix->a.conflicts > 0);
    test_mesh_wait_up(&fix->c, &fix->a);
    assert_false(test_mesh_is_up(&fix->b, &fix->a));
}

/* The disk of a node went back: its count of starts is low, but nobody else is there. */
static void test_link_older_start_is_let_in_when_the_newer_is_silent(void **state)
{
    struct fixture *fix = *state;
    struct node_mesh_config config = {.identity_hold_ms = 300};

    test_mesh_open(&fix->a, &fix->loop, &config);
    test_mesh_open(&fix->b, &fix->loop, NULL);
    test_mesh_connect(&fix->a, &fix->b);
    test_mesh_close(&fix->b);
    test_mesh_reopen(&fix->b, NULL); /* boot as before */
    test_mesh_introduce(&fix->b, &fix->a);
    RUN_UNTIL(&fix->loop, fix->b.refused > 0);
    assert_int_equal(fix->b.refused_why, NODE_MESH_REFUSED_IDENTITY);
    test_mesh_wait_up(&fix->a, &fix->b);
}

static void test_link_next_address_is_tried(void **state)
{
    struct fixture *fix = *state;
    struct node_mesh_addr addrs[2];

    open_two(fix);
    addrs[0] = fix->b.addr;
    addrs[0].control_port = 1; /* nobody listens there */
    addrs[1] = fix->b.addr;
    assert_int_equal(node_mesh_set_peer(fix->a.mesh, &fix->b.keys.id, fix->b.keys.public_key, addrs,
                                        2, NULL),
                     0);
    test_mesh_introduce(&fix->b, &fix->a);
    test_mesh_wait_up(&fix->a, &fix->b);
    assert_true(test_stats(&fix->a).dials_failed >= 1);
}

/* Its hello says where it is now; a link needs both directions. */
static void test_link_node_at_a_new_address_is_found(void **state)
{
    struct fixture *fix = *state;
    struct node_mesh_config config = {.self = &fix->b.addr};
    struct node_mesh_addr before;

    open_two(fix);
    test_mesh_close(&fix->b);
    test_mesh_reopen(&fix->b, &config);
    before = fix->b.addr;
    before.control_port = 1; /* where it was: nobody listens there */
    assert_int_equal(node_mesh_set_peer(fix->a.mesh, &fix->b.keys.id, fix->b.keys.public_key,
                                        &before, 1, NULL),
                     0);
    test_mesh_introduce(&fix->b, &fix->a);
    test_mesh_wait_up(&fix->a, &fix->b);
}

static void test_link_peer_must_match_its_key(void **state)
{
    struct fixture *fix = *state;
    struct shl_err err = {0};

    open_two(fix);
    assert_int_equal(node_mesh_set_peer(fix->a.mesh, &fix->b.keys.id, fix->a.keys.public_key, NULL,
                                        0, &err),
                     SHL_EINVALIDARG);
    assert_int_equal(node_mesh_set_peer(fix->a.mesh, &fix->a.keys.id, fix->a.keys.public_key, NULL,
                                        0, &err),
                     SHL_EINVALIDARG);
}

/* Many nodes at once: every link of the full mesh comes up. */
static void test_link_full_mesh(void **state)
{
    struct fixture *fix = *state;
    enum {
        COUNT = 8
    };
    struct test_mesh *all = calloc(COUNT, sizeof(*all));
    int i, j, up;

    for (i = 0; i < COUNT; i++) {
        test_mesh_open(&all[i], &fix->loop, NULL);
    }
    for (i = 0; i < COUNT; i++) {
        for (j = 0; j < COUNT; j++) {
            if (i != j) {
                test_mesh_introduce(&all[i], &all[j]);
            }
        }
    }
    do {
        test_run_once(&fix->loop);
        for (i = 0, up = 0; i < COUNT; i++) {
            up += (int)test_stats(&all[i]).links_up;
        }
    } while (up < COUNT * (COUNT - 1));
    for (i = 0; i < COUNT; i++) {
        test_mesh_close(&all[i]);
    }
    free(all);
}

static void test_link_port_taken_is_said(void **state)
{
    struct fixture *fix = *state;
    struct node_mesh_config config = {.bind_host = "127.0.0.1"};
    struct node_mesh *mesh;
    struct shl_err err = {0};

    test_mesh_open(&fix->a, &fix->loop, NULL);
    config.keys = &fix->a.keys;
    config.control_port = fix->a.addr.control_port;
    assert_int_equal(node_mesh_open(&fix->loop, &config, &mesh, &err), -EADDRINUSE);
    assert_non_null(strstr(err.msg, "cannot listen on 127.0.0.1"));
}

static void close_inside(void *arg, const struct shl_node_id *from, struct shl_bytes body)
{
    struct test_mesh *t = arg;

    (void)from;
    (void)body;
    if (t->mesh) {
        struct node_mesh *mesh = t->mesh;

        t->mesh = NULL;
        node_mesh_close(mesh, 0, NULL, NULL);
    }
}

/* Closing from inside a callback, with more messages on the way. */
static void test_link_close_inside_a_callback(void **state)
{
    struct fixture *fix = *state;
    int i;

    test_mesh_open(&fix->a, &fix->loop, NULL);
    test_mesh_open(&fix->b, &fix->loop, NULL);
    node_mesh_on(fix->b.mesh, "stop", 64, close_inside, &fix->b);
    test_mesh_connect(&fix->a, &fix->b);
    for (i = 0; i < 100; i++) {
        (void)node_mesh_send(fix->a.mesh, &fix->b.keys.id, "stop", shl_bytes_of("x", 1));
    }
    RUN_UNTIL(&fix->loop, !fix->b.mesh && fix->a.down == 1);
}

static void remove_inside(void *arg, const struct shl_node_id *from, struct shl_bytes body)
{
    struct fixture *fix = arg;

    (void)body;
    fix->messages++;
    node_mesh_remove_peer(fix->b.mesh, from);
}

static void test_link_remove_inside_a_callback(void **state)
{
    struct fixture *fix = *state;
    int i;

    test_mesh_open(&fix->a, &fix->loop, NULL);
    test_mesh_open(&fix->b, &fix->loop, NULL);
    node_mesh_on(fix->b.mesh, "away", 64, remove_inside, fix);
    test_mesh_connect(&fix->a, &fix->b);
    for (i = 0; i < 100; i++) {
        (void)node_mesh_send(fix->a.mesh, &fix->b.keys.id, "away", shl_bytes_of("x", 1));
    }
    RUN_UNTIL(&fix->loop, fix->b.down == 1 && fix->a.down == 1);
    assert_int_equal(fix->messages, 1);
}

/* What was accepted before closing with time to linger arrives. */
static void test_link_last_words_arrive(void **state)
{
    struct fixture *fix = *state;

    open_two(fix);
    test_mesh_connect(&fix->a, &fix->b);
    assert_int_equal(send_text(&fix->a, &fix->b, "leaving"), 0);
    test_mesh_close_linger(&fix->a, 2000);
    RUN_UNTIL(&fix->loop, fix->messages == 1);
    assert_string_equal(fix->last, "leaving");
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_link_up_and_messages_both_ways),
        T(test_link_unknown_kind_is_ignored),
        T(test_link_to_a_node_that_ended_goes_down_and_comes_back),
        T(test_link_unknown_key_is_refused_and_admitted_later),
        T(test_link_of_a_removed_node_ends_on_both_sides),
        T(test_link_wrong_cluster_is_refused_on_both_sides),
        T(test_link_versions_meet_or_are_refused),
        T(test_link_copied_identity_is_refused),
        T(test_link_copy_with_more_starts_takes_over),
        T(test_link_older_start_is_let_in_when_the_newer_is_silent),
        T(test_link_next_address_is_tried),
        T(test_link_node_at_a_new_address_is_found),
        T(test_link_peer_must_match_its_key),
        T(test_link_full_mesh),
        T(test_link_port_taken_is_said),
        T(test_link_close_inside_a_callback),
        T(test_link_remove_inside_a_callback),
        T(test_link_last_words_arrive),
    };

    return cmocka_run_group_tests_name("node/mesh_link", tests, NULL, NULL);
}
