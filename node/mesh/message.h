/* Messages of the mesh: msgpack arrays `[version, cluster, kind, ...]`, one per ZeroMQ
 * message. Elements behind the known ones are ignored, so that a newer version may append.
 *
 * Kinds that begin with a letter are one-way messages of whoever registered them:
 * `[.., body]`. Those of the mesh itself begin with a dot and are listed here.
 *
 * Pure: bytes in, fields out. Everything parsed is borrowed from the bytes and the
 * document; nothing is believed beyond type and range.
 */
#ifndef SHL_NODE_MESH_MESSAGE_H
#define SHL_NODE_MESH_MESSAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/mp.h"
#include "base/node_id.h"
#include "node/mesh/token.h"

#define MESH_KIND_MAX        24
#define MESH_FRAME_BYTES_MAX (256u * 1024) /* payload of one .data or .part */
#define MESH_TEXT_MAX        256           /* a sentence of the other side */
#define MESH_OVERHEAD_MAX    512           /* bytes of a message beside its body and texts */

enum mesh_channel {
    MESH_CONTROL,
    MESH_BULK,
    MESH_CHANNELS
};

#define MESH_TYPE_MAP(X)                                                        \
    X(HELLO, ".hello")     /* {id, min, max, boot, nonce, channel, addr} */     \
    X(WELCOME, ".welcome") /* {id, version, boot, nonce} */                     \
    X(REFUSE, ".refuse")   /* reason, sentence */                               \
    X(ASK, ".ask")         /* id, method, timeout ms, body */                   \
    X(REPLY, ".reply")     /* id, code, sentence or nil, body */                \
    X(OPEN, ".open")       /* stream, kind, head */                             \
    X(DATA, ".data")       /* stream, opened by the sender of this, bytes */    \
    X(PART, ".part")       /* stream, opened by .., length; the bytes follow */ \
    X(CREDIT, ".credit")   /* stream, opened by .., bytes more */               \
    X(END, ".end")         /* stream, opened by .. */                           \
    X(CUT, ".cut")         /* stream, opened by .., code, sentence */           \
    X(JOIN, ".join")       /* lowest version, highest version, body */          \
    X(JOINED, ".joined")   /* code, sentence or nil, body */

/* From version 2: bytes in a message part of their own, so that the sender need not copy them. */
#define MESH_VERSION_PARTS 2

enum mesh_type {
    MESH_ONE_WAY,
#define MESH_TYPE_ENUM(name, text) MESH_##name,
    MESH_TYPE_MAP(MESH_TYPE_ENUM)
#undef MESH_TYPE_ENUM
    MESH_UNKNOWN, /* begins with a dot and is not of this version */
};

struct mesh_message {
    struct shl_mp_doc doc;
    uint64_t version;
    const uint8_t *cluster; /* NODE_CLUSTER_BYTES */
    enum mesh_type type;
    char kind[MESH_KIND_MAX + 1]; /* of a one-way message, a stream, a method; else empty */
    uint64_t id;                  /* of a call or stream */
    bool opened;                  /* the sender of this message opened the stream */
    uint64_t number;              /* timeout, credit or length */
    int64_t code;                 /* negative or 0 */
    char text[MESH_TEXT_MAX];     /* cut, control characters replaced */
    struct shl_bytes body;        /* body, head or bytes */
    struct {
        struct shl_node_id id;
        uint64_t min, max; /* .welcome: both the version chosen */
        uint64_t boot, nonce;
        uint64_t channel;
        struct node_mesh_addr addr; /* where its sender listens; no host: it did not say */
    } hello;
};

/* 0 and mesh_message_release is due, or SHL_EPROTO. */
SHL_MUST_CHECK int mesh_message_parse(struct mesh_message *msg, struct shl_bytes bytes);
void mesh_message_release(struct mesh_message *msg);

/* What all messages begin with. */
struct mesh_envelope {
    uint32_t version;
    const uint8_t *cluster;
};

/* Writers append one whole message to @buf; 0, SHL_ELIMIT or -ENOMEM. */
SHL_MUST_CHECK int mesh_write_one_way(struct shl_buf *buf,
                                      const struct mesh_envelope *env,
                                      const char *kind,
                                      struct shl_bytes body);
SHL_MUST_CHECK int mesh_write_hello(struct shl_buf *buf,
                                    const struct mesh_envelope *env,
                                    const struct mesh_message *fields);
SHL_MUST_CHECK int mesh_write_welcome(struct shl_buf *buf,
                                      const struct mesh_envelope *env,
                                      const struct mesh_message *fields);
SHL_MUST_CHECK int mesh_write_refuse(struct shl_buf *buf,
                                     const struct mesh_envelope *env,
                                     const char *reason,
                                     const char *text);
SHL_MUST_CHECK int mesh_write_ask(struct shl_buf *buf,
                                  const struct mesh_envelope *env,
                                  uint64_t id,
                                  const char *method,
                                  uint32_t timeout_ms,
                                  struct shl_bytes body);
SHL_MUST_CHECK int mesh_write_reply(struct shl_buf *buf,
                                    const struct mesh_envelope *env,
                                    uint64_t id,
                                    int code,
                                    const char *text,
                                    struct shl_bytes body);
SHL_MUST_CHECK int mesh_write_open(struct shl_buf *buf,
                                   const struct mesh_envelope *env,
                                   uint64_t stream,
                                   const char *kind,
                                   struct shl_bytes head);
SHL_MUST_CHECK int mesh_write_data(struct shl_buf *buf,
                                   const struct mesh_envelope *env,
                                   uint64_t stream,
                                   bool opened,
                                   struct shl_bytes bytes);
SHL_MUST_CHECK int mesh_write_part(struct shl_buf *buf,
                                   const struct mesh_envelope *env,
                                   uint64_t stream,
                                   bool opened,
                                   size_t bytes);
SHL_MUST_CHECK int mesh_write_credit(struct shl_buf *buf,
                                     const struct mesh_envelope *env,
                                     uint64_t stream,
                                     bool opened,
                                     uint64_t bytes);
SHL_MUST_CHECK int mesh_write_end(struct shl_buf *buf,
                                  const struct mesh_envelope *env,
                                  uint64_t stream,
                                  bool opened);
SHL_MUST_CHECK int mesh_write_cut(struct shl_buf *buf,
                                  const struct mesh_envelope *env,
                                  uint64_t stream,
                                  bool opened,
                                  int code,
                                  const char *text);
SHL_MUST_CHECK int mesh_write_join(struct shl_buf *buf,
                                   const struct mesh_envelope *env,
                                   uint32_t version_min,
                                   uint32_t version_max,
                                   struct shl_bytes body);
SHL_MUST_CHECK int mesh_write_joined(struct shl_buf *buf,
                                     const struct mesh_envelope *env,
                                     int code,
                                     const char *text,
                                     struct shl_bytes body);

/* Letters first, then [a-z0-9.-], 1..MESH_KIND_MAX bytes: a name somebody may register. */
bool mesh_kind_is_valid(const char *kind);

#endif /* SHL_NODE_MESH_MESSAGE_H */
