/* Two nodes in one process: what one of them makes is started on the other, with the same bytes
 * of memory and disk, whatever that one's templates are. The chunks get there as node/replica
 * would bring them. */
#include <signal.h>
#include <unistd.h>

#include "checkpoint/manifest.h"
#include "node/sandbox/checkpoints_private.h"
#include "node/sandbox/layers.h"
#include "node/sandbox/sandbox.h"
#include "tests/node/sandbox/cycle.h"

#define ARTEFACTS_MAX 64

/* ---- two nodes ---------------------------------------------------------------------- */

struct node {
    struct fixture *fix;
    struct node_artefact artefacts[ARTEFACTS_MAX]; /* told and not gone */
    unsigned count, gone;
    int may_drop;
    bool unwatched;
};

static struct node nodes[2];
#define A (&nodes[0])
#define B (&nodes[1])

static void on_artefact(void *arg, const struct node_artefact *artefact, bool is_gone)
{
    struct node *node = arg;
    unsigned i;

    for (i = 0; i < node->count && strcmp(node->artefacts[i].id, artefact->id) != 0; i++) {
    }
    if (is_gone) {
        node->gone++;
        if (i < node->count) {
            node->artefacts[i] = node->artefacts[--node->count];
        }
        return;
    }
    assert_true(i < ARTEFACTS_MAX);
    assert_int_equal(strlen(artefact->manifest), NODE_MANIFEST_SIZE - 1);
    node->artefacts[i] = *artefact;
    node->count += i == node->count;
}

static int on_may_drop(void *arg, const char manifest[NODE_MANIFEST_SIZE])
{
    const struct node *node = arg;

    (void)manifest;
    return node->may_drop;
}

static const struct node_artefact_watch watch = {on_artefact, on_may_drop};

static void start(struct node *node)
{
    node->count = 0;
    open_manager(node->fix);
    if (!node->unwatched) {
        node_manager_set_artefact_watch(node->fix->manager, &watch, node);
        node_manager_want_artefacts(node->fix->manager, true);
    }
}

static void restart(struct node *node)
{
    close_manager(node->fix);
    start(node);
}

static int setup_both(void **state)
{
    int i;

    for (i = 0; i < 2; i++) {
        void *fix = NULL;

        assert_int_equal(setup(&fix), 0);
        nodes[i] = (struct node){.fix = fix, .may_drop = 0};
    }
    *state = nodes;
    return 0;
}

static int teardown_both(void **state)
{
    int i;

    (void)state;
    for (i = 0; i < 2; i++) {
        struct fixture *fix = nodes[i].fix;
        struct shl_list *node;
        void *arg = fix;

        while (fix->manager && (node = shl_list_first(&fix->manager->checkpoints->all))) {
            assert_int_equal(
                node_checkpoint_delete(fix->manager,
                                       shl_container_of(node, struct node_checkpoint, link), NULL),
                0);
        }
        assert_int_equal(teardown(&arg), 0);
    }
    return 0;
}

/* ---- helpers ------------------------------------------------------------------------- */

static const struct node_artefact *find_artefact(const struct node *node,
                                                 enum node_artefact_kind kind,
                                                 const char *id)
{
    unsigned i;

    for (i = 0; i < node->count; i++) {
        if (node->artefacts[i].kind == kind && (!id || strcmp(node->artefacts[i].id, id) == 0)) {
            return &node->artefacts[i];
        }
    }
    return NULL;
}

static struct node_artefact wait_artefact(struct node *node, enum node_artefact_kind kind)
{
    RUN_UNTIL(node->fix, find_artefact(node, kind, NULL));
    return *find_artefact(node, kind, NULL);
}

static struct node_checkpoint *checkpoint_of_sandbox(struct node *node,
                                                     struct node_sandbox *sandbox,
                                                     bool disk_only)
{
    struct node_checkpoint_spec spec = {.name = "one", .disk_only = disk_only};
    struct node_checkpoint *checkpoint;

    assert_int_equal(node_checkpoint_create(node->fix->manager, sandbox, &spec, &checkpoint, NULL),
                     0);
    RUN_UNTIL(node->fix, checkpoint->status != NODE_CHECKPOINT_PROCESSING);
    assert_int_equal(checkpoint->status, NODE_CHECKPOINT_READY);
    return checkpoint;
}

struct copy {
    struct ckpt_store *from;
    struct ckpt_session *to;
};

static void copy_part(struct copy *copy, const struct ckpt_part *part)
{
    uint8_t chunk[CKPT_CHUNK_BYTES];
    uint64_t i;

    for (i = 0; i < part->count; i++) {
        struct ckpt_id id;
        int len;

        if (ckpt_id_is_zero(&part->entries[i].id)) {
            continue;
        }
        len = ckpt_chunk_read(copy->from, &part->entries[i].id, chunk, sizeof(chunk), NULL);
        assert_true(len > 0);
        assert_int_equal(ckpt_session_put(copy->to, chunk, (size_t)len, &id, NULL), 0);
    }
}

/* The manifest and its chunks, as a transfer would. */
static void copy_manifest(struct node *from, struct node *to, const char *hex)
{
    struct copy copy = {.from = node_manager_store(from->fix->manager)};
    struct ckpt_manifest manifest;
    struct ckpt_id id, got;
    struct ckpt_pin *pin;
    struct shl_buf buf;

    assert_true(manifest_id_parse(hex, &id));
    shl_buf_init(&buf, CKPT_MANIFEST_MAX);
    assert_int_equal(ckpt_manifest_read(copy.from, &id, &buf, &pin, NULL), 0);
    assert_int_equal(ckpt_manifest_decode(&manifest, shl_buf_bytes(&buf), NULL), 0);
    assert_int_equal(ckpt_session_begin(node_manager_store(to->fix->manager), &copy.to, NULL), 0);
    copy_part(&copy, &manifest.disk);
    copy_part(&copy, &manifest.memory);
    copy_part(&copy, &manifest.state);
    assert_int_equal(ckpt_session_commit(copy.to, shl_buf_bytes(&buf), &got, NULL), 0);
    assert_true(ckpt_id_equal(&id, &got));
    ckpt_pin_release(pin);
    ckpt_manifest_release(&manifest);
    shl_buf_release(&buf);
}

struct bundle {
    struct node_import import;
    struct node_artefact artefact;
    char ids[NODE_BASES_MAX][NODE_BASE_ID_SIZE];
    char manifests[NODE_BASES_MAX][NODE_MANIFEST_SIZE];
};

/* Everything @artefact needs is brought to @to, and named. */
static void bring(struct node *from,
                  struct node *to,
                  const struct node_artefact *artefact,
                  struct bundle *bundle)
{
    struct shl_err err = {0};
    int i, count;

