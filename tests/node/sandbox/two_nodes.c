#include "tests/node/sandbox/two_nodes.h"

#include "checkpoint/manifest.h"

struct node nodes[2];

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

void start(struct node *node)
{
    node->count = 0;
    open_manager(node->fix);
    if (!node->unwatched) {
        node_manager_set_artefact_watch(node->fix->manager, &watch, node);
        node_manager_want_artefacts(node->fix->manager, true);
    }
}

void restart(struct node *node)
{
    close_manager(node->fix);
    start(node);
}

int setup_both(void **state)
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

int teardown_both(void **state)
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

const struct node_artefact *find_artefact(const struct node *node,
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

struct node_artefact wait_artefact(struct node *node, enum node_artefact_kind kind)
{
    RUN_UNTIL(node->fix, find_artefact(node, kind, NULL));
    return *find_artefact(node, kind, NULL);
}

void idle(struct node *node)
{
    RUN_UNTIL(node->fix, node->fix->manager->jobs == 0);
}

/* ---- what is brought ------------------------------------------------------------------ */

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

void bring(struct node *from,
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

int import_sandbox(struct node *to, const struct bundle *bundle, struct answer *answer)
{
    idle(to); /* what a failed one before left is removed */
    *answer = (struct answer){0};
    node_sandbox_import(to->fix->manager, &bundle->import, on_killed, answer);
    assert_false(answer->done);
    RUN_UNTIL(to->fix, answer->done);
    return answer->code;
}

int import_checkpoint(struct node *to, const struct bundle *bundle, struct answer *answer)
{
    *answer = (struct answer){0};
    node_checkpoint_import(to->fix->manager, &bundle->import, on_killed, answer);
    assert_false(answer->done);
    RUN_UNTIL(to->fix, answer->done);
    return answer->code;
}

void let_go(struct node *node, struct node_sandbox *sandbox)
{
    struct answer answer = {0};

    node_sandbox_let_go(node->fix->manager, sandbox, "another node has it", on_killed, &answer);
    RUN_UNTIL(node->fix, answer.done);
    assert_int_equal(answer.code, 0);
}

/* ---- what lies there ------------------------------------------------------------------ */

void set_template(struct node *node, const char *content)
{
    add_file(node->fix, "templates/plain/disk.raw", content);
}

int count_in(struct node *node, const char *name)
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

struct node_sandbox *hibernated(struct node *node, unsigned value)
{
    struct node_sandbox *sandbox = create(node->fix, "plain");

    set_data(node->fix, sandbox, value);
    hibernate(node->fix, sandbox);
    RUN_UNTIL(node->fix, is_told(node, sandbox->id));
    return sandbox;
}

/* ---- the gate ------------------------------------------------------------------------- */

void on_gate(void *arg, struct node_sandbox *sandbox, node_sandbox_cb cb, void *cb_arg)
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

void begin_wake(struct node *node, struct node_sandbox *sandbox, struct answer *answer)
{
    *answer = (struct answer){0};
    node_manager_wake(node->fix->manager, sandbox, NULL, on_killed, answer);
}
