/* The checkpoint store of one node: chunks, manifests, collection, scrubbing.
 *
 * Chunk: up to 64 KiB of a guest's disk or memory (or of its state file), named by the
 * SHA-256 of its bytes, zstd-compressed in an append-only segment file when that is
 * smaller. A chunk of zeros is never stored: its id is all zero. Manifest: what a
 * checkpoint consists of (checkpoint/manifest.h), named by the SHA-256 of its encoding.
 *
 *   DIR/LOCK            one daemon at a time
 *   DIR/segments/N      append-only records (checkpoint/segment.h); sealed at
 *                       CKPT_SEGMENT_BYTES
 *   DIR/index/          LevelDB: chunk id -> segment, offset, length; manifests; deletion
 *                       marks. Rebuilt from the segments when it is lost or damaged.
 *
 * Durability: ckpt_session_commit returns 0 only after chunks, then index, then the manifest are
 * on disk, in this order; before that nothing of the session can be seen. A crash at any
 * point leaves either the whole manifest or nothing but garbage that the next collection
 * removes.
 *
 * Races of collection (reference/mesh.md 6): looking a chunk up and pinning it is one
 * step under one lock; a session holds pins for everything it put or found, from before the first
 * byte is written until commit or abort; a collection marks from published manifests
 * and pins, and a chunk younger than the mark is never swept. A deleted manifest is
 * first marked, then removed.
 *
 * Threads: every function may be called from any thread (the daemon calls them on its
 * thread pool), a session and a reader by one at a time. Errors: base/err.h, with a sentence.
 * -ENOSPC while writing ends that session alone; the store stays usable.
 */
#ifndef SHL_CHECKPOINT_STORE_H
#define SHL_CHECKPOINT_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/log.h"

#define CKPT_CHUNK_BYTES   65536u
#define CKPT_ID_BYTES      32u
#define CKPT_SEGMENT_BYTES (256ull << 20)
#define CKPT_MANIFEST_MAX  (64u << 20)
#define CKPT_MANIFESTS_MAX 100000u

struct ckpt_id {
    uint8_t bytes[CKPT_ID_BYTES];
};

struct ckpt_store;
struct ckpt_session;

struct ckpt_store_config {
    const char *dir;
    const struct shl_log *log; /* copied; may be NULL */
    uint64_t segment_bytes;    /* 0: CKPT_SEGMENT_BYTES */
    int zstd_level;            /* 0: 1 */
    /* Called between steps of writing, with the step's name; a test kills itself there.
     * Locks may be held: it must not call the store (but at "marking" it may, for all but
     * collecting). */
    void (*step_hook)(void *ctx, const char *step);
    void *step_ctx;
};

SHL_MUST_CHECK int ckpt_store_open(const struct ckpt_store_config *config,
                                   struct ckpt_store **ret_store,
                                   struct shl_err *err);
void ckpt_store_close(struct ckpt_store *store); /* no session may be open */

bool ckpt_id_is_zero(const struct ckpt_id *id); /* the chunk of zeros */
void ckpt_id_of(struct ckpt_id *ret, const void *data, size_t len);
bool ckpt_id_equal(const struct ckpt_id *a, const struct ckpt_id *b);

/* ---- writing --------------------------------------------------------------------- */

SHL_MUST_CHECK int ckpt_session_begin(struct ckpt_store *store,
                                      struct ckpt_session **ret_session,
                                      struct shl_err *err);

/* Store @len (1..CKPT_CHUNK_BYTES) bytes, or find and pin what is there. */
SHL_MUST_CHECK int ckpt_session_put(struct ckpt_session *session,
                                    const void *data,
                                    size_t len,
                                    struct ckpt_id *ret_id,
                                    struct shl_err *err);

/* A chunk of somebody else, said to be @id: plain, or as another store has it packed
 * (ckpt_chunk_read_stored). First it is checked, which takes most of the time and no session, so
 * that several threads can do it; then it is put. */
struct ckpt_arrival {
    struct ckpt_id id;
    uint8_t *bytes;        /* the caller's, until it was put */
    uint32_t stored_bytes; /* in it, 1..CKPT_CHUNK_BYTES */
    bool is_packed;
    /* After the check. */
    bool is_sound;
    uint32_t raw_bytes; /* of the chunk */
    uint64_t sum;
};
struct ckpt_checker; /* what a check needs; one thread at a time */
struct ckpt_checker *ckpt_checker_new(const struct ckpt_store *store); /* NULL: no memory */
void ckpt_checker_free(struct ckpt_checker *checker);                  /* NULL is fine */
/* Unpacks and hashes. 0: it is the chunk, and packed now when that makes it smaller. SHL_EPROTO:
 * it is not. Looks at nothing but @arrival. */
SHL_MUST_CHECK int ckpt_chunk_check(struct ckpt_checker *checker,
                                    struct ckpt_arrival *arrival,
                                    struct shl_err *err);