    *bundle = (struct bundle){.artefact = *artefact};
    copy_manifest(from, to, artefact->manifest);
    count = node_import_bases(to->fix->manager, artefact->manifest, bundle->ids, &err);
    if (count < 0) {
        fail_msg("%s", err.msg);
    }
    for (i = 0; i < count; i++) {
        char id[NODE_CHECKPOINT_ID_SIZE];
        const struct node_artefact *base;

        (void)snprintf(id, sizeof(id), NODE_BASE_PREFIX "%s", bundle->ids[i]);
        base = find_artefact(from, NODE_ARTEFACT_BASE, id);
        assert_non_null(base); /* told before the artefact */
        copy_manifest(from, to, base->manifest);
        (void)memcpy(bundle->manifests[i], base->manifest, sizeof(bundle->manifests[i]));
        bundle->import.bases[i].id = bundle->ids[i];
        bundle->import.bases[i].manifest = bundle->manifests[i];
    }
    bundle->import.base_count = (uint32_t)count;
    bundle->import.id = bundle->artefact.id;
    bundle->import.manifest = bundle->artefact.manifest;
}

static void idle(struct node *node)
{
    RUN_UNTIL(node->fix, node->fix->manager->jobs == 0);
}

static int import_sandbox(struct node *to, const struct bundle *bundle, struct answer *answer)
{
    idle(to); /* what a failed one before left is removed */
    *answer = (struct answer){0};
    node_sandbox_import(to->fix->manager, &bundle->import, on_killed, answer);
    assert_false(answer->done);
    RUN_UNTIL(to->fix, answer->done);
    return answer->code;
}

static int import_checkpoint(struct node *to, const struct bundle *bundle, struct answer *answer)
{
    *answer = (struct answer){0};
    node_checkpoint_import(to->fix->manager, &bundle->import, on_killed, answer);
    assert_false(answer->done);
    RUN_UNTIL(to->fix, answer->done);
    return answer->code;
}

static void let_go(struct node *node, struct node_sandbox *sandbox)
{
    struct answer answer = {0};

    node_sandbox_let_go(node->fix->manager, sandbox, "another node has it", on_killed, &answer);
    RUN_UNTIL(node->fix, answer.done);
    assert_int_equal(answer.code, 0);
}

static struct node_sandbox *fork_one(struct node *node, const char *id)
{
    const struct node_fork_spec spec = {.timeout_s = 0};
    struct node_checkpoint *checkpoint = node_checkpoint_find(node->fix->manager, ORG, id);
    struct answer answer = {0};

    assert_non_null(checkpoint);
    assert_int_equal(
        node_manager_fork(node->fix->manager, checkpoint, &spec, on_created, &answer, NULL), 0);
    RUN_UNTIL(node->fix, answer.done);
    if (answer.code < 0) {
        fail_msg("%s", answer.msg);
    }
    return answer.sandbox;
}

static void set_template(struct node *node, const char *content)
{
    add_file(node->fix, "templates/plain/disk.raw", content);
}

static void drop_template(struct node *node)
{
    char path[256];

    (void)snprintf(path, sizeof(path), "%s/templates/plain/disk.raw", node->fix->data);
    assert_int_equal(unlink(path), 0);
}

static int count_in(struct node *node, const char *name)
{
    char path[256];

    (void)snprintf(path, sizeof(path), "%s/%s", node->fix->data, name);
    return count_entries(path);
}

static bool is_told(const struct node *node, const char *sandbox_id)
{
    unsigned i;

    for (i = 0; i < node->count && strcmp(node->artefacts[i].sandbox_id, sandbox_id) != 0; i++) {
    }
    return i < node->count;
}

/* A hibernated sandbox of @node with @value, told. */
static struct node_sandbox *hibernated(struct node *node, unsigned value)
{
    struct node_sandbox *sandbox = create(node->fix, "plain");

    set_data(node->fix, sandbox, value);
    hibernate(node->fix, sandbox);
    RUN_UNTIL(node->fix, is_told(node, sandbox->id));
    return sandbox;
}

/* ---- checkpoints --------------------------------------------------------------------- */

static void test_checkpoint_elsewhere(void **state)
{
    struct node_sandbox *sandbox;
    struct node_checkpoint *checkpoint;
    struct node_artefact artefact;
    struct bundle bundle;
    struct answer answer;

    (void)state;
    start(A);
    start(B);
    sandbox = create(A->fix, "plain");
    set_data(A->fix, sandbox, 11);
    checkpoint = checkpoint_of_sandbox(A, sandbox, false);
    artefact = wait_artefact(A, NODE_ARTEFACT_FULL);
    assert_string_equal(artefact.id, checkpoint->id);
    assert_string_equal(artefact.manifest, checkpoint->manifest);
    assert_string_equal(artefact.sandbox_id, sandbox->id);
    assert_string_equal(artefact.label, "one");
    assert_true(artefact.bytes > 0);
    assert_non_null(find_artefact(A, NODE_ARTEFACT_BASE, NULL));

    bring(A, B, &artefact, &bundle);
    assert_int_equal(bundle.import.base_count, 0); /* it has the same template */
    assert_int_equal(import_checkpoint(B, &bundle, &answer), 0);
    assert_int_equal(B->count, 0); /* not told: they know */
    check_data(B->fix, fork_one(B, artefact.id), 11);
    assert_int_equal(import_checkpoint(B, &bundle, &answer), 0); /* again */
    restart(B);
    check_data(B->fix, fork_one(B, artefact.id), 11);

    /* its user deletes it on B: that is told; and on A */
    assert_int_equal(node_checkpoint_delete(B->fix->manager,
                                            node_checkpoint_find(B->fix->manager, ORG, artefact.id),
                                            NULL),
                     0);
    assert_int_equal(B->gone, 1);
    node_artefact_forget(A->fix->manager, artefact.id);
    assert_int_equal(A->gone, 0);
    assert_null(node_checkpoint_find(A->fix->manager, ORG, artefact.id));
}

static void test_another_template(void **state)
{
    struct node_sandbox *sandbox, *fork;
    struct node_artefact artefact;
    struct bundle bundle;
    struct answer answer;

    (void)state;
    set_template(B, "plain too");
    start(A);
    start(B);
    sandbox = create(A->fix, "plain");
    set_data(A->fix, sandbox, 12);
    (void)checkpoint_of_sandbox(A, sandbox, true);
    artefact = wait_artefact(A, NODE_ARTEFACT_DISK);
    bring(A, B, &artefact, &bundle);
    assert_int_equal(bundle.import.base_count, 1);
    assert_int_equal(import_checkpoint(B, &bundle, &answer), 0);
    assert_int_equal(count_in(B, "bases"), 1);
    fork = fork_one(B, artefact.id);
    check_disk(B->fix, fork, 12);

    /* without any template of that name, and another daemon */
    drop_template(B);
    restart(B);
    check_disk(B->fix, fork_one(B, artefact.id), 12);

    /* the base goes with the last that stands on it */
    assert_int_equal(node_checkpoint_delete(B->fix->manager,
                                            node_checkpoint_find(B->fix->manager, ORG, artefact.id),
                                            NULL),
                     0);
    idle(B);
    assert_int_equal(count_in(B, "bases"), 1);
    node_manager_each(B->fix->manager, ORG, kill_each, B->fix);
    RUN_UNTIL(B->fix, count_in(B, "bases") == 0);
}

