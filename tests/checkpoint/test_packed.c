/* Packed chunks: from one store into another as they are, and what a hostile sender makes of them.
 */
#include <zstd.h>

#include "tests/checkpoint/helper.h"

#define COUNT 12u
#define BOMB  (1ull << 30)

/* As a fetch does it. */
static int check(struct ckpt_store *store, struct ckpt_arrival *arrival, struct shl_err *err)
{
    struct ckpt_checker *checker = ckpt_checker_new(store);
    int rc;

    assert_non_null(checker);
    rc = ckpt_chunk_check(checker, arrival, err);
    assert_int_equal(arrival->is_sound, rc == 0);
    ckpt_checker_free(checker);
    return rc;
}

/* Chunk @seed as @store has it, into a session of another store, in whichever form. */
static void carry(struct ckpt_store *store, struct ckpt_session *session, uint32_t seed)
{
    uint8_t *chunk = malloc(CKPT_CHUNK_BYTES), *stored = malloc(CKPT_CHUNK_BYTES);
    struct ckpt_arrival arrival = {.bytes = stored};
    struct ckpt_stored form;

    assert_non_null(chunk);
    assert_non_null(stored);
    ckpt_id_of(&arrival.id, chunk, make_chunk(chunk, seed));
    assert_int_equal(ckpt_chunk_read_stored(store, &arrival.id, stored, &form, NULL), 0);
    assert_int_equal(form.raw_bytes, CKPT_CHUNK_BYTES);
    assert_int_equal(form.is_packed, form.bytes < form.raw_bytes);
    arrival.stored_bytes = form.bytes;
    arrival.is_packed = form.is_packed;
    assert_int_equal(check(store, &arrival, NULL), 0);
    assert_int_equal(arrival.raw_bytes, CKPT_CHUNK_BYTES);
    assert_int_equal(arrival.stored_bytes, form.bytes);
    assert_int_equal(ckpt_session_put_checked(session, &arrival, NULL), 0);
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

static void refuse(struct ckpt_store *store,
                   const struct frame *frame,
                   const struct ckpt_id *id,
                   const char *what)
{
    /* Exactly as long, so that reading on is noticed. */
    uint8_t *bytes = malloc(frame->len + 1);
    struct ckpt_arrival arrival = {.id = *id, .is_packed = true};
    struct shl_err err = {0};
    int rc;

    assert_non_null(bytes);
    memcpy(bytes, frame->bytes, frame->len);
    bytes = realloc(bytes, frame->len ? frame->len : 1);
    assert_non_null(bytes);
    arrival.bytes = bytes;
    arrival.stored_bytes = (uint32_t)frame->len;
    rc = check(store, &arrival, &err);
    free(bytes);
    if (rc != SHL_EPROTO || !err.msg[0]) {
        fail_msg("%s: %d %s", what, rc, err.msg);
    }
}

static void refuse_sizes(struct ckpt_store *store, struct frame *frame)
{
    static uint8_t large[CKPT_CHUNK_BYTES + 1];
    static const uint8_t zeros[CKPT_CHUNK_BYTES] = {0};
    uint64_t random = 5;
    size_t i;

    memset(large, 'x', sizeof(large));
    pack(frame, large, sizeof(large));
    refuse(store, frame, &frame->id, "a byte more than a chunk");
    pack_bomb(frame, true);
    refuse(store, frame, &frame->id, "a bomb that says so");
    pack_bomb(frame, false);
    refuse(store, frame, &frame->id, "a bomb that does not");
    pack(frame, "", 0);
    refuse(store, frame, &frame->id, "nothing at all");
    pack(frame, "0123456789", 10);
    refuse(store, frame, &frame->id, "one that grew by packing");
    for (i = 0; i + sizeof(uint32_t) <= CKPT_CHUNK_BYTES; i += sizeof(uint32_t)) {
        uint32_t word = next_random(&random);

        memcpy(large + i, &word, sizeof(word));
    }
    pack(frame, large, CKPT_CHUNK_BYTES);
    refuse(store, frame, &frame->id, "a longer one than a chunk");
    pack(frame, zeros, sizeof(zeros));
    refuse(store, frame, &frame->id, "zeros, which are never stored");
    pack_good(frame);
    frame->bytes[5] = (uint8_t)(frame->bytes[5] + 1);
    refuse(store, frame, &frame->id, "one that says a byte too much");
    pack_good(frame);
    frame->bytes[6] = (uint8_t)(frame->bytes[6] - 1);
    refuse(store, frame, &frame->id, "one that says 256 bytes too few");
}

static void refuse_shapes(struct ckpt_store *store, struct frame *frame)
{
    static const uint8_t skippable[] = {0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4};
    static struct frame other;
    size_t len;

    pack_good(frame);
    append(frame, "x", 1);
    refuse(store, frame, &frame->id, "a byte behind the frame");
    pack_good(frame);
    append(frame, skippable, sizeof(skippable));
    refuse(store, frame, &frame->id, "something to be skipped behind it");
    pack_good(&other);
    frame->len = 0;
    append(frame, skippable, sizeof(skippable));
    append(frame, other.bytes, other.len);
    refuse(store, frame, &other.id, "something to be skipped before it");
    pack(frame, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 64);
    other = *frame;
    append(frame, other.bytes, other.len);
    refuse(store, frame, &frame->id, "two frames");
    pack_good(&other);
    for (len = 0; len < other.len; len += len < 32 ? 1 : 997) {
        *frame = other;
        frame->len = len;
        refuse(store, frame, &frame->id, "a part of it");
    }
    pack_good(frame);
    frame->bytes[0] = 0x27; /* what 0.7 wrote */
    refuse(store, frame, &frame->id, "an old format");
    pack_good(frame);
    frame->bytes[frame->len / 2] ^= 0x10;
    refuse(store, frame, &frame->id, "one with a wrong bit");
    pack_good(frame);
    frame->id.bytes[0] ^= 1;
    refuse(store, frame, &frame->id, "another chunk");
}

static void test_packed_refuses_what_a_hostile_peer_sends(void **state)
{
    struct ckpt_store *store = open_store(enter_dir());
    static struct frame frame;
    struct ckpt_arrival arrival = {.bytes = frame.bytes, .is_packed = true};
    struct ckpt_session *session;
    struct ckpt_session_stats stats;

    (void)state;
    refuse_sizes(store, &frame);
    refuse_shapes(store, &frame);
    pack_good(&frame);
    arrival.id = frame.id;
    arrival.stored_bytes = (uint32_t)frame.len;
    assert_int_equal(check(store, &arrival, NULL), 0);
    assert_int_equal(arrival.raw_bytes, CKPT_CHUNK_BYTES);
    assert_int_equal(ckpt_session_begin(store, &session, NULL), 0);
    assert_int_equal(ckpt_session_put_checked(session, &arrival, NULL), 0);
    ckpt_session_stats(session, &stats);
    assert_int_equal(stats.new_chunks, 1);
    ckpt_session_abort(session);
    ckpt_store_close(store);
    leave_dir();
}

/*- Plain ones. */

static struct ckpt_arrival plain(uint8_t *chunk, uint32_t seed)
{
    struct ckpt_arrival arrival = {.bytes = chunk};

    arrival.stored_bytes = (uint32_t)make_chunk(chunk, seed);
    ckpt_id_of(&arrival.id, chunk, arrival.stored_bytes);
    return arrival;
}

/* A node of the version before sends plain what could be packed: it takes no more room here. */
static void test_packed_is_what_comes_plain_and_can_be(void **state)
{
    struct ckpt_store *store = open_store(enter_dir());
    uint8_t *chunk = malloc(CKPT_CHUNK_BYTES), *before = malloc(CKPT_CHUNK_BYTES);
    struct ckpt_session *session;
    uint32_t seed;

    (void)state;
    assert_non_null(chunk);
    assert_non_null(before);
    assert_int_equal(ckpt_session_begin(store, &session, NULL), 0);
    for (seed = 0; seed < 3; seed++) {
        struct ckpt_arrival arrival = plain(chunk, seed);

        memcpy(before, chunk, CKPT_CHUNK_BYTES);
        assert_int_equal(check(store, &arrival, NULL), 0);
        assert_int_equal(arrival.raw_bytes, CKPT_CHUNK_BYTES);
        assert_int_equal(arrival.is_packed, seed > 0);
        assert_int_equal(arrival.stored_bytes < arrival.raw_bytes, arrival.is_packed);
        assert_int_equal(ckpt_session_put_checked(session, &arrival, NULL), 0);
        assert_int_equal(ckpt_chunk_read(store, &arrival.id, chunk, CKPT_CHUNK_BYTES, NULL),
                         CKPT_CHUNK_BYTES);
        assert_memory_equal(chunk, before, CKPT_CHUNK_BYTES);
    }
    ckpt_session_abort(session);
    free(chunk);
    free(before);
    ckpt_store_close(store);
    leave_dir();
}

static void test_packed_refuses_plain_chunks_that_are_others(void **state)
{
    struct ckpt_store *store = open_store(enter_dir());
    static uint8_t chunk[CKPT_CHUNK_BYTES];
    struct ckpt_arrival arrival = plain(chunk, 1);

    (void)state;
    chunk[100] ^= 1;
    assert_int_equal(check(store, &arrival, NULL), SHL_EPROTO);
    arrival = plain(chunk, 1);
    arrival.stored_bytes--;
    assert_int_equal(check(store, &arrival, NULL), SHL_EPROTO);
    arrival.stored_bytes = 0;
    assert_int_equal(check(store, &arrival, NULL), SHL_EPROTO);
    memset(chunk, 0, sizeof(chunk));
    arrival.stored_bytes = sizeof(chunk);
    ckpt_id_of(&arrival.id, chunk, sizeof(chunk));
    assert_int_equal(check(store, &arrival, NULL), SHL_EPROTO); /* zeros are never stored */
    ckpt_store_close(store);
    leave_dir();
}

/*- What a disk does to the stored form. */

static void flip(const char *dir, long at)
{
    char path[256];
    FILE *file;
    int byte;

    last_segment(dir, path, sizeof(path));
    file = fopen(path, "r+b");
    assert_non_null(file);
    assert_int_equal(fseek(file, at, SEEK_SET), 0);
    byte = fgetc(file);
    assert_int_equal(fseek(file, at, SEEK_SET), 0);
    assert_int_equal(fputc(byte ^ 0x10, file), byte ^ 0x10);
    assert_int_equal(fclose(file), 0);
}

/* Nothing is unpacked to notice it; where only the head of the record is damaged, that decides. */
static void test_packed_reading_notices_damage(void **state)
{
    const char *dir = enter_dir();
    struct ckpt_store *store = open_store(dir);
    static uint8_t chunk[CKPT_CHUNK_BYTES], stored[CKPT_CHUNK_BYTES];
    struct ckpt_stored form;
    struct shl_err err = {0};
    struct ckpt_id id;

    (void)state;
    (void)add_checkpoint(store, 1, 1); /* first in the segment, behind its head of 64 bytes */
    ckpt_id_of(&id, chunk, make_chunk(chunk, 1));
    assert_int_equal(ckpt_chunk_read_stored(store, &id, stored, &form, NULL), 0);
    flip(dir, 64 + 20); /* the id in the record's head */
    assert_int_equal(ckpt_chunk_read_stored(store, &id, stored, &form, NULL), 0);
    flip(dir, 128 + (long)form.bytes - 1);
    assert_int_equal(ckpt_chunk_read_stored(store, &id, stored, &form, &err), SHL_ECORRUPT);
    assert_non_null(strstr(err.msg, "damaged"));
    assert_int_equal(stats_of(store).damaged, 1);
    ckpt_store_close(store);
    leave_dir();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_packed_chunks_go_from_store_to_store_as_they_are),
        cmocka_unit_test(test_packed_refuses_what_a_hostile_peer_sends),
        cmocka_unit_test(test_packed_is_what_comes_plain_and_can_be),
        cmocka_unit_test(test_packed_refuses_plain_chunks_that_are_others),
        cmocka_unit_test(test_packed_reading_notices_damage),
    };

    return cmocka_run_group_tests_name("checkpoint/packed", tests, NULL, NULL);
}
