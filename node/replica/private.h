/* Inside of node/replica: shared by transfer.c (object and plan), fetch.c (one checkpoint;
 * ask.c, outcome.c), work.c and put.c (its work on the thread pool), request.c (chunks) and
 * question.c (one stream). */
#ifndef SHL_NODE_REPLICA_PRIVATE_H
#define SHL_NODE_REPLICA_PRIVATE_H

#include <stdbool.h>
#include <stdint.h>

#include <uv.h>

#include "base/buf.h"
#include "base/list.h"
#include "node/replica/transfer.h"
#include "node/replica/wire.h"

#define REPLICA_BATCH_MAX       16u  /* chunks put in one go on the thread pool */
#define REPLICA_PUTS_MAX        4u   /* ... at once, of all fetches; one per processor */
#define REPLICA_BUSY_MS         250u /* before holders that had no room are asked again */
#define REPLICA_BUSY_ROUNDS_MAX 240u

/*- One stream that asks (question.c). Frees itself when its stream is closed. */

struct replica_question_user {
    /* A part of the answer; negative: it is of no use, the stream is cut. */
    int (*part)(void *arg, const struct node_replica_part *part);
    /* Once, last: 0: the answer is complete; else why there is none. */
    void (*over)(void *arg, int code, const char *msg);
};

struct replica_question {
    struct node_replica *replica;
    struct shl_list link; /* in replica->questions */
    struct node_stream *stream;
    struct node_replica_reader reader;
    const struct replica_question_user *user; /* NULL: nobody listens any more */
    void *arg;
    bool may_pause, is_paused;
};

/* @may_pause: it waits while too many chunks are in memory. 0 or a negative code. */
SHL_MUST_CHECK int replica_ask(struct node_replica *replica,
                               const struct shl_node_id *peer,
                               const struct node_replica_ask *ask,
                               bool may_pause,
                               const struct replica_question_user *user,
                               void *arg,
                               struct replica_question **ret,
                               struct shl_err *err);
void replica_question_drop(struct replica_question *question); /* NULL is fine */
void replica_questions_resume(struct node_replica *replica);   /* there is room again */

/*- One request of the plan for chunks (request.c). */

struct replica_chunk {
    struct shl_list link; /* in the fetch's arrived, or the batch of a put */
    struct replica_request *request;
    uint32_t index, length, got;     /* bytes that came */
    struct ckpt_arrival arrival;     /* its bytes are those below */
    enum ckpt_fetch_outcome outcome; /* of the work */
    uint8_t bytes[];
};

struct replica_request {
    struct shl_list link; /* in replica->requests */
    struct node_replica_fetch *fetch;
    uint64_t id; /* of the plan */
    struct shl_node_id peer;
    struct node_replica_ask ask;
    struct replica_question *question; /* NULL: over */
    struct replica_chunk *chunk;       /* of which bytes are coming */
    uint32_t waiting;                  /* chunks of it that wait for the disk */
    int code;                          /* how the question ended */
    bool is_cancelled;                 /* the plan does not know it any more */
};

void replica_request_begin(struct node_replica_fetch *fetch, const struct ckpt_fetch_action *act);
void replica_request_cancel(struct node_replica *replica, uint64_t id);
/* Tell the plan of its end and free it, if it is over and nothing waits for the disk. */
void replica_request_settle(struct replica_request *request);
/* Those of one fetch, with all chunks but those being worked on. */
void replica_requests_drop(struct node_replica_fetch *fetch);
void replica_chunk_free(struct replica_chunk *chunk);

/*- One checkpoint (fetch.c, ask.c, outcome.c). */

enum replica_state {
    REPLICA_WAITING,    /* for its turn */
    REPLICA_LOOKING,    /* work: is it here already? */
    REPLICA_ASKING,     /* a holder for the manifest */
    REPLICA_OPENING,    /* work: check the manifest, hold the chunks that are here */
    REPLICA_FETCHING,   /* the plan has it; chunks are put (put.c) */
    REPLICA_COMMITTING, /* work */
    REPLICA_ENDING,     /* work: let go of the session; then the callback */
};

struct node_replica_fetch {
    struct node_replica *replica;
    struct shl_list link; /* in replica->fetches, by age */
    struct ckpt_id manifest;
    enum ckpt_fetch_class class;
    struct shl_node_id holders[CKPT_FETCH_HOLDERS_MAX];
    uint32_t holder_count;
    enum replica_state state;
    bool is_planned;        /* the plan has a job for it */
    node_replica_done done; /* NULL: cancelled */
    void *arg;
    struct node_replica_result result;
    struct shl_err err; /* text of result */

