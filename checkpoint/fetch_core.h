/* The inside of a fetch core: shared by the fetch files, nobody else's business. */
#ifndef SHL_CHECKPOINT_FETCH_CORE_H
#define SHL_CHECKPOINT_FETCH_CORE_H

#include "base/list.h"
#include "checkpoint/fetch.h"

#define FETCH_SAMPLES     32u /* measured times of a peer; the largest stands for p99 */
#define FETCH_LATE_FACTOR 4u  /* the deadline is so many times that */
#define FETCH_BACKOFF_MAX 6u
#define FETCH_NO_SLOT     UINT32_MAX

struct fetch_job;

enum fetch_chunk_state {
    FETCH_WAITING, /* in a list of its job */
    FETCH_ASKED,   /* in a request, perhaps one of another job */
    FETCH_DONE,
};

struct fetch_chunk {
    struct ckpt_id id;
    struct fetch_chunk *hash_next;
    struct shl_list link; /* WAITING: in the job's list of chunks that as many holders have */
    struct fetch_job *job;
    uint32_t index; /* in ADD */
    uint16_t lacks; /* bit per holder: does not have it */
    uint16_t bad;   /* bit per holder: sent wrong bytes */
    uint8_t state;
    uint8_t asked; /* requests in flight; equal for all chunks with this id */
};

struct fetch_peer {
    struct shl_node_id id;
    bool used;
    uint32_t holdings; /* holders that are this peer */
    uint32_t requests;
    uint64_t bytes;  /* reserved by them */
    uint32_t window; /* how many requests it may have; grows with success */
    uint32_t samples[FETCH_SAMPLES];
    uint32_t sample_count;
    uint32_t backoff; /* doublings of the deadline */
    uint64_t failed_at_ms;
    uint64_t demoted_until_ms;
    uint64_t retry_at_ms; /* while demoted */
    uint32_t retry_ms;
    uint32_t bad;
    uint64_t distrusted_until_ms;
    uint64_t asked_seq; /* of the last request */
};

struct fetch_holder {
    struct fetch_peer *peer; /* NULL: the slot is free */
    uint32_t waiting;        /* chunks of the job that wait and that it has */
};

struct fetch_job {
    bool used;
    struct ckpt_id manifest;
    enum ckpt_fetch_class class;
    uint64_t seq;
    uint64_t deadline_at_ms;
    struct fetch_chunk *chunks; /* heap; in random order by groups */
    uint32_t count;
    uint32_t missing;
    uint32_t waiting;
    uint32_t got;    /* arrived for it */
    uint32_t cursor; /* of the random choice */
    struct fetch_holder holders[CKPT_FETCH_HOLDERS_MAX];
    uint16_t present;                                  /* bit per holder slot in use */
    struct shl_list lists[CKPT_FETCH_HOLDERS_MAX + 1]; /* waiting chunks by rarity */
    uint64_t bytes;
    uint32_t strikes;
    uint64_t struck_at_ms;
    uint64_t dry_since_ms; /* NEVER: somebody can be asked, or was */
};

struct fetch_request {
    uint64_t id; /* 0: free */
    struct fetch_job *job;
    struct fetch_peer *peer;
    enum ckpt_fetch_class class; /* that paid for it */
    uint32_t count;
    uint32_t pending; /* bit per chunk */
    struct fetch_chunk *chunks[CKPT_FETCH_REQUEST_CHUNKS_MAX];
    struct ckpt_id ids[CKPT_FETCH_REQUEST_CHUNKS_MAX];
    uint64_t sent_at_ms;
    uint64_t span_ms; /* to the deadline */
    uint64_t deadline_at_ms;
    uint64_t late_at_ms;
    uint64_t reserved;
    uint64_t charged;
    uint64_t arrived;
    bool useful; /* a chunk that was needed came */
};

struct fetch_bucket {
    int64_t tokens; /* bytes * 1000; below zero: debt */
    uint64_t pass;  /* of the weighted choice */
};

struct ckpt_fetch {
    struct ckpt_fetch_config config;
    uint64_t now_ms;
    bool started;
    uint64_t random;
    uint64_t next_request;
    uint64_t next_seq;
    struct fetch_job jobs[CKPT_FETCH_JOBS_MAX];
    struct fetch_job *order[CKPT_FETCH_JOBS_MAX]; /* by class, then age */
    uint32_t job_count;
    struct fetch_peer peers[CKPT_FETCH_PEERS_MAX];
    struct fetch_request requests[CKPT_FETCH_REQUESTS_MAX];
    uint32_t request_count;
    uint64_t in_flight_bytes;
    struct fetch_chunk **buckets; /* by id */
    size_t bucket_count;          /* power of two */
    uint32_t chunk_count;         /* of all jobs */
    struct fetch_bucket classes[CKPT_FETCH_CLASS_COUNT];
    uint64_t pass; /* of the class that was served last */
    struct ckpt_fetch_stats stats;
    struct ckpt_fetch_actions *actions; /* of the running step */
};

