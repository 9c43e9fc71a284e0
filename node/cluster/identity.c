/* What this node keeps about itself: the cluster it belongs to, and its own address. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "node/cluster/cluster_private.h"

#define CLUSTER_ID  "cluster"
#define NODE_ID     "node"
#define STANDING_ID "joined"
#define NAME_ID     "name"

/* The records and DATA/mesh belong together: whoever lost one of the two must not go on with
 * what is left, since a node that forgot what it promised may undo what was acknowledged. */
static int check_node(struct cluster *c, struct shl_err *err)
{
    struct shl_buf buf;
    int rc;

    shl_buf_init(&buf, SHL_NODE_ID_BYTES);
    rc = node_store_get(c->store, CLUSTER_STORE_KIND, NODE_ID, &buf, err);
    if (rc == 0 && (shl_buf_len(&buf) != SHL_NODE_ID_BYTES ||
                    memcmp(shl_buf_data(&buf), c->keys.id.bytes, SHL_NODE_ID_BYTES) != 0)) {
        rc = shl_err_set(err, SHL_ECORRUPT,
                         "the key of this node in %s/mesh is not the one of its records: put that "
                         "folder back, or remove the node from the cluster and let it join anew "
                         "with an empty data folder",
                         c->data_dir);
    }
    shl_buf_release(&buf);
    return rc == SHL_ENOTFOUND ? 0 : rc;
}

/* A node is known to the others by the name it founded or joined under, for as long as it is a
 * member: another host name or --worker-id does not change it, or it would call itself
 * something that nobody can find. */
static int keep_name(struct cluster *c, struct shl_err *err)
{
    struct shl_buf buf;
    int rc;

    shl_buf_init(&buf, sizeof(c->name) - 1);
    rc = node_store_get(c->store, CLUSTER_STORE_KIND, NAME_ID, &buf, err);
    if (rc == 0 && (shl_buf_len(&buf) == 0 || memchr(shl_buf_data(&buf), 0, shl_buf_len(&buf)))) {
        rc = shl_err_set(err, SHL_ECORRUPT,
                         "the record of this node's name is damaged: remove the node from the "
                         "cluster and let it join anew with an empty data folder");
    } else if (rc == 0) {
        char name[sizeof(c->name)] = "";

        memcpy(name, shl_buf_data(&buf), shl_buf_len(&buf));
        if (strcmp(name, c->name) != 0) {
            SHL_LOG(&c->log_sink, SHL_LOG_WARN, "name_kept", SHL_S("node", name),
                    SHL_S("not", c->name),
                    SHL_S("why", "a node keeps the name under which it became a member"));
        }
        memcpy(c->name, name, sizeof(name));
    }
    shl_buf_release(&buf);
    return rc == SHL_ENOTFOUND ? 0 : rc;
}

int cluster_identity_load(struct cluster *c, struct shl_err *err)
{
    struct shl_buf buf;
    int rc;

    shl_buf_init(&buf, NODE_CLUSTER_BYTES);
    rc = node_store_get(c->store, CLUSTER_STORE_KIND, CLUSTER_ID, &buf, err);
    if (rc == 0 && shl_buf_len(&buf) != NODE_CLUSTER_BYTES) {
        rc = shl_err_set(err, SHL_ECORRUPT,
                         "the record of this node's cluster is damaged: remove the node from the "
                         "cluster and let it join anew with an empty data folder");
    } else if (rc == 0) {
        memcpy(c->id, shl_buf_data(&buf), NODE_CLUSTER_BYTES);
        c->has_id = true;
    } else if (rc == SHL_ENOTFOUND) {
        rc = 0;
    }
    shl_buf_release(&buf);
    if (rc == 0 && c->has_id) {
        rc = check_node(c, err);
    }
    return rc == 0 && c->has_id ? keep_name(c, err) : rc;
}

enum cluster_standing cluster_standing_load(struct cluster *c)
{
    enum cluster_standing standing = CLUSTER_STANDING_NONE;
    struct shl_buf buf;

    shl_buf_init(&buf, 16);
    if (node_store_get(c->store, CLUSTER_STORE_KIND, STANDING_ID, &buf, NULL) == 0) {
        standing = shl_buf_len(&buf) == 1 && shl_buf_data(&buf)[0] == CLUSTER_STANDING_FOUNDING
                       ? CLUSTER_STANDING_FOUNDING
                       : CLUSTER_STANDING_MEMBER;
    }
    shl_buf_release(&buf);
    return standing;
}

int cluster_standing_save(struct cluster *c, enum cluster_standing standing, struct shl_err *err)
{
    uint8_t byte = (uint8_t)standing;

    return node_store_put(c->store, CLUSTER_STORE_KIND, STANDING_ID, shl_bytes_of(&byte, 1), err);
}

int cluster_identity_save(struct cluster *c,
                          const uint8_t id[NODE_CLUSTER_BYTES],
                          struct shl_err *err)
{
    int rc = node_store_put(c->store, CLUSTER_STORE_KIND, NODE_ID,
                            shl_bytes_of(c->keys.id.bytes, SHL_NODE_ID_BYTES), err);

    if (rc == 0) {
        rc = node_store_put(c->store, CLUSTER_STORE_KIND, NAME_ID,
                            shl_bytes_of(c->name, strlen(c->name)), err);
    }
    if (rc == 0) {
        rc = node_store_put(c->store, CLUSTER_STORE_KIND, CLUSTER_ID,
                            shl_bytes_of(id, NODE_CLUSTER_BYTES), err);
    }
    if (rc == 0) {
        memcpy(c->id, id, NODE_CLUSTER_BYTES);
        c->has_id = true;
    }
    return rc;
}

/* Connecting a datagram socket sends nothing; the kernel chooses the source address. */
int cluster_own_address(char host[NODE_MESH_HOST_SIZE], struct shl_err *err)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(9)};
    SHL_CLEANUP_FD int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in own = {0};
    socklen_t len = sizeof(own);

    to.sin_addr.s_addr = htonl(0xc0000201); /* 192.0.2.1, a documentation address */
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0 ||
        getsockname(fd, (struct sockaddr *)&own, &len) < 0) {
        /* a machine without a route can only be a cluster of its own */
        own.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    }
    if (!inet_ntop(AF_INET, &own.sin_addr, host, NODE_MESH_HOST_SIZE)) {
        return shl_err_sys(err, errno, "cannot find this node's own address: give --mesh-address");
    }
    return 0;
}