/* ---- hibernated ones ------------------------------------------------------------------ */

static void test_sandbox_elsewhere(void **state)
{
    struct node_sandbox *sandbox;
    struct node_artefact first, second;
    struct bundle bundle;
    struct answer answer;
    char id[NODE_SANDBOX_ID_SIZE];
    int64_t created_at_ms;

    (void)state;
    set_template(B, "plain too");
    start(A);
    start(B);
    sandbox = create(A->fix, "plain");
    assert_int_equal(node_kv_set(&sandbox->spec.envs, "KEY", "value"), 0);
    set_data(A->fix, sandbox, 21);
    hibernate(A->fix, sandbox);
    first = wait_artefact(A, NODE_ARTEFACT_HIBERNATION);
    assert_string_equal(first.sandbox_id, sandbox->id);
    (void)snprintf(id, sizeof(id), "%s", sandbox->id);
    created_at_ms = sandbox->created_at_ms;

    bring(A, B, &first, &bundle);
    assert_int_equal(import_sandbox(B, &bundle, &answer), 0);
    let_go(A, sandbox);
    assert_null(node_manager_find(A->fix->manager, ORG, id));
    assert_int_equal(A->gone, 0);
    restart(A);
    assert_null(node_manager_find(A->fix->manager, ORG, id));

    restart(B); /* it is durable */
    sandbox = find(B->fix, id);
    assert_int_equal(sandbox->state, NODE_SANDBOX_HIBERNATED);
    assert_int_equal(sandbox->created_at_ms, created_at_ms);
    assert_true(sandbox->saved_bytes > 0);
    assert_int_equal(sandbox->spec.envs.count, 1);
    assert_string_equal(sandbox->spec.envs.items[0].value, "value");
    assert_int_equal(import_sandbox(B, &bundle, &answer), SHL_ECONFLICT);
    idle(B);
    assert_null(find_artefact(B, NODE_ARTEFACT_HIBERNATION, NULL)); /* it is one already */
    wake(B->fix, sandbox);
    check_data(B->fix, sandbox, 21);

    /* its next hibernation replaces the one it came with */
    set_data(B->fix, sandbox, 22);
    hibernate(B->fix, sandbox);
    second = wait_artefact(B, NODE_ARTEFACT_HIBERNATION);
    assert_string_not_equal(second.id, first.id);
    assert_int_equal(B->gone, 1);

    /* and back to where it came from */
    bring(B, A, &second, &bundle);
    assert_int_equal(bundle.import.base_count, 0);
    assert_int_equal(import_sandbox(A, &bundle, &answer), 0);
    let_go(B, sandbox);
    sandbox = find(A->fix, id);
    wake(A->fix, sandbox);
    check_data(A->fix, sandbox, 22);
    RUN_UNTIL(B->fix, count_layers(B->fix, NULL) == 0);
    RUN_UNTIL(B->fix, count_in(B, "bases") == 0);
}

static uint32_t warm_templates(struct fixture *fix)
{
    struct node_manager_counts counts;

    node_manager_count(fix->manager, &counts);
    return counts.warm_templates;
}

static void test_warm_memory_elsewhere(void **state)
{
    struct node_sandbox *sandbox;
    struct node_artefact artefact;
    struct bundle bundle;
    struct answer answer;
    char id[NODE_SANDBOX_ID_SIZE];

    (void)state;
    A->fix->config.warm = true;
    start(A);
    start(B);
    RUN_UNTIL(A->fix, warm_templates(A->fix) == 1);
    sandbox = hibernated(A, 31);
    (void)snprintf(id, sizeof(id), "%s", sandbox->id);
    artefact = wait_artefact(A, NODE_ARTEFACT_HIBERNATION);
    assert_true(artefact.bases[1][0] != '\0');
    bring(A, B, &artefact, &bundle);
    assert_int_equal(bundle.import.base_count, 1);
    assert_string_equal(bundle.ids[0], artefact.bases[1]);
    assert_int_equal(import_sandbox(B, &bundle, &answer), 0);
    assert_int_equal(count_in(B, "warm"), 1);
    restart(B);
    sandbox = find(B->fix, id);
    wake(B->fix, sandbox);
    assert_false(sandbox->cold_woken);
    check_data(B->fix, sandbox, 31);
    kill_now(B->fix, sandbox);
    assert_int_equal(B->gone, 1);
    RUN_UNTIL(B->fix, count_in(B, "warm") == 0);
}

static void test_newer_replaces_older(void **state)
{
    struct node_sandbox *sandbox;
    struct node_artefact first;

    (void)state;
    start(A);
    sandbox = hibernated(A, 1);
    first = wait_artefact(A, NODE_ARTEFACT_HIBERNATION);
    wake(A->fix, sandbox);
    set_data(A->fix, sandbox, 2);
    hibernate(A->fix, sandbox);
    RUN_UNTIL(A->fix, A->gone == 1);
    assert_null(find_artefact(A, NODE_ARTEFACT_HIBERNATION, first.id));
    assert_non_null(find_artefact(A, NODE_ARTEFACT_HIBERNATION, NULL));
    kill_now(A->fix, sandbox);
    assert_int_equal(A->gone, 2);
    assert_null(find_artefact(A, NODE_ARTEFACT_HIBERNATION, NULL));
}

/* Woken before the ingest is over. */
static void test_wakes_before_it_is_ready(void **state)
{
    struct node_sandbox *sandbox;

    (void)state;
    start(A);
    idle(A);
    sandbox = create(A->fix, "plain");
    set_data(A->fix, sandbox, 5);
    A->fix->manager->checkpoints->tidied = false; /* nothing is ingested before this */
    hibernate(A->fix, sandbox);
    wake(A->fix, sandbox);
    check_data(A->fix, sandbox, 5);
    assert_null(find_artefact(A, NODE_ARTEFACT_HIBERNATION, NULL));
    A->fix->manager->checkpoints->tidied = true;
    ingest_pump(A->fix->manager->checkpoints);
    (void)wait_artefact(A, NODE_ARTEFACT_HIBERNATION);
}