/* Store it, or find and pin what is there. Asserts that it was found sound. */
SHL_MUST_CHECK int ckpt_session_put_checked(struct ckpt_session *session,
                                            const struct ckpt_arrival *arrival,
                                            struct shl_err *err);

/* Hold a chunk that is there already, without its bytes. SHL_ENOTFOUND: put it. */
SHL_MUST_CHECK int ckpt_session_pin(struct ckpt_session *session,
                                    const struct ckpt_id *id,
                                    struct shl_err *err);

struct ckpt_session_stats {
    uint64_t chunks, new_chunks;   /* put; not there before */
    uint64_t raw_bytes, new_bytes; /* put; written to segments */
};
void ckpt_session_stats(const struct ckpt_session *session, struct ckpt_session_stats *ret);

/* Make everything durable and publish the encoded @manifest, all of whose chunks must be
 * in the store (SHL_ENOTFOUND otherwise). Ends the session when it returns 0; after an
 * error abort is still due. SHL_ECORRUPT: a chunk it found there has turned out damaged
 * since; a new session that puts everything again heals it. A crash during the call may
 * leave a manifest whose id nobody was told: the owner of the store lists them at its start, and
 * what nobody has a record of is deleted, unless it is a copy that is kept for other nodes. */
SHL_MUST_CHECK int ckpt_session_commit(struct ckpt_session *session,
                                       struct shl_bytes manifest,
                                       struct ckpt_id *ret_id,
                                       struct shl_err *err);
void ckpt_session_abort(struct ckpt_session *session);

/* ---- reading --------------------------------------------------------------------- */

/* Chunk @id into @dst of @size bytes; verified against the id. Returns its length.
 * SHL_ENOTFOUND, SHL_ECORRUPT (then it is marked as damaged). */
SHL_MUST_CHECK int ckpt_chunk_read(struct ckpt_store *store,
                                   const struct ckpt_id *id,
                                   void *dst,
                                   size_t size,
                                   struct shl_err *err);
/* The same in the form in which it is stored, into @dst of CKPT_CHUNK_BYTES: a zstd frame that is
 * smaller than the chunk, or its bytes. Verified against the checksum of its record, which finds
 * what a disk does to it; whoever gets the bytes has to compare them with the id. */
struct ckpt_stored {
    uint32_t bytes;     /* in @dst */
    uint32_t raw_bytes; /* of the chunk */
    bool is_packed;
};
SHL_MUST_CHECK int ckpt_chunk_read_stored(struct ckpt_store *store,
                                          const struct ckpt_id *id,
                                          uint8_t *dst,
                                          struct ckpt_stored *ret,
                                          struct shl_err *err);
/* Encoded manifest, verified. While @ret_pin is held (ckpt_pin_release) neither it nor
 * its chunks are collected. */
struct ckpt_pin;
SHL_MUST_CHECK int ckpt_manifest_read(struct ckpt_store *store,
                                      const struct ckpt_id *id,
                                      struct shl_buf *buf,
                                      struct ckpt_pin **ret_pin,
                                      struct shl_err *err);
void ckpt_pin_release(struct ckpt_pin *pin);

/* ---- removing, checking ---------------------------------------------------------- */

/* 0, or SHL_ENOTFOUND. Durable. Space comes back with the next collection. */
SHL_MUST_CHECK int ckpt_manifest_delete(struct ckpt_store *store,
                                        const struct ckpt_id *id,
                                        struct shl_err *err);
/* Calls @each for every manifest; false stops. */
SHL_MUST_CHECK int ckpt_manifest_each(struct ckpt_store *store,
                                      bool (*each)(void *arg, const struct ckpt_id *id),
                                      void *arg,
                                      struct shl_err *err);

struct ckpt_collect_stats {
    uint64_t live_chunks, swept_chunks, freed_bytes, kept_by_pins;
};
/* Mark and sweep; segments with little left are rewritten. Blocking; safe beside everything else.
 */
SHL_MUST_CHECK int ckpt_store_collect(struct ckpt_store *store,
                                      struct ckpt_collect_stats *ret,
                                      struct shl_err *err);

struct ckpt_scrub_stats {
    uint64_t chunks, bytes, damaged;
};
/* Read and verify up to @max_bytes, going on where the last call stopped. A damaged chunk
 * is marked so that a later put of the same bytes stores it anew. */
SHL_MUST_CHECK int ckpt_store_scrub(struct ckpt_store *store,
                                    uint64_t max_bytes,
                                    struct ckpt_scrub_stats *ret,
                                    struct shl_err *err);

struct ckpt_store_stats {
    uint64_t manifests, chunks, segments, bytes, damaged, sessions, pins;
};
void ckpt_store_stats(struct ckpt_store *store, struct ckpt_store_stats *ret);

#endif /* SHL_CHECKPOINT_STORE_H */
