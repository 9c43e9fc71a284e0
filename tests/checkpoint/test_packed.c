/* Packed chunks: from one store into another as they are, and what a hostile sender makes of them.
 */
#include <zstd.h>

#include "tests/checkpoint/helper.h"

#define COUNT 12u
#define BOMB  (1ull << 30)

/* Chunk @seed as @store has it, into a session of another store, in whichever form. */
static void carry(struct ckpt_store *store, struct ckpt_session *session, uint32_t seed)
{
    uint8_t *chunk = malloc(CKPT_CHUNK_BYTES), *stored = malloc(CKPT_CHUNK_BYTES);
    struct ckpt_stored form;
    struct ckpt_id id, got;

    assert_non_null(chunk);
    assert_non_null(stored);
    ckpt_id_of(&id, chunk, make_chunk(chunk, seed));
    assert_int_equal(ckpt_chunk_read_stored(store, &id, stored, chunk, &form, NULL), 0);
    assert_int_equal(form.raw_bytes, CKPT_CHUNK_BYTES);
    assert_int_equal(form.is_packed, form.bytes < form.raw_bytes);
    if (form.is_packed) {
        assert_int_equal(ckpt_session_put_packed(session, shl_bytes_of(stored, form.bytes), &id,
                                                 NULL),
                         CKPT_CHUNK_BYTES);
    } else {
        assert_int_equal(ckpt_session_put(session, stored, form.bytes, &got, NULL), 0);
        assert_true(ckpt_id_equal(&id, &got));
    }
    free(chunk);
    free(stored);
}

static void test_packed_chunks_go_from_store_to_store_as_they_are(void **state)
{
    const char *dir = enter_dir();
    char path[2][128];
    struct ckpt_store *from, *to;
    struct ckpt_session *session;
    struct ckpt_session_stats stats;
    struct ckpt_id id, published;
    struct ckpt_pin *pin = NULL;
    struct shl_buf manifest;
    uint32_t i;

    (void)state;
    snprintf(path[0], sizeof(path[0]), "%s/from", dir);
    snprintf(path[1], sizeof(path[1]), "%s/to", dir);
    from = open_store(path[0]);
    to = open_store(path[1]);
    id = add_checkpoint(from, 0, COUNT);
    assert_int_equal(ckpt_session_begin(to, &session, NULL), 0);
    for (i = 0; i < COUNT; i++) {
        carry(from, session, i);
        carry(from, session, i); /* twice is once */
    }
    ckpt_session_stats(session, &stats);
    assert_int_equal(stats.chunks, 2 * COUNT);
    assert_int_equal(stats.new_chunks, COUNT);
    assert_int_equal(stats.raw_bytes, 2ull * COUNT * CKPT_CHUNK_BYTES);
    shl_buf_init(&manifest, CKPT_MANIFEST_MAX);
    assert_int_equal(ckpt_manifest_read(from, &id, &manifest, &pin, NULL), 0);
    ckpt_pin_release(pin);
    assert_int_equal(ckpt_session_commit(session, shl_buf_bytes(&manifest), &published, NULL), 0);
    shl_buf_release(&manifest);
    assert_true(ckpt_id_equal(&id, &published));
    assert_true(is_readable(to, &id, 0, COUNT));
    assert_int_equal(stats_of(to).bytes, stats_of(from).bytes);
    /* The records are as good as own ones: the index can be made from them, and they scrub. */
    ckpt_store_close(to);
    to = open_store(path[1]);
    assert_true(is_readable(to, &id, 0, COUNT));
    ckpt_store_close(from);
    ckpt_store_close(to);
    leave_dir();
}

/*- Frames. */

struct frame {
    uint8_t bytes[2 * CKPT_CHUNK_BYTES];
    size_t len;
    struct ckpt_id id; /* of what is in it */
};

static void pack(struct frame *frame, const void *data, size_t len)
{
    frame->len = ZSTD_compress(frame->bytes, sizeof(frame->bytes), data, len, 3);
    assert_false(ZSTD_isError(frame->len));
    ckpt_id_of(&frame->id, data, len);
}

/* The good one that the bad ones are made of. */
static void pack_good(struct frame *frame)
{
    static uint8_t chunk[CKPT_CHUNK_BYTES];

    make_chunk(chunk, 1);
    pack(frame, chunk, sizeof(chunk));
    assert_true(frame->len < CKPT_CHUNK_BYTES / 2);
}

static void append(struct frame *frame, const void *bytes, size_t len)
{
    assert_true(frame->len + len <= sizeof(frame->bytes));
    memcpy(frame->bytes + frame->len, bytes, len);
    frame->len += len;
}

/* A gigabyte of one byte, with its size in the head or without. */
static void pack_bomb(struct frame *frame, bool says_size)
{
    ZSTD_CCtx *context = ZSTD_createCCtx();
    static const uint8_t block[1u << 20] = {0};
    ZSTD_outBuffer out = {frame->bytes, sizeof(frame->bytes), 0};
    uint64_t left = BOMB;

    assert_non_null(context);
    assert_false(ZSTD_isError(ZSTD_CCtx_setParameter(context, ZSTD_c_contentSizeFlag, says_size)));
    if (says_size) {
        assert_false(ZSTD_isError(ZSTD_CCtx_setPledgedSrcSize(context, BOMB)));
    }
    while (left > 0) {
        ZSTD_inBuffer in = {block, sizeof(block), 0};

        left -= sizeof(block);
        while (in.pos < in.size || left == 0) {
            size_t rest =
                ZSTD_compressStream2(context, &out, &in, left == 0 ? ZSTD_e_end : ZSTD_e_continue);

            assert_false(ZSTD_isError(rest));
            if (left == 0 && rest == 0) {
                break;
            }
        }
    }
    frame->len = out.pos;
    assert_true(frame->len < CKPT_CHUNK_BYTES);
    assert_int_equal(ZSTD_freeCCtx(context), 0);
}