static void test_wanted_later(void **state)
{
    struct node_sandbox *sandboxes[3];
    int i;

    (void)state;
    A->unwatched = true;
    start(A);
    for (i = 0; i < 3; i++) {
        sandboxes[i] = create(A->fix, "plain");
        set_data(A->fix, sandboxes[i], (unsigned)i + 1);
        hibernate(A->fix, sandboxes[i]);
    }
    idle(A);
    assert_true(shl_list_empty(&A->fix->manager->checkpoints->saves));
    A->unwatched = false;
    restart(A);
    RUN_UNTIL(A->fix, A->count == 4); /* and the base */
    /* again: nothing new */
    restart(A);
    assert_int_equal(A->count, 4);
    idle(A);
    assert_int_equal(A->count, 4);
    assert_int_equal(A->gone, 0);
}

/* ---- the gate ------------------------------------------------------------------------- */

struct gate {
    unsigned asked;
    node_sandbox_cb cb; /* not answered yet */
    void *arg;
    bool at_once;
};

static void on_gate(void *arg, struct node_sandbox *sandbox, node_sandbox_cb cb, void *cb_arg)
{
    struct gate *gate = arg;

    assert_int_equal(sandbox->state, NODE_SANDBOX_HIBERNATED);
    gate->asked++;
    gate->cb = cb;
    gate->arg = cb_arg;
    if (gate->at_once) {
        cb(cb_arg, 0, "");
    }
}

static void begin_wake(struct node *node, struct node_sandbox *sandbox, struct answer *answer)
{
    *answer = (struct answer){0};
    node_manager_wake(node->fix->manager, sandbox, NULL, on_killed, answer);
}

static void test_gate(void **state)
{
    struct node_sandbox *sandbox;
    struct gate gate = {0};
    struct answer one, two;

    (void)state;
    start(A);
    node_manager_set_gate(A->fix->manager, on_gate, &gate);
    sandbox = hibernated(A, 6);
    begin_wake(A, sandbox, &one);
    RUN_UNTIL(A->fix, gate.asked == 1);
    begin_wake(A, sandbox, &two);
    (void)uv_run(&A->fix->loop, UV_RUN_NOWAIT);
    assert_int_equal(gate.asked, 1);
    gate.cb(gate.arg, SHL_ECONFLICT, "node b has it");
    assert_true(one.done && two.done);
    assert_int_equal(one.code, SHL_ECONFLICT);
    assert_string_equal(two.msg, "node b has it");
    assert_int_equal(sandbox->state, NODE_SANDBOX_HIBERNATED);

    begin_wake(A, sandbox, &one);
    RUN_UNTIL(A->fix, gate.asked == 2);
    gate.cb(gate.arg, 0, "");
    RUN_UNTIL(A->fix, one.done);
    assert_int_equal(one.code, 0);
    check_data(A->fix, sandbox, 6);

    gate.at_once = true;
    hibernate(A->fix, sandbox);
    wake(A->fix, sandbox);
    assert_int_equal(gate.asked, 3);
    check_data(A->fix, sandbox, 6);
    node_manager_set_gate(A->fix->manager, NULL, NULL);
}

static void test_gate_of_one_that_goes(void **state)
{
    struct node_sandbox *sandbox;
    struct gate gate = {0};
    struct answer answer;

    (void)state;
    start(A);
    node_manager_set_gate(A->fix->manager, on_gate, &gate);
    sandbox = hibernated(A, 6);
    begin_wake(A, sandbox, &answer);
    RUN_UNTIL(A->fix, gate.asked == 1);
    kill_now(A->fix, sandbox);
    assert_true(answer.done);
    assert_int_equal(answer.code, SHL_EGONE);
    gate.cb(gate.arg, 0, "");
    assert_int_equal(sandbox->state, NODE_SANDBOX_STOPPED);

    sandbox = hibernated(A, 7);
    begin_wake(A, sandbox, &answer);
    RUN_UNTIL(A->fix, gate.asked == 2);
    let_go(A, sandbox);
    assert_true(answer.done);
    gate.cb(gate.arg, 0, "");

    sandbox = hibernated(A, 8);
    begin_wake(A, sandbox, &answer);
    RUN_UNTIL(A->fix, gate.asked == 3);
    close_manager(A->fix);
    assert_true(answer.done);
    gate.cb(gate.arg, 0, ""); /* far too late */
    start(A);
}

static void test_gate_is_not_asked_alone(void **state)
{
    struct node_sandbox *sandbox;
    struct gate gate = {0};

    (void)state;
    A->unwatched = true;
    start(A);
    node_manager_set_gate(A->fix->manager, on_gate, &gate);
    sandbox = create(A->fix, "plain");
    set_data(A->fix, sandbox, 6);
    hibernate(A->fix, sandbox);
    wake(A->fix, sandbox);
    assert_int_equal(gate.asked, 0);
}

/* ---- autosave, pausing ------------------------------------------------------------------ */

static void test_autosave(void **state)
{
    struct node_sandbox_spec spec = make_spec("plain");
    struct checkpoints *set;
    struct node_artefact first, second;
    struct answer answer = {0};
    struct bundle bundle;
    uint64_t now_ms = 1000;

    (void)state;
    start(A);
    start(B);
    set = A->fix->manager->checkpoints;
    spec.on_node_loss = NODE_ON_LOSS_RESTORE;
    spec.autosave_s = NODE_AUTOSAVE_MIN_S - 1;
    assert_int_equal(node_manager_create(A->fix->manager, &spec, on_created, &answer, NULL),
                     SHL_EINVALIDARG);
    spec.autosave_s = NODE_AUTOSAVE_MIN_S;
    assert_int_equal(node_manager_create(A->fix->manager, &spec, on_created, &answer, NULL), 0);
    RUN_UNTIL(A->fix, answer.done);
    set_data(A->fix, answer.sandbox, 41);
    (void)uv_timer_stop(&set->save_tick); /* the test is the clock */
    answer.sandbox->end_at_ms = 0;
    sandbox_of(answer.sandbox)->autosave_at_ms = 0;
    saves_tick(set, now_ms);
    saves_tick(set, now_ms + NODE_AUTOSAVE_MIN_S * 1000 - 1);
    assert_true(shl_list_empty(&set->saves));
    saves_tick(set, now_ms += NODE_AUTOSAVE_MIN_S * 1000);
    first = wait_artefact(A, NODE_ARTEFACT_HIBERNATION);
    check_data(A->fix, answer.sandbox, 41); /* it goes on */
    set_data(A->fix, answer.sandbox, 42);
    saves_tick(set, now_ms += NODE_AUTOSAVE_MIN_S * 1000);
    RUN_UNTIL(A->fix, A->gone == 1);
    second = wait_artefact(A, NODE_ARTEFACT_HIBERNATION);
    assert_string_not_equal(first.id, second.id);

    /* no space: the next one is tried, nothing is left */
    set_flag(A->fix, "plain", "no_space", true);
    saves_tick(set, now_ms += NODE_AUTOSAVE_MIN_S * 1000);
    RUN_UNTIL(A->fix, sandbox_of(answer.sandbox)->save_failed);
    set_flag(A->fix, "plain", "no_space", false);
    assert_non_null(find_artefact(A, NODE_ARTEFACT_HIBERNATION, second.id));

    /* A is lost; what was written after the last one is, too */
    set_data(A->fix, answer.sandbox, 43);
    bring(A, B, &second, &bundle);
    assert_int_equal(import_sandbox(B, &bundle, &(struct answer){0}), 0);
    wake(B->fix, find(B->fix, answer.sandbox->id));
    check_data(B->fix, find(B->fix, answer.sandbox->id), 42);
    assert_int_equal(find(B->fix, answer.sandbox->id)->spec.on_node_loss, NODE_ON_LOSS_RESTORE);
    let_go(A, answer.sandbox);
    assert_int_equal(A->gone, 1);
}

