/* What other nodes send to node/cluster: the first byte chooses the reader, the rest are the bytes.
 * What is taken is within the limits, is text where it is text, and what is written of it is read
 * again. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "node/cluster/wire.h"
#include "node/mesh/mesh.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t key[NODE_KEY_BYTES] = {1, 2, 3};

static void check_text(const char *text, size_t size)
{
    assert(strnlen(text, size) < size);
    for (; *text; text++) {
        assert((uint8_t)*text >= 0x20 && *text != 0x7f);
    }
}

static void fuzz_join(struct shl_bytes body)
{
    struct sched_cmd_node_join join;
    struct shl_node_id id;

    if (cluster_wire_read_join(body, key, &join) == 0) {
        node_mesh_keys_id(key, &id);
        assert(shl_node_id_equal(&join.node.id, &id) && memcmp(join.node.key, key, 32) == 0);
        check_text(join.node.name, sizeof(join.node.name));
        check_text(join.node.control, sizeof(join.node.control));
        check_text(join.node.domain, sizeof(join.node.domain));
        assert(join.node.role <= SCHED_ROLE_WITNESS);
    }
}

static void fuzz_welcome(struct shl_bytes body)
{
    uint8_t cluster[NODE_CLUSTER_BYTES];
    struct gossip_info *infos = NULL;
    uint32_t count = 0, i;

    if (cluster_wire_read_welcome(body, cluster, &infos, &count) == 0) {
        assert(count >= 1 && count <= SCHED_NODES_MAX);
        for (i = 0; i < count; i++) {
            check_text(infos[i].name, sizeof(infos[i].name));
            check_text(infos[i].control, sizeof(infos[i].control));
        }
        free(infos);
    }
}

static void fuzz_place(struct shl_bytes body)
{
    struct cluster_placing placing, again;
    struct shl_buf buf;

    if (cluster_wire_read_place(body, &placing) == 0) {
        assert(placing.what.cpus <= NODE_CPUS_MAX);
        assert(placing.what.memory_mb <= NODE_MEMORY_MAX_MB);
        check_text(placing.template_name, sizeof(placing.template_name));
        shl_buf_init(&buf, 4096);
        assert(cluster_wire_write_place(&buf, &placing.what) == 0);
        assert(cluster_wire_read_place(shl_buf_bytes(&buf), &again) == 0);
        assert(again.what.disk_mb == placing.what.disk_mb);
        assert(strcmp(again.template_name, placing.template_name) == 0);
        shl_buf_release(&buf);
    }
}

static void fuzz_placed(struct shl_bytes body)
{
    static const struct shl_node_id self = {{7}};
    struct node_answer answer, again;
    struct shl_buf buf;
    size_t i;

    if (cluster_wire_read_placed(body, &self, &answer) == 0) {
        assert(answer.code <= 0 && (answer.code < 0 || answer.target_count > 0));
        assert(answer.target_count <= NODE_TARGETS_MAX);
        assert(answer.refusal_count <= NODE_REFUSALS_MAX);
        check_text(answer.msg, sizeof(answer.msg));
        for (i = 0; i < answer.target_count; i++) {
            check_text(answer.targets[i].name, sizeof(answer.targets[i].name));
            assert(answer.targets[i].is_local == shl_node_id_equal(&answer.targets[i].id, &self));
        }
        for (i = 0; i < answer.refusal_count; i++) {
            check_text(answer.refusals[i].reason, sizeof(answer.refusals[i].reason));
        }
        shl_buf_init(&buf, 65536);
        assert(cluster_wire_write_placed(&buf, &answer) == 0);
        assert(cluster_wire_read_placed(shl_buf_bytes(&buf), &self, &again) == 0);
        assert(again.code == answer.code && again.target_count == answer.target_count);
        shl_buf_release(&buf);
    }
}

static void fuzz_where(struct shl_bytes body)
{
    struct cluster_question question;

    if (cluster_wire_read_where(body, &question) == 0) {
        assert(strnlen(question.org, sizeof(question.org)) < sizeof(question.org));
        assert(strnlen(question.id, sizeof(question.id)) < sizeof(question.id));
    }
}

static void fuzz_figures(struct shl_bytes value)
{
    struct cluster_figures figures, again;
    struct shl_buf buf;

    if (cluster_wire_read_figures(value, &figures) == 0) {
        check_text(figures.region, sizeof(figures.region));
        check_text(figures.url, sizeof(figures.url));
        check_text(figures.version, sizeof(figures.version));
        shl_buf_init(&buf, 4096);
        assert(cluster_wire_write_figures(&buf, &figures) == 0);
        assert(cluster_wire_read_figures(shl_buf_bytes(&buf), &again) == 0);
        assert(again.admitted == figures.admitted && again.cpus_total == figures.cpus_total);
        assert(strcmp(again.url, figures.url) == 0);
        shl_buf_release(&buf);
    }
}

static void fuzz_sandbox(struct shl_bytes value)
{
    struct cluster_sandbox sandbox;
    char org[NODE_ORG_ID_SIZE];

    if (cluster_wire_read_sandbox(value, &sandbox) == 0) {
        check_text(sandbox.pub.status, sizeof(sandbox.status));
        check_text(sandbox.pub.reason, sizeof(sandbox.reason));
        check_text(sandbox.pub.template_name, sizeof(sandbox.template_name));
        assert(cluster_wire_read_org(value, org) == 0);
    }
}

static void fuzz_drop(struct shl_bytes body)
{
    struct cluster_drop drop, again;
    struct shl_buf buf;

    if (cluster_wire_read_drop(body, &drop) == 0) {
        shl_buf_init(&buf, 4096);
        assert(cluster_wire_write_drop(&buf, &drop) == 0);
        assert(cluster_wire_read_drop(shl_buf_bytes(&buf), &again) == 0);
        assert(again.token == drop.token);
        assert(memcmp(again.manifest, drop.manifest, sizeof(drop.manifest)) == 0);
        shl_buf_release(&buf);
    }
}

static void fuzz_drop_answer(struct shl_bytes body)
{
    bool yes;

    (void)!cluster_wire_read_drop_answer(body, &yes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const readers[])(struct shl_bytes body) = {
        fuzz_join,    fuzz_welcome, fuzz_place, fuzz_placed,      fuzz_where,
        fuzz_figures, fuzz_sandbox, fuzz_drop,  fuzz_drop_answer,
    };

    if (size > 0) {
        readers[data[0] % SHL_ARRAY_SIZE(readers)](shl_bytes_of(data + 1, size - 1));
    }
    return 0;
}