/* fetch.c */
struct ckpt_fetch_action *fetch_act(struct ckpt_fetch *f,
                                    enum ckpt_fetch_action_type type,
                                    const struct ckpt_id *manifest);
uint64_t fetch_random(struct ckpt_fetch *f);

/* fetch_chunk.c: chunks, their lists, chunks with the same id in several jobs. */
SHL_MUST_CHECK int fetch_chunks_reserve(struct ckpt_fetch *f, uint32_t more);
struct fetch_chunk *fetch_chunk_find(const struct ckpt_fetch *f,
                                     const struct fetch_job *job, /* NULL: of any */
                                     const struct ckpt_id *id);
void fetch_chunk_add(struct ckpt_fetch *f, struct fetch_chunk *chunk); /* as its twins are */
void fetch_chunk_remove(struct ckpt_fetch *f, struct fetch_chunk *chunk);
bool fetch_chunk_has(const struct fetch_chunk *chunk, uint32_t slot); /* does the holder */
void fetch_chunk_list(struct fetch_chunk *chunk, bool first);
void fetch_chunk_unlist(struct fetch_chunk *chunk);
/* For all chunks with this id: */
void fetch_id_ask(struct ckpt_fetch *f, const struct ckpt_id *id);
void fetch_id_release(struct ckpt_fetch *f, const struct ckpt_id *id);
void fetch_id_done(struct ckpt_fetch *f, const struct ckpt_id *id);
/* It came and is in the store no more: wanted again, by all. */
void fetch_id_lost(struct ckpt_fetch *f, const struct ckpt_id *id);
void fetch_id_refuse(struct ckpt_fetch *f,
                     const struct ckpt_id *id,
                     const struct fetch_peer *peer,
                     bool bad);

/* fetch_peer.c */
struct fetch_peer *fetch_peer_find(struct ckpt_fetch *f, const struct shl_node_id *id);
struct fetch_peer *fetch_peer_get(struct ckpt_fetch *f, const struct shl_node_id *id);
bool fetch_peer_is_demoted(const struct ckpt_fetch *f, const struct fetch_peer *peer);
uint64_t fetch_peer_span_ms(const struct ckpt_fetch *f, const struct fetch_peer *peer);
void fetch_peer_answered(struct ckpt_fetch *f, struct fetch_peer *peer, uint64_t took_ms);
void fetch_peer_failed(struct ckpt_fetch *f, struct fetch_peer *peer);

/* fetch_job.c */
struct fetch_job *fetch_job_find(struct ckpt_fetch *f, const struct ckpt_id *manifest);
SHL_MUST_CHECK int fetch_job_add(struct ckpt_fetch *f, const struct ckpt_fetch_event *event);
void fetch_job_end(struct ckpt_fetch *f, struct fetch_job *job); /* requests first */
void fetch_job_fail(struct ckpt_fetch *f, struct fetch_job *job, enum ckpt_fetch_reason reason);
uint32_t fetch_job_slot(const struct fetch_job *job, const struct fetch_peer *peer);
void fetch_holder_add(struct ckpt_fetch *f,
                      struct fetch_job *job,
                      const struct shl_node_id *node,
                      const uint8_t *has);
void fetch_holder_lost(struct ckpt_fetch *f, struct fetch_job *job, struct fetch_peer *peer);

/* fetch_request.c */
void fetch_request_send(struct ckpt_fetch *f,
                        struct fetch_job *job,
                        struct fetch_peer *peer,
                        struct fetch_chunk *const *chunks,
                        uint32_t count);
struct fetch_request *fetch_request_find(struct ckpt_fetch *f, uint64_t id);
/* End it; chunks that are still pending wait again. */
void fetch_request_end(struct ckpt_fetch *f, struct fetch_request *request, bool tell);
void fetch_request_failed(struct ckpt_fetch *f, struct fetch_request *request, bool timed_out);
void fetch_answer(struct ckpt_fetch *f, const struct ckpt_fetch_event *event);
/* Chunk @id is here: nothing waits for it any more. */
void fetch_settle(struct ckpt_fetch *f, const struct ckpt_id *id, struct fetch_request *except);

/* fetch_pick.c */
void fetch_refill(struct ckpt_fetch *f, uint64_t elapsed_ms);
void fetch_fill(struct ckpt_fetch *f); /* start what can be started */
uint64_t fetch_throttle_until_ms(const struct ckpt_fetch *f, enum ckpt_fetch_class class);
bool fetch_job_is_askable(const struct fetch_job *job);
bool fetch_job_is_last(const struct ckpt_fetch *f, const struct fetch_job *job);

#endif /* SHL_CHECKPOINT_FETCH_CORE_H */
