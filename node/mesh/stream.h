/* A two-way byte stream between two nodes, with back-pressure in both directions.
 *
 * Whoever uses a stream sees this header only; node/mesh/ carries it in frames under
 * credit (a window in bytes per direction), tests carry it in memory. A stream has an
 * opening message (kind and head, msgpack of at most NODE_STREAM_HEAD_MAX bytes), then
 * bytes both ways, an end for each direction, and one outcome.
 *
 * Loop thread. No callback runs inside a function of this header. After closed nothing
 * may be called any more; before it, the user may go away at any time with abort (closed
 * still comes, with that code).
 */
#ifndef SHL_NODE_MESH_STREAM_H
#define SHL_NODE_MESH_STREAM_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/node_id.h"

#define NODE_STREAM_HEAD_MAX  (96u * 1024)       /* a request head with its headers */
#define NODE_STREAM_WINDOW    (2u * 1024 * 1024) /* bytes under way per direction */
#define NODE_STREAM_KIND_MAX  24
#define NODE_STREAM_PIECE_MAX (64u * 1024) /* of one data callback */

struct node_stream;

/* What a stream tells its user. */
struct node_stream_user {
    /* Bytes of the peer. Returns how many were taken; with fewer than offered nothing
     * more comes until node_stream_resume, and the peer is slowed down. */
    size_t (*data)(void *arg, struct shl_bytes data);
    /* The peer's direction is complete; all its bytes were taken before. */
    void (*end)(void *arg);
    /* There is room again after node_stream_write took less than it was offered. */
    void (*writable)(void *arg);
    /* Once, last. 0: both directions ended. Negative: cut by either side, by the loss of
     * the peer or of the link, with the peer's sentence or a general one. */
    void (*closed)(void *arg, int code, const char *msg);
};

/* Lets go of memory that was given to a stream. On any thread. */
typedef void (*node_stream_release)(void *data, void *arg);

/* Who carries it. */
struct node_stream_carrier {
    size_t (*write)(struct node_stream *s, struct shl_bytes data);
    /* May be NULL: then what is given is written. */
    size_t (*give)(struct node_stream *s,
                   struct shl_bytes data,
                   node_stream_release release,
                   void *arg);
    void (*finish)(struct node_stream *s);
    void (*abort)(struct node_stream *s, int code, const char *msg);
    void (*resume)(struct node_stream *s);
};

struct node_stream {
    const struct node_stream_carrier *carrier;
    const struct node_stream_user *user; /* set by node_stream_set_user */
    void *arg;
    struct shl_node_id peer; /* authenticated */
};

/* The accepting side sets its user inside the accept callback, the opening side with the
 * open call. May be changed later. */
static inline void node_stream_set_user(struct node_stream *s,
                                        const struct node_stream_user *user,
                                        void *arg)
{
    s->user = user;
    s->arg = arg;
}

/* Takes as much of @data as window and queue allow (copied) and returns how much that
 * was; after less than all, `writable` comes. Not after finish. */
static inline size_t node_stream_write(struct node_stream *s, struct shl_bytes data)
{
    return s->carrier->write(s, data);
}

/* The same for large @data that is not copied. Returns data.len: the stream has it, and calls
 * @release(data.base, @arg) once, at once or later, on any thread, also when the stream is cut.
 * Returns less: that much was copied, all memory is still the caller's, `writable` comes. */
static inline size_t node_stream_give(struct node_stream *s,
                                      struct shl_bytes data,
                                      node_stream_release release,
                                      void *arg)
{
    size_t taken;

    if (s->carrier->give) {
        return s->carrier->give(s, data, release, arg);
    }
    taken = s->carrier->write(s, data);
    if (taken == data.len) {
        release((void *)(uintptr_t)data.base, arg);
    }
    return taken;
}

/* No more bytes from this side. Once. */
static inline void node_stream_finish(struct node_stream *s)
{
    s->carrier->finish(s);
}

/* Cut both directions; @code is negative and travels to the peer with @msg (may be NULL,
 * cut at SHL_ERR_TEXT_MAX). */
static inline void node_stream_abort(struct node_stream *s, int code, const char *msg)
{
    s->carrier->abort(s, code, msg);
}

/* Offer again what `data` did not take. */
static inline void node_stream_resume(struct node_stream *s)
{
    s->carrier->resume(s);
}

/* Something that can open streams: the mesh, or a fake. @head is copied. Returns 0 and the
 * stream, or SHL_ELIMIT (head, number of streams), SHL_EUNAVAILABLE (no link to that node).
 * A peer that has no handler for @kind closes with SHL_ENOTFOUND. */
struct node_stream_opener {
    int (*open)(struct node_stream_opener *opener,
                const struct shl_node_id *peer,
                const char *kind,
                struct shl_bytes head,
                const struct node_stream_user *user,
                void *arg,
                struct node_stream **ret,
                struct shl_err *err);
};

/* The accepting side of one kind: sets the user of @s (node_stream_set_user) and returns 0,
 * or returns a negative code, which closes it with that code and @err. @head is borrowed. */
typedef int (*node_stream_accept)(void *arg,
                                  struct node_stream *s,
                                  struct shl_bytes head,
                                  struct shl_err *err);

#endif /* SHL_NODE_MESH_STREAM_H */