static void test_paused(void **state)
{
    struct node_sandbox *sandbox;
    struct answer needed = {0}, asleep = {0}, stream;
    struct shl_err err = {0};
    unsigned i;

    (void)state;
    start(A);
    sandbox = create(A->fix, "plain");
    assert_int_equal(node_sandbox_set_timeout(sandbox, 100), 0);
    assert_true(sandbox->end_at_ms > 0);
    set_data(A->fix, sandbox, 51);
    node_sandbox_set_paused(sandbox, true);
    node_sandbox_set_paused(sandbox, true);
    RUN_UNTIL(A->fix, !sandbox_of(sandbox)->pause_due);
    assert_int_equal(sandbox->state, NODE_SANDBOX_RUNNING);
    assert_int_equal(sandbox->end_at_ms, 0);
    begin_op(sandbox, "get", &stream); /* in flight */
    assert_int_equal(node_sandbox_need(sandbox, on_killed, &needed, &err), 0);
    for (i = 0; i < 20; i++) {
        (void)uv_run(&A->fix->loop, UV_RUN_NOWAIT);
    }
    assert_false(stream.done || needed.done);
    node_sandbox_set_paused(sandbox, false);
    RUN_UNTIL(A->fix, needed.done && stream.done);
    assert_int_equal(needed.code, 0);
    assert_int_equal(stream.value, 51);
    assert_true(sandbox->end_at_ms > 0);

    /* what came meanwhile follows */
    node_sandbox_set_paused(sandbox, true);
    node_manager_hibernate(A->fix->manager, sandbox, on_killed, &asleep);
    RUN_UNTIL(A->fix, !sandbox_of(sandbox)->pause_due);
    assert_int_equal(sandbox->state, NODE_SANDBOX_RUNNING);
    node_sandbox_set_paused(sandbox, false);
    RUN_UNTIL(A->fix, asleep.done);
    assert_int_equal(sandbox->state, NODE_SANDBOX_HIBERNATED);

    /* a new run begins without; the next daemon lets it go on; a paused one can be killed */
    wake(A->fix, sandbox);
    node_sandbox_set_paused(sandbox, true);
    RUN_UNTIL(A->fix, !sandbox_of(sandbox)->pause_due);
    {
        char id[NODE_SANDBOX_ID_SIZE];

        (void)snprintf(id, sizeof(id), "%s", sandbox->id);
        restart(A);
        sandbox = find(A->fix, id);
    }
    RUN_UNTIL(A->fix, sandbox->agent && !sandbox_of(sandbox)->resume_due);
    check_data(A->fix, sandbox, 51);
    node_sandbox_set_paused(sandbox, true);
    RUN_UNTIL(A->fix, !sandbox_of(sandbox)->pause_due);
    kill_now(A->fix, sandbox);
}

/* ---- the deadline ------------------------------------------------------------------------ */

#define LONG_AGO 1u

static uint64_t far_away(void)
{
    return shl_monotonic_ms() + 3600000;
}

static void turns(struct node *node)
{
    unsigned i;

    for (i = 0; i < 20; i++) {
        (void)uv_run(&node->fix->loop, UV_RUN_NOWAIT);
    }
}

static bool vmm_knows(const struct node_sandbox *pub)
{
    const struct sandbox *sandbox = sandbox_of((struct node_sandbox *)pub);

    return !sandbox->deadline_due && !sandbox->deadline_telling;
}

/* It strikes while nobody here does anything; what is asked afterwards waits for the next. */
static void test_deadline_strikes(void **state)
{
    struct node_sandbox *sandbox;
    uint64_t at_ms = 0, asked_ms = 0;
    struct answer stream;

    (void)state;
    start(A);
    sandbox = create(A->fix, "plain");
    set_data(A->fix, sandbox, 21);
    assert_true(node_sandbox_deadline(sandbox, &asked_ms));
    assert_true(asked_ms == 0);
    at_ms = shl_monotonic_ms() + 200;
    node_sandbox_set_deadline(sandbox, at_ms);
    RUN_UNTIL(A->fix, vmm_knows(sandbox));
    assert_true(node_sandbox_deadline(sandbox, &asked_ms));
    assert_true(asked_ms == at_ms);
    RUN_UNTIL(A->fix, shl_monotonic_ms() > at_ms);
    begin_op(sandbox, "get", &stream);
    turns(A);
    assert_false(stream.done);
    assert_int_equal(sandbox->state, NODE_SANDBOX_RUNNING);
    node_sandbox_set_deadline(sandbox, far_away());
    RUN_UNTIL(A->fix, stream.done && !sandbox_of(sandbox)->struck);
    assert_int_equal(stream.value, 21);

    /* put off in time: nothing happens */
    at_ms = shl_monotonic_ms() + 300;
    node_sandbox_set_deadline(sandbox, at_ms);
    node_sandbox_set_deadline(sandbox, far_away());
    RUN_UNTIL(A->fix, vmm_knows(sandbox));
    RUN_UNTIL(A->fix, shl_monotonic_ms() > at_ms);
    check_data(A->fix, sandbox, 21);
    kill_now(A->fix, sandbox);
}

