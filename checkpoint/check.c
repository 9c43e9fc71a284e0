/* Chunks that came from elsewhere: are they what they are said to be? */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/internal.h"

struct ckpt_checker {
    struct ckpt_codec_reader *reader;
    struct ckpt_codec_writer *writer;
    uint8_t room[CKPT_CHUNK_BYTES]; /* for the other form of a chunk */
};

struct ckpt_checker *ckpt_checker_new(const struct ckpt_store *store)
{
    struct ckpt_checker *checker = calloc(1, sizeof(*checker));

    if (!checker) {
        return NULL;
    }
    checker->reader = ckpt_codec_reader_new();
    checker->writer = ckpt_codec_writer_new(store->zstd_level);
    if (!checker->reader || !checker->writer) {
        ckpt_checker_free(checker);
        return NULL;
    }
    return checker;
}

void ckpt_checker_free(struct ckpt_checker *checker)
{
    if (checker) {
        ckpt_codec_reader_free(checker->reader);
        ckpt_codec_writer_free(checker->writer);
        free(checker);
    }
}

bool ckpt_is_zeros(const uint8_t *data, size_t len)
{
    return data[0] == 0 && memcmp(data, data + 1, len - 1) == 0;
}

static bool is_chunk(const struct ckpt_id *id, const uint8_t *raw, uint32_t len)
{
    struct ckpt_id got;

    ckpt_id_of(&got, raw, len);
    /* Zeros are never stored, so nobody may be told that they were. */
    return ckpt_id_equal(&got, id) && !ckpt_is_zeros(raw, len);
}

static int check_packed(struct ckpt_checker *checker,
                        struct ckpt_arrival *arrival,
                        struct shl_err *err)
{
    int len = ckpt_codec_unpack(checker->reader,
                                shl_bytes_of(arrival->bytes, arrival->stored_bytes), checker->room);

    if (len < 0) {
        return shl_err_set(err, len, "a packed chunk cannot be unpacked");
    }
    if (!is_chunk(&arrival->id, checker->room, (uint32_t)len)) {
        return shl_err_set(err, SHL_EPROTO, "a packed chunk is not the one it is said to be");
    }
    arrival->raw_bytes = (uint32_t)len;
    arrival->sum = ckpt_body_sum(arrival->bytes, arrival->stored_bytes);
    return 0;
}

/* Of a version that does not pack, or one that cannot be packed. */
static int check_plain(struct ckpt_checker *checker,
                       struct ckpt_arrival *arrival,
                       struct shl_err *err)
{
    struct ckpt_record record;

    if (arrival->stored_bytes == 0 || arrival->stored_bytes > CKPT_CHUNK_BYTES ||
        !is_chunk(&arrival->id, arrival->bytes, arrival->stored_bytes)) {
        return shl_err_set(err, SHL_EPROTO, "a chunk is not the one it is said to be");
    }
    arrival->raw_bytes = arrival->stored_bytes;
    ckpt_codec_encode(checker->writer, arrival->bytes, arrival->raw_bytes, checker->room, &record);
    arrival->sum = record.body_sum;
    arrival->is_packed = record.codec == CKPT_CODEC_ZSTD;
    if (arrival->is_packed) {
        memcpy(arrival->bytes, checker->room, record.stored_bytes);
        arrival->stored_bytes = record.stored_bytes;
    }
    return 0;
}

int ckpt_chunk_check(struct ckpt_checker *checker,
                     struct ckpt_arrival *arrival,
                     struct shl_err *err)
{
    int rc = arrival->is_packed ? check_packed(checker, arrival, err)
                                : check_plain(checker, arrival, err);

    arrival->is_sound = rc == 0;
    return rc;
}