static void refuse(struct ckpt_session *session,
                   const struct frame *frame,
                   const struct ckpt_id *id,
                   const char *what)
{
    /* Exactly as long, so that reading on is noticed. */
    uint8_t *bytes = malloc(frame->len + 1);
    struct shl_err err = {0};
    int rc;

    assert_non_null(bytes);
    memcpy(bytes, frame->bytes, frame->len);
    bytes = realloc(bytes, frame->len ? frame->len : 1);
    assert_non_null(bytes);
    rc = ckpt_session_put_packed(session, shl_bytes_of(bytes, frame->len), id, &err);
    free(bytes);
    if (rc != SHL_EPROTO || !err.msg[0]) {
        fail_msg("%s: %d %s", what, rc, err.msg);
    }
}

static void refuse_sizes(struct ckpt_session *session, struct frame *frame)
{
    static uint8_t large[CKPT_CHUNK_BYTES + 1];
    static const uint8_t zeros[CKPT_CHUNK_BYTES] = {0};
    uint64_t random = 5;
    size_t i;

    memset(large, 'x', sizeof(large));
    pack(frame, large, sizeof(large));
    refuse(session, frame, &frame->id, "a byte more than a chunk");
    pack_bomb(frame, true);
    refuse(session, frame, &frame->id, "a bomb that says so");
    pack_bomb(frame, false);
    refuse(session, frame, &frame->id, "a bomb that does not");
    pack(frame, "", 0);
    refuse(session, frame, &frame->id, "nothing at all");
    pack(frame, "0123456789", 10);
    refuse(session, frame, &frame->id, "one that grew by packing");
    for (i = 0; i + sizeof(uint32_t) <= CKPT_CHUNK_BYTES; i += sizeof(uint32_t)) {
        uint32_t word = next_random(&random);

        memcpy(large + i, &word, sizeof(word));
    }
    pack(frame, large, CKPT_CHUNK_BYTES);
    refuse(session, frame, &frame->id, "a longer one than a chunk");
    pack(frame, zeros, sizeof(zeros));
    refuse(session, frame, &frame->id, "zeros, which are never stored");
    pack_good(frame);
    frame->bytes[5] = (uint8_t)(frame->bytes[5] + 1);
    refuse(session, frame, &frame->id, "one that says a byte too much");
    pack_good(frame);
    frame->bytes[6] = (uint8_t)(frame->bytes[6] - 1);
    refuse(session, frame, &frame->id, "one that says 256 bytes too few");
}

static void refuse_shapes(struct ckpt_session *session, struct frame *frame)
{
    static const uint8_t skippable[] = {0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4};
    static struct frame other;
    size_t len;

    pack_good(frame);
    append(frame, "x", 1);
    refuse(session, frame, &frame->id, "a byte behind the frame");
    pack_good(frame);
    append(frame, skippable, sizeof(skippable));
    refuse(session, frame, &frame->id, "something to be skipped behind it");
    pack_good(&other);
    frame->len = 0;
    append(frame, skippable, sizeof(skippable));
    append(frame, other.bytes, other.len);
    refuse(session, frame, &other.id, "something to be skipped before it");
    pack(frame, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 64);
    other = *frame;
    append(frame, other.bytes, other.len);
    refuse(session, frame, &frame->id, "two frames");
    pack_good(&other);
    for (len = 0; len < other.len; len += len < 32 ? 1 : 997) {
        *frame = other;
        frame->len = len;
        refuse(session, frame, &frame->id, "a part of it");
    }
    pack_good(frame);
    frame->bytes[0] = 0x27; /* what 0.7 wrote */
    refuse(session, frame, &frame->id, "an old format");
    pack_good(frame);
    frame->bytes[frame->len / 2] ^= 0x10;
    refuse(session, frame, &frame->id, "one with a wrong bit");
    pack_good(frame);
    frame->id.bytes[0] ^= 1;
    refuse(session, frame, &frame->id, "another chunk");
}

/* None of it comes into the store, and the session goes on. */
static void test_packed_refuses_what_a_hostile_peer_sends(void **state)
{
    struct ckpt_store *store = open_store(enter_dir());
    static struct frame frame;
    struct ckpt_session *session;
    struct ckpt_session_stats stats;

    (void)state;
    assert_int_equal(ckpt_session_begin(store, &session, NULL), 0);
    refuse_sizes(session, &frame);
    refuse_shapes(session, &frame);
    ckpt_session_stats(session, &stats);
    assert_int_equal(stats.chunks, 0);
    pack_good(&frame);
    assert_int_equal(ckpt_session_put_packed(session, shl_bytes_of(frame.bytes, frame.len),
                                             &frame.id, NULL),
                     CKPT_CHUNK_BYTES);
    ckpt_session_stats(session, &stats);
    assert_int_equal(stats.new_chunks, 1);
    ckpt_session_abort(session);
    ckpt_store_close(store);
    leave_dir();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_packed_chunks_go_from_store_to_store_as_they_are),
        cmocka_unit_test(test_packed_refuses_what_a_hostile_peer_sends),
    };

    return cmocka_run_group_tests_name("checkpoint/packed", tests, NULL, NULL);
}