/* Together with set_paused: both have to allow it, and the deadline is told before. */
static void test_deadline_and_paused(void **state)
{
    struct node_sandbox *sandbox;
    struct answer stream;

    (void)state;
    start(A);
    sandbox = create(A->fix, "plain");
    set_data(A->fix, sandbox, 22);
    node_sandbox_set_deadline(sandbox, LONG_AGO);
    RUN_UNTIL(A->fix, vmm_knows(sandbox) && sandbox_of(sandbox)->struck);
    node_sandbox_set_paused(sandbox, true);
    RUN_UNTIL(A->fix, !sandbox_of(sandbox)->pause_due);
    begin_op(sandbox, "get", &stream);
    node_sandbox_set_deadline(sandbox, far_away());
    RUN_UNTIL(A->fix, vmm_knows(sandbox));
    turns(A);
    assert_false(stream.done);
    node_sandbox_set_paused(sandbox, false);
    RUN_UNTIL(A->fix, stream.done && !sandbox_of(sandbox)->struck);

    /* let go on while the VMM would refuse: that waits */
    node_sandbox_set_deadline(sandbox, LONG_AGO);
    node_sandbox_set_paused(sandbox, true);
    RUN_UNTIL(A->fix, vmm_knows(sandbox) && !sandbox_of(sandbox)->pause_due);
    begin_op(sandbox, "get", &stream);
    node_sandbox_set_paused(sandbox, false);
    turns(A);
    assert_true(sandbox_of(sandbox)->pause_due);
    assert_false(stream.done);
    node_sandbox_set_deadline(sandbox, 0);
    RUN_UNTIL(A->fix, stream.done && !sandbox_of(sandbox)->pause_due);
    assert_int_equal(stream.value, 22);

    /* in one go, as after a stand-still of this daemon */
    node_sandbox_set_deadline(sandbox, LONG_AGO);
    RUN_UNTIL(A->fix, vmm_knows(sandbox) && sandbox_of(sandbox)->struck);
    node_sandbox_set_paused(sandbox, true);
    node_sandbox_set_deadline(sandbox, far_away());
    node_sandbox_set_paused(sandbox, false);
    check_data(A->fix, sandbox, 22);
    RUN_UNTIL(A->fix, !sandbox_of(sandbox)->pause_due && !sandbox_of(sandbox)->resume_due);
    assert_int_equal(sandbox->state, NODE_SANDBOX_RUNNING);
    kill_now(A->fix, sandbox);
}

static void test_deadline_survives_the_link(void **state)
{
    struct node_sandbox *sandbox;

    (void)state;
    start(A);
    sandbox = create(A->fix, "plain");
    set_flag(A->fix, "plain", "drop_control", true);
    node_sandbox_set_deadline(sandbox, LONG_AGO);
    RUN_UNTIL(A->fix, vmm_knows(sandbox) && sandbox_of(sandbox)->struck);
    node_sandbox_set_deadline(sandbox, far_away());
    RUN_UNTIL(A->fix, vmm_knows(sandbox) && !sandbox_of(sandbox)->struck);
    kill_now(A->fix, sandbox);
}

static uint64_t saved_deadline(struct node *node, const char *id, const char *name)
{
    uint64_t at_ms = 0;
    struct shl_mp_doc doc;
    struct shl_buf buf;

    read_saved(node->fix, id, name, &buf, &doc);
    (void)!shl_mp_get_uint(doc.root, "deadline_ms", UINT64_MAX, &at_ms);
    shl_mp_release(&doc);
    shl_buf_release(&buf);
    return at_ms;
}

static void test_deadline_is_started_with(void **state)
{
    uint64_t at_ms = far_away(), asked_ms = 1;
    struct node_sandbox *sandbox;
    struct gate gate = {0};
    struct answer one, two = {0};

    (void)state;
    start(A);
    node_manager_set_gate(A->fix->manager, on_gate, &gate);
    sandbox = create(A->fix, "plain");
    set_data(A->fix, sandbox, 23);
    node_sandbox_set_deadline(sandbox, far_away());
    RUN_UNTIL(A->fix, vmm_knows(sandbox));
    hibernate(A->fix, sandbox);
    RUN_UNTIL(A->fix, node_sandbox_artefact(sandbox) != NULL);
    begin_wake(A, sandbox, &one);
    RUN_UNTIL(A->fix, gate.asked == 1);
    assert_true(node_sandbox_deadline(sandbox, &asked_ms));
    assert_true(asked_ms == 0); /* the one before is forgotten */
    node_sandbox_set_deadline(sandbox, at_ms);
    gate.cb(gate.arg, 0, "");
    RUN_UNTIL(A->fix, one.done);
    assert_int_equal(one.code, 0);
    assert_true(saved_deadline(A, sandbox->id, "restore.msgpack") == at_ms);
    assert_true(vmm_knows(sandbox));
    check_data(A->fix, sandbox, 23);

    /* a reboot goes on under the same lease */
    node_manager_reboot(A->fix->manager, sandbox, true, on_killed, &two);
    RUN_UNTIL(A->fix, two.done);
    assert_int_equal(two.code, 0);
    assert_true(saved_deadline(A, sandbox->id, "start.msgpack") == at_ms);

    /* it has passed before the guest runs: the next one lets it */
    set_data(A->fix, sandbox, 24);
    hibernate(A->fix, sandbox);
    RUN_UNTIL(A->fix, node_sandbox_artefact(sandbox) != NULL);
    begin_wake(A, sandbox, &one);
    RUN_UNTIL(A->fix, gate.asked == 2);
    node_sandbox_set_deadline(sandbox, LONG_AGO);
    gate.cb(gate.arg, 0, "");
    RUN_UNTIL(A->fix, sandbox_of(sandbox)->link);
    turns(A);
    assert_false(one.done);
    assert_int_equal(sandbox->state, NODE_SANDBOX_WAKING);
    node_sandbox_set_deadline(sandbox, far_away());
    RUN_UNTIL(A->fix, one.done);
    assert_int_equal(one.code, 0);
    check_data(A->fix, sandbox, 24);
    node_manager_set_gate(A->fix->manager, NULL, NULL);
}

static struct node_sandbox *restart_with(struct node *node, struct node_sandbox *sandbox)
{
    char id[NODE_SANDBOX_ID_SIZE];

    (void)snprintf(id, sizeof(id), "%s", sandbox->id);
    restart(node);
    return find(node->fix, id);
}