    /* ASKING */
    struct replica_question *question;
    uint32_t asked;  /* holders, so far */
    uint32_t failed; /* of them: did not answer, or wrongly */
    uint32_t out;    /* bit per holder that is not asked again */
    bool is_busy;    /* one of them had no room */
    uint32_t busy_rounds;
    uint64_t ask_until_ms;
    uint64_t counted_bytes; /* of bytes, in replica->manifest_bytes */
    struct shl_buf bytes;   /* the manifest */

    /* From OPENING on. */
    struct ckpt_session *session;
    uv_mutex_t put_lock;     /* of the session, among puts */
    struct shl_list arrived; /* chunks to be put */
    uint32_t puts;           /* under way */
    uint32_t rounds;

    /* work */
    uv_work_t work;
    bool is_working;
    enum replica_state working; /* what for */
    int work_rc;
    struct shl_err work_err;
    struct ckpt_id *ids; /* OPENING: of all chunks, */
    uint8_t *present;    /* and which of them are here */
    uint32_t id_count;
};

/* Chunks of one fetch on their way into the store (put.c): checked, by several threads at once,
 * then put into the session, by one at a time. */
struct replica_put {
    struct node_replica_fetch *fetch; /* NULL: idle */
    struct ckpt_checker *checker;     /* made when it is needed first */
    struct shl_list batch;
    uv_work_t work;
    int rc;
    struct shl_err err;
};

/* Begin puts for what arrived, of this fetch first, while there are idle ones. */
void replica_put_begin(struct node_replica_fetch *fetch);
/* ... once everything that can be read now was read. */
void replica_put_soon(struct node_replica *replica);
/* What follows on one. */
void replica_put_done(struct node_replica_fetch *fetch,
                      struct shl_list *batch,
                      int rc,
                      const struct shl_err *err);

/* The only place that changes the state; begins what it needs. */
void replica_enter(struct node_replica_fetch *fetch, enum replica_state state);
/* Begin the work that is due, unless some is under way. */
void replica_work(struct node_replica_fetch *fetch);
/* After the last work: frees it and calls back. */
void replica_finish(struct node_replica_fetch *fetch);
/* The one asked last has it not, or @failed. */
void replica_holder_out(struct node_replica_fetch *fetch, bool failed);
/* In ASKING: the next holder, or the end. */
void replica_ask_next(struct node_replica_fetch *fetch);
void replica_count_bytes(struct node_replica_fetch *fetch); /* the manifest's memory changed */
/* Work of @state ended; what follows. */
void replica_worked(struct node_replica_fetch *fetch, enum replica_state state);
/* End it with @code (0: it is here) and, after the work, the callback. */
void replica_end(struct node_replica_fetch *fetch, int code, const char *msg);
void replica_fetch_tick(struct node_replica_fetch *fetch, uint64_t now_ms);
void replica_on_done(struct node_replica_fetch *fetch, const struct ckpt_fetch_action *act);
void replica_on_failed(struct node_replica_fetch *fetch, const struct ckpt_fetch_action *act);
/* Let those begin that may. */
void replica_schedule(struct node_replica *replica);

/*- The object (transfer.c). */

struct node_replica {
    uv_loop_t *loop;
    struct node_replica_config config;
    struct ckpt_fetch *plan;
    struct ckpt_fetch_actions actions;
    bool is_stepping;
    struct shl_list fetches, requests, questions;
    struct replica_put puts[REPLICA_PUTS_MAX];
    uint32_t put_count; /* of them in use at most */
    uv_timer_t timer;
    uv_idle_t soon; /* runs when chunks have arrived */
    uint32_t handles;
    uint32_t reading;        /* fetches that have one of NODE_REPLICA_READING_MAX */
    uint64_t manifest_bytes; /* in memory */
    bool is_closing;
    void (*closed)(void *arg);
    void *closed_arg;
    struct node_replica_stats stats;
};

/* Tell the plan and carry out what it says. Not from inside of that. */
int replica_step(struct node_replica *replica, struct ckpt_fetch_event *event);
void replica_arm(struct node_replica *replica);
void replica_consider_closed(struct node_replica *replica);

#endif /* SHL_NODE_REPLICA_PRIVATE_H */
