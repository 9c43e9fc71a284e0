#include "tests/node/replica/kit.h"

/*- Liars. */

static size_t lie_data(void *arg, struct shl_bytes data)
{
    (void)arg;
    return data.len;
}

static void lie_closed(void *arg, int code, const char *msg)
{
    (void)arg;
    (void)code;
    (void)msg;
}

static const struct node_stream_user lie_user = {.data = lie_data, .closed = lie_closed};

/* Records about all that was asked; the windows are larger than that. */
static void lie_with_records(struct node_stream *s, const struct node_replica_ask *ask, bool lacks)
{
    static uint8_t wrong[CKPT_CHUNK_BYTES];
    uint32_t i;

    memset(wrong, 0x5a, sizeof(wrong));
    for (i = 0; i < ask->count; i++) {
        struct node_replica_record record = {i, NODE_REPLICA_LACKS, 0};
        uint8_t head[NODE_REPLICA_RECORD_BYTES];

        if (!lacks) {
            record.outcome = NODE_REPLICA_HERE;
            record.length = 4096;
        }
        node_replica_record_write(head, &record);
        assert_int_equal(node_stream_write(s, shl_bytes_of(head, sizeof(head))), sizeof(head));
        assert_int_equal(node_stream_write(s, shl_bytes_of(wrong, record.length)), record.length);
    }
    node_stream_finish(s);
}

static void write_record(struct node_stream *s,
                         uint32_t index,
                         enum node_replica_outcome outcome,
                         struct shl_bytes bytes)
{
    struct node_replica_record record = {index, outcome, (uint32_t)bytes.len};
    uint8_t head[NODE_REPLICA_RECORD_BYTES];

    node_replica_record_write(head, &record);
    assert_int_equal(node_stream_write(s, shl_bytes_of(head, sizeof(head))), sizeof(head));
    assert_int_equal(node_stream_write(s, bytes), bytes.len);
}

/* A frame of which only the beginning is there, or a whole one of 400 times the letter a. */
static void lie_packed(struct node_stream *s, const struct node_replica_ask *ask, bool is_bomb)
{
    static const uint8_t bomb[] = {0x28, 0xb5, 0x2f, 0xfd, 0xa0, 0, 0, 0, 0x40, 3, 0, 0, 'a'};
    static const uint8_t other[] = {0x28, 0xb5, 0x2f, 0xfd, 0x60, 0x90,
                                    0x00, 0x83, 0x0c, 0x00, 'a'};
    uint32_t i;

    for (i = 0; i < ask->count; i++) {
        write_record(s, i, NODE_REPLICA_PACKED,
                     is_bomb ? shl_bytes_of(bomb, sizeof(bomb))
                             : shl_bytes_of(other, sizeof(other)));
    }
    node_stream_finish(s);
}

static void lie_half(struct node_stream *s, bool ends)
{
    struct node_replica_record record = {0, NODE_REPLICA_HERE, 1000};
    uint8_t bytes[NODE_REPLICA_RECORD_BYTES + 500] = {0};

    node_replica_record_write(bytes, &record);
    assert_int_equal(node_stream_write(s, shl_bytes_of(bytes, sizeof(bytes))), sizeof(bytes));
    if (ends) {
        node_stream_finish(s);
    }
}

static void lie_garbage(struct node_stream *s)
{
    uint8_t bytes[5000];
    uint64_t state = 7;
    size_t i;

    for (i = 0; i < sizeof(bytes); i++) {
        bytes[i] = (uint8_t)next_random(&state);
    }
    assert_int_equal(node_stream_write(s, shl_bytes_of(bytes, sizeof(bytes))), sizeof(bytes));
    node_stream_finish(s);
}

static int lie_accept(void *arg, struct node_stream *s, struct shl_bytes head, struct shl_err *err)
{
    struct kit_node *node = arg;
    struct node_replica_ask ask;

    assert_int_equal(node_replica_ask_parse(&ask, head, err), 0);
    node->lies++;
    node_stream_set_user(s, &lie_user, node);
    if (node->lie == LIE_WRONG_BYTES || node->lie == LIE_LACKS) {
        lie_with_records(s, &ask, node->lie == LIE_LACKS);
    } else if (node->lie == LIE_HALF || node->lie == LIE_CUT) {
        lie_half(s, node->lie == LIE_CUT);
    } else if (node->lie == LIE_GARBAGE) {
        lie_garbage(s);
    } else if (node->lie == LIE_PACKED || node->lie == LIE_BOMB) {
        lie_packed(s, &ask, node->lie == LIE_BOMB);
    }
    return 0;
}

/*- The version before. */

/* It does not know "packed" in a question: as if that were not there. */
static int open_as_before(struct node_stream_opener *opener,
                          const struct shl_node_id *peer,
                          const char *kind,
                          struct shl_bytes head,
                          const struct node_stream_user *user,
                          void *arg,
                          struct node_stream **ret,
                          struct shl_err *err)
{
    struct kit_node *node = shl_container_of(opener, struct kit_node, opener);
    struct node_stream_opener *real = node_mesh_opener(node->mesh.mesh);
    struct node_replica_ask ask;
    struct shl_buf buf;
    int rc;