static void test_deadline_of_an_adopted_one(void **state)
{
    uint64_t at_ms = far_away(), asked_ms;
    struct node_sandbox *sandbox;

    (void)state;
    start(A);
    sandbox = create(A->fix, "plain");
    set_data(A->fix, sandbox, 25);
    node_sandbox_set_deadline(sandbox, at_ms);
    RUN_UNTIL(A->fix, vmm_knows(sandbox));
    sandbox = restart_with(A, sandbox);
    assert_false(node_sandbox_deadline(sandbox, &asked_ms));
    RUN_UNTIL(A->fix, node_sandbox_deadline(sandbox, &asked_ms));
    assert_true(asked_ms == at_ms);
    check_data(A->fix, sandbox, 25);

    /* struck meanwhile: it is not let go on without a new one, and does not fail */
    node_sandbox_set_deadline(sandbox, LONG_AGO);
    RUN_UNTIL(A->fix, vmm_knows(sandbox));
    sandbox = restart_with(A, sandbox);
    RUN_UNTIL(A->fix, node_sandbox_deadline(sandbox, &asked_ms));
    assert_true(asked_ms == LONG_AGO);
    RUN_UNTIL(A->fix, !sandbox_of(sandbox)->resuming);
    assert_true(sandbox_of(sandbox)->resume_due && sandbox_of(sandbox)->struck);
    assert_int_equal(sandbox->state, NODE_SANDBOX_RUNNING);
    node_sandbox_set_deadline(sandbox, far_away());
    RUN_UNTIL(A->fix, !sandbox_of(sandbox)->resume_due);
    check_data(A->fix, sandbox, 25);

    /* a VMM of an older version: it runs on */
    set_flag(A->fix, "plain", "no_deadline", true);
    sandbox = restart_with(A, sandbox);
    RUN_UNTIL(A->fix, node_sandbox_deadline(sandbox, &asked_ms));
    assert_true(asked_ms == 0);
    node_sandbox_set_deadline(sandbox, far_away());
    RUN_UNTIL(A->fix, vmm_knows(sandbox));
    check_data(A->fix, sandbox, 25);
    kill_now(A->fix, sandbox);
}

/* The guest cannot be frozen: it is not hibernated, and goes on with the next one. */
static void test_deadline_in_a_hibernation(void **state)
{
    struct answer asleep = {0};
    struct node_sandbox *sandbox;

    (void)state;
    start(A);
    A->fix->manager->silent_ms = 500; /* how long it is waited for */
    sandbox = create(A->fix, "plain");
    set_data(A->fix, sandbox, 26);
    node_sandbox_set_deadline(sandbox, LONG_AGO);
    RUN_UNTIL(A->fix, vmm_knows(sandbox));
    node_manager_hibernate(A->fix->manager, sandbox, on_killed, &asleep);
    assert_int_equal(sandbox->state, NODE_SANDBOX_HIBERNATING);
    RUN_UNTIL(A->fix, asleep.done);
    assert_true(asleep.code < 0);
    assert_int_equal(sandbox->state, NODE_SANDBOX_RUNNING);
    node_sandbox_set_deadline(sandbox, far_away());
    RUN_UNTIL(A->fix, vmm_knows(sandbox) && !sandbox_of(sandbox)->resume_due);
    check_data(A->fix, sandbox, 26);
    hibernate(A->fix, sandbox);
    wake(A->fix, sandbox);
    check_data(A->fix, sandbox, 26);
}

/* ---- daemons that die, peers that lie ----------------------------------------------------- */

static bool count_one(void *arg, const struct ckpt_id *id)
{
    (void)id;
    ++*(int *)arg;
    return true;
}

static int count_manifests(struct node *node)
{
    int count = 0;

    assert_int_equal(
        ckpt_manifest_each(node_manager_store(node->fix->manager), count_one, &count, NULL), 0);
    return count;
}

static void test_copies_are_kept(void **state)
{
    struct node_artefact artefact;
    struct bundle bundle;

    (void)state;
    start(A);
    start(B);
    (void)hibernated(A, 1);
    artefact = wait_artefact(A, NODE_ARTEFACT_HIBERNATION);
    bring(A, B, &artefact, &bundle);
    B->may_drop = -1; /* not known yet */
    restart(B);
    idle(B);
    assert_int_equal(count_manifests(B), 1);
    B->may_drop = 0;
    artefacts_housekeeping(B->fix->manager->checkpoints);
    idle(B);
    assert_int_equal(count_manifests(B), 1);
    assert_true(shl_list_empty(&B->fix->manager->checkpoints->unknown));
    B->may_drop = 1;
    restart(B);
    idle(B);
    assert_int_equal(count_manifests(B), 0);
}

static void test_orphans(void **state)
{
    struct node_sandbox *sandbox;
    struct node_artefact artefact;
    struct shl_buf buf;
    char id[NODE_SANDBOX_ID_SIZE];

    (void)state;
    start(A);
    sandbox = hibernated(A, 1);
    artefact = wait_artefact(A, NODE_ARTEFACT_HIBERNATION);
    (void)snprintf(id, sizeof(id), "%s", sandbox->id);
    /* as after a crash between the end of a sandbox and that of its artefact */
    shl_buf_init(&buf, CHECKPOINT_RECORD_MAX);
    assert_int_equal(node_store_get(A->fix->store, CHECKPOINT_KIND, artefact.id, &buf, NULL), 0);
    kill_now(A->fix, sandbox);
    assert_int_equal(A->gone, 1);
    assert_int_equal(
        node_store_put(A->fix->store, CHECKPOINT_KIND, artefact.id, shl_buf_bytes(&buf), NULL), 0);
    restart(A);
    assert_int_equal(A->gone, 2);
    assert_true(shl_list_empty(&A->fix->manager->checkpoints->saves));
    /* ... and one that is somewhere else: not a word */
    assert_int_equal(
        node_store_put(A->fix->store, CHECKPOINT_KIND, artefact.id, shl_buf_bytes(&buf), NULL), 0);
    assert_int_equal(node_store_delete(A->fix->store, SANDBOX_KIND, id, NULL), 0);
    restart(A);
    assert_int_equal(A->gone, 2);
    assert_true(shl_list_empty(&A->fix->manager->checkpoints->saves));
    shl_buf_release(&buf);
}

/* The VM is gone when the daemon comes back, as after a crash of the machine. */
static void test_lost_with_its_machine(void **state)
{
    struct node_sandbox_spec spec = make_spec("plain");
    struct node_sandbox *sandbox;
    struct node_artefact artefact;
    struct answer answer = {0};
    struct bundle bundle;
    char id[NODE_SANDBOX_ID_SIZE];

    (void)state;
    start(A);
    start(B);
    spec.on_node_loss = NODE_ON_LOSS_RESTORE;
    assert_int_equal(node_manager_create(A->fix->manager, &spec, on_created, &answer, NULL), 0);
    RUN_UNTIL(A->fix, answer.done);
    sandbox = answer.sandbox;
    (void)snprintf(id, sizeof(id), "%s", sandbox->id);
    set_data(A->fix, sandbox, 61);
    hibernate(A->fix, sandbox);
    artefact = wait_artefact(A, NODE_ARTEFACT_HIBERNATION);
    wake(A->fix, sandbox);
    close_manager(A->fix);
    assert_int_equal(kill(vmm_pid(A->fix, id), SIGKILL), 0);
    RUN_UNTIL(A->fix, vmm_pid(A->fix, id) == 0);
    start(A);
    sandbox = find(A->fix, id);
    RUN_UNTIL(A->fix, sandbox->state == NODE_SANDBOX_ERROR);
    artefacts_housekeeping(A->fix->manager->checkpoints);
    assert_int_equal(A->gone, 0);
    assert_non_null(find_artefact(A, NODE_ARTEFACT_HIBERNATION, artefact.id));

    /* recovered on the same node, from its own store */
    let_go(A, sandbox);
    bring(A, B, &artefact, &bundle);
    assert_int_equal(import_sandbox(A, &bundle, &answer), 0);
    sandbox = find(A->fix, id);
    wake(A->fix, sandbox);
    check_data(A->fix, sandbox, 61);
    kill_now(A->fix, sandbox);
    assert_int_equal(A->gone, 1);
    node_manager_kill(A->fix->manager, sandbox, on_killed, NULL);
    assert_int_equal(A->gone, 1);
}

