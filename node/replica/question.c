/* A stream that asks: opening, decoding, ending. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "node/replica/private.h"

/* Whoever listened is told once. */
static void tell_over(struct replica_question *q, int code, const char *msg)
{
    const struct replica_question_user *user = q->user;

    q->user = NULL;
    if (user) {
        user->over(q->arg, code, msg);
    }
}

static void give_up(struct replica_question *q, int code, const char *msg)
{
    node_stream_abort(q->stream, code, msg);
    tell_over(q, code, msg);
}

static size_t on_data(void *arg, struct shl_bytes data)
{
    struct replica_question *q = arg;
    struct node_replica *replica = q->replica;
    struct node_replica_part part;
    struct shl_bytes piece = data;
    int rc = 0;

    if (q->user && q->may_pause && replica->stats.held_bytes >= NODE_REPLICA_HELD_MAX) {
        q->is_paused = true;
        return 0;
    }
    replica->stats.wire_bytes += data.len;
    while (q->user && (rc = node_replica_read(&q->reader, &piece, &part)) == 1) {
        rc = q->user->part(q->arg, &part); /* may drop it */
        if (rc < 0) {
            break;
        }
    }
    if (q->user && rc < 0) {
        replica->stats.bad_answers += rc == SHL_EPROTO;
        give_up(q, rc, rc == SHL_EPROTO ? "the answer to a request for chunks is not valid" : NULL);
    }
    return data.len;
}

static void on_end(void *arg)
{
    struct replica_question *q = arg;

    if (q->user && !node_replica_may_end(&q->reader)) {
        q->replica->stats.bad_answers++;
        give_up(q, SHL_EPROTO, "the answer to a request for chunks ends in its middle");
        return;
    }
    tell_over(q, 0, NULL);
}

static void on_closed(void *arg, int code, const char *msg)
{
    struct replica_question *q = arg;
    struct node_replica *replica = q->replica;

    /* Without an end the answer is not complete, whatever the code. */
    tell_over(q, code < 0 ? code : SHL_EUNAVAILABLE, msg);
    shl_list_remove(&q->link);
    replica->stats.streams--;
    free(q);
    replica_consider_closed(replica);
}

static const struct node_stream_user stream_user = {.data = on_data,
                                                    .end = on_end,
                                                    .closed = on_closed};

int replica_ask(struct node_replica *replica,
                const struct shl_node_id *peer,
                const struct node_replica_ask *ask,
                bool may_pause,
                const struct replica_question_user *user,
                void *arg,
                struct replica_question **ret,
                struct shl_err *err)
{
    struct node_stream_opener *opener = replica->config.opener;
    struct replica_question *q = calloc(1, sizeof(*q));
    struct shl_buf head;
    int rc;

    if (!q) {
        return shl_err_sys(err, ENOMEM, "cannot ask for chunks");
    }
    q->replica = replica;
    q->user = user;
    q->arg = arg;
    q->may_pause = may_pause;
    node_replica_reader_init(&q->reader, ask);
    shl_buf_init(&head, NODE_REPLICA_HEAD_MAX);
    rc = node_replica_ask_write(&head, ask);
    rc = rc < 0 ? shl_err_set(err, rc, "cannot ask for chunks")
                : opener->open(opener, peer, NODE_REPLICA_KIND, shl_buf_bytes(&head), &stream_user,
                               q, &q->stream, err);
    shl_buf_release(&head);
    if (rc < 0) {
        free(q);
        return rc;
    }
    shl_list_push_back(&replica->questions, &q->link);
    replica->stats.streams++;
    node_stream_finish(q->stream);
    *ret = q;
    return 0;
}

void replica_question_drop(struct replica_question *q)
{
    if (q && q->user) {
        q->user = NULL;
        node_stream_abort(q->stream, -ECANCELED, "the answer is not needed any more");
    }
}

void replica_questions_resume(struct node_replica *replica)
{
    struct shl_list *it;

    SHL_LIST_FOREACH(it, &replica->questions) {
        struct replica_question *q = shl_container_of(it, struct replica_question, link);

        if (q->is_paused) {
            q->is_paused = false;
            node_stream_resume(q->stream);
        }
    }
}