    assert_int_equal(node_replica_ask_parse(&ask, head, err), 0);
    ask.may_pack = false;
    shl_buf_init(&buf, NODE_REPLICA_HEAD_MAX);
    assert_int_equal(node_replica_ask_write(&buf, &ask), 0);
    rc = real->open(real, peer, kind, shl_buf_bytes(&buf), user, arg, ret, err);
    shl_buf_release(&buf);
    return rc;
}

/*- Nodes. */

static void open_node(struct kit *kit, struct kit_node *node, enum lie lie)
{
    struct node_replica_config config = {.fetch = kit->fetch, .manifest_ms = kit->manifest_ms};
    struct node_replica_server_config serve = kit->serve;

    node->kit = kit;
    node->lie = lie;
    test_mesh_open(&node->mesh, &kit->loop, NULL);
    if (lie != LIE_NONE) {
        node_mesh_accept(node->mesh.mesh, NODE_REPLICA_KIND, lie_accept, node);
        return;
    }
    snprintf(node->dir, sizeof(node->dir), "%s/%d", kit->dir, (int)(node - kit->nodes));
    node->store = open_store(node->dir);
    serve.store = node->store;
    assert_int_equal(
        node_replica_server_open(&kit->loop, node->mesh.mesh, &serve, &node->server, NULL), 0);
    config.store = node->store;
    node->opener.open = open_as_before;
    config.opener = kit->is_old ? &node->opener : node_mesh_opener(node->mesh.mesh);
    assert_int_equal(node_replica_open(&kit->loop, &config, &node->replica, NULL), 0);
}

void kit_open(struct kit *kit, enum lie lie1, enum lie lie2)
{
    open_node(kit, &kit->nodes[0], LIE_NONE);
    open_node(kit, &kit->nodes[1], lie1);
    open_node(kit, &kit->nodes[2], lie2);
    test_mesh_connect(&kit->nodes[0].mesh, &kit->nodes[1].mesh);
    test_mesh_connect(&kit->nodes[0].mesh, &kit->nodes[2].mesh);
}

static void on_closed(void *arg)
{
    struct kit_node *node = arg;

    node->closing--;
}

void kit_close_replica(struct kit_node *node)
{
    if (node->replica) {
        node->closing++;
        node_replica_close(node->replica, on_closed, node);
        node->replica = NULL;
        RUN_UNTIL(&node->kit->loop, node->closing == 0);
    }
}

void kit_close_node(struct kit_node *node)
{
    kit_close_replica(node);
    if (node->mesh.mesh) {
        test_mesh_close(&node->mesh);
    }
    if (node->server) {
        node->closing++;
        node_replica_server_close(node->server, on_closed, node);
        node->server = NULL;
        RUN_UNTIL(&node->kit->loop, node->closing == 0);
    }
    if (node->store) {
        struct ckpt_store_stats stats = stats_of(node->store);

        assert_int_equal(stats.sessions, 0);
        assert_int_equal(stats.pins, 0);
        ckpt_store_close(node->store);
        node->store = NULL;
    }
}

void kit_setup(struct kit *kit)
{
    memset(kit, 0, sizeof(*kit));
    assert_int_equal(uv_loop_init(&kit->loop), 0);
    kit->dir = enter_dir();
    ckpt_fetch_config_defaults(&kit->fetch);
    kit->fetch.seed = 42;
}

void kit_teardown(struct kit *kit)
{
    int i;

    for (i = 0; i < KIT_NODES; i++) {
        if (kit->nodes[i].kit) {
            kit_close_node(&kit->nodes[i]);
        }
    }
    assert_int_equal(uv_run(&kit->loop, UV_RUN_DEFAULT), 0);
    assert_int_equal(uv_loop_close(&kit->loop), 0);
    leave_dir();
}

/*- Fetching. */

static void on_done(void *arg, const struct node_replica_result *result)
{
    struct kit_fetch *f = arg;

    f->done++;
    f->result = *result;
    assert_int_equal(result->msg == NULL, result->code == 0);
    snprintf(f->msg, sizeof(f->msg), "%s", result->msg ? result->msg : "");
}

void kit_begin(struct kit *kit, struct kit_fetch *f, const struct ckpt_id *id, const int *from)
{
    struct shl_node_id holders[KIT_NODES];
    uint32_t count;
    struct shl_err err = {0};

    for (count = 0; from[count] > 0; count++) {
        holders[count] = kit->nodes[from[count]].mesh.keys.id;
    }
    memset(f, 0, sizeof(*f));
    f->kit = kit;
    if (node_replica_fetch(kit->nodes[0].replica, id, CKPT_FETCH_REPAIR, holders, count, on_done, f,
                           &f->fetch, &err) < 0) {
        fail_msg("%s", err.msg);
    }
    assert_int_equal(f->done, 0);
}

int kit_fetch(struct kit *kit, struct kit_fetch *f, const struct ckpt_id *id, const int *from)
{
    kit_begin(kit, f, id, from);
    RUN_UNTIL(&kit->loop, f->done);
    assert_int_equal(f->done, 1);
    if (f->result.code < 0) {
        print_message("%s: %s\n", shl_err_name(f->result.code), f->msg);
    }
    return f->result.code;
}

struct node_replica_stats kit_stats(struct kit *kit)
{
    struct node_replica_stats stats;

    node_replica_stats(kit->nodes[0].replica, &stats);
    return stats;
}

struct node_replica_server_stats kit_served(const struct kit_node *node)
{
    struct node_replica_server_stats stats;

    node_replica_server_stats(node->server, &stats);
    return stats;
}