/* The daemon is stopped at any step of an import: it is all there, or nothing of it. */
static void test_stopped_meanwhile(void **state)
{
    struct node_artefact artefact;
    struct answer answer;
    struct bundle bundle;
    unsigned turns, i;
    bool there = false;

    (void)state;
    set_template(B, "plain too");
    start(A);
    start(B);
    (void)hibernated(A, 71);
    artefact = wait_artefact(A, NODE_ARTEFACT_HIBERNATION);
    bring(A, B, &artefact, &bundle);
    for (turns = 0; !there && turns < 200; turns++) {
        idle(B);
        answer = (struct answer){0};
        node_sandbox_import(B->fix->manager, &bundle.import, on_killed, &answer);
        for (i = 0; i < turns && !answer.done; i++) {
            (void)uv_run(&B->fix->loop, UV_RUN_ONCE);
        }
        close_manager(B->fix);
        assert_true(answer.done);
        assert_true(answer.code == 0 || answer.code == SHL_EUNAVAILABLE);
        start(B);
        idle(B);
        there = node_manager_find(B->fix->manager, ORG, artefact.sandbox_id);
        assert_int_equal(there, answer.code == 0);
        assert_int_equal(count_layers(B->fix, NULL), there ? 3 : 0);
        assert_int_equal(count_in(B, "bases"), there ? 1 : 0);
    }
    assert_true(there);
    wake(B->fix, find(B->fix, artefact.sandbox_id));
    check_data(B->fix, find(B->fix, artefact.sandbox_id), 71);
}

/* What a daemon that was killed leaves behind. */
static void test_leftovers(void **state)
{
    static const char id[] = "0123456789abcdef0123456789abcdef";
    char name[128];
    struct node_sandbox *sandbox;

    (void)state;
    (void)snprintf(name, sizeof(name), "bases/%s/disk.raw", id);
    add_file(A->fix, name, "half an import");
    add_file(A->fix, "bases/new-12/disk.raw", "half a base");
    (void)snprintf(name, sizeof(name), "warm/%s/mem", id);
    add_file(A->fix, name, "memory of a base");
    (void)snprintf(name, sizeof(name), "layers/%s.mem", id);
    add_file(A->fix, name, "memory");
    start(A);
    idle(A);
    assert_int_equal(count_in(A, "bases"), 0);
    assert_int_equal(count_in(A, "warm"), 0);
    assert_int_equal(count_layers(A->fix, NULL), 0);

    /* between the hibernation and the end of the ingest: the next one does the rest */
    sandbox = create(A->fix, "plain");
    set_data(A->fix, sandbox, 72);
    A->fix->manager->checkpoints->tidied = false;
    hibernate(A->fix, sandbox);
    restart(A);
    (void)wait_artefact(A, NODE_ARTEFACT_HIBERNATION);
    assert_int_equal(A->count, 2); /* one, and its base */
}

static void test_refused(void **state)
{
    struct node_artefact artefact, base;
    struct bundle bundle, bad;
    struct answer answer;
    char ids[NODE_BASES_MAX][NODE_BASE_ID_SIZE];
    struct shl_err err = {0};

    (void)state;
    set_template(B, "plain too");
    start(A);
    start(B);
    (void)hibernated(A, 1);
    artefact = wait_artefact(A, NODE_ARTEFACT_HIBERNATION);
    base = *find_artefact(A, NODE_ARTEFACT_BASE, NULL);
    assert_true(node_import_bases(B->fix->manager, artefact.manifest, ids, &err) < 0);
    bring(A, B, &artefact, &bundle);
    assert_int_equal(import_checkpoint(B, &bundle, &answer), SHL_EINVALIDARG);

    bad = bundle; /* another artefact's id */
    bad.import.id = "00000000-0000-4000-8000-000000000000";
    assert_int_equal(import_sandbox(B, &bad, &answer), SHL_ECORRUPT);
    bad = bundle; /* without the base */
    bad.import.base_count = 0;
    assert_int_equal(import_sandbox(B, &bad, &answer), SHL_ENOTFOUND);
    bad = bundle; /* a base that is none */
    bad.import.bases[0].manifest = artefact.manifest;
    assert_int_equal(import_sandbox(B, &bad, &answer), SHL_ECORRUPT);
    bad = bundle; /* a base as an artefact */
    bad.import.manifest = base.manifest;
    assert_int_equal(import_sandbox(B, &bad, &answer), SHL_ECORRUPT);
    assert_true(answer.msg[0] != '\0');
    bad = bundle;
    bad.import.manifest = "nonsense";
    assert_int_equal(import_sandbox(B, &bad, &answer), SHL_EINVALIDARG);
    idle(B);
    assert_int_equal(count_layers(B->fix, NULL), 0);
    assert_int_equal(count_in(B, "bases"), 0);
    assert_int_equal(import_sandbox(B, &bundle, &answer), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup_both, teardown_both)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_checkpoint_elsewhere),
        TEST(test_another_template),
        TEST(test_sandbox_elsewhere),
        TEST(test_warm_memory_elsewhere),
        TEST(test_newer_replaces_older),
        TEST(test_wakes_before_it_is_ready),
        TEST(test_wanted_later),
        TEST(test_gate),
        TEST(test_gate_of_one_that_goes),
        TEST(test_gate_is_not_asked_alone),
        TEST(test_autosave),
        TEST(test_paused),
        TEST(test_deadline_strikes),
        TEST(test_deadline_and_paused),
        TEST(test_deadline_survives_the_link),
        TEST(test_deadline_is_started_with),
        TEST(test_deadline_of_an_adopted_one),
        TEST(test_deadline_in_a_hibernation),
        TEST(test_copies_are_kept),
        TEST(test_orphans),
        TEST(test_stopped_meanwhile),
        TEST(test_leftovers),
        TEST(test_lost_with_its_machine),
        TEST(test_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
