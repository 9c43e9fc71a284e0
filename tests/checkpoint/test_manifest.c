/* Manifests: what is encoded comes back; what is not valid is refused. */
#include "base/mp.h"
#include "tests/checkpoint/helper.h"

static void make(struct ckpt_manifest *manifest, bool memory)
{
    struct ckpt_part *parts[] = {&manifest->disk, &manifest->memory, &manifest->state};
    unsigned i, k;

    ckpt_manifest_init(manifest);
    manifest->has_memory = memory;
    for (i = 0; i < (memory ? 3u : 1u); i++) {
        parts[i]->bytes = 100 * CKPT_CHUNK_BYTES + (i < 2 ? 4096 : 5);
        parts[i]->count = 7;
        parts[i]->entries = calloc(7, sizeof(struct ckpt_entry));
        for (k = 0; k < 7; k++) {
            parts[i]->entries[k].index = k * 16 + i;
            memset(&parts[i]->entries[k].id, (int)(i * 10 + k + 1), CKPT_ID_BYTES);
        }
        if (i < 2) {
            snprintf(parts[i]->base, sizeof(parts[i]->base), "base-%u", i);
        }
    }
    assert_int_equal(shl_buf_append_str(&manifest->config, "how to start it"), 0);
    manifest->parent.bytes[3] = 9;
}

static void encode(const struct ckpt_manifest *manifest, struct shl_buf *buf)
{
    shl_buf_init(buf, CKPT_MANIFEST_MAX);
    assert_int_equal(ckpt_manifest_encode(manifest, buf), 0);
}

static int decode(const struct shl_buf *buf)
{
    struct ckpt_manifest manifest;
    int rc = ckpt_manifest_decode(&manifest, shl_buf_bytes(buf), NULL);

    if (rc == 0) {
        ckpt_manifest_release(&manifest);
    }
    return rc;
}

static void assert_part(const struct ckpt_part *a, const struct ckpt_part *b)
{
    assert_string_equal(a->base, b->base);
    assert_int_equal(a->bytes, b->bytes);
    assert_int_equal(a->count, b->count);
    if (a->count) {
        assert_memory_equal(a->entries, b->entries, a->count * sizeof(*a->entries));
    }
}

static void test_manifest_comes_back(void **state)
{
    unsigned memory;

    (void)state;
    for (memory = 0; memory < 2; memory++) {
        struct ckpt_manifest a, b;
        struct shl_buf buf, again;

        make(&a, memory);
        encode(&a, &buf);
        assert_int_equal(ckpt_manifest_decode(&b, shl_buf_bytes(&buf), NULL), 0);
        assert_int_equal(b.has_memory, memory);
        assert_part(&a.disk, &b.disk);
        assert_part(&a.memory, &b.memory);
        assert_part(&a.state, &b.state);
        assert_memory_equal(&a.parent, &b.parent, sizeof(a.parent));
        assert_int_equal(shl_buf_len(&b.config), 15);
        encode(&b, &again); /* the same bytes: the id is of the content */
        assert_int_equal(shl_buf_len(&buf), shl_buf_len(&again));
        assert_memory_equal(shl_buf_data(&buf), shl_buf_data(&again), shl_buf_len(&buf));
        ckpt_manifest_release(&a);
        ckpt_manifest_release(&b);
        shl_buf_release(&buf);
        shl_buf_release(&again);
    }
}

typedef void (*spoil_fn)(struct ckpt_manifest *manifest);

static void spoil_order(struct ckpt_manifest *m)
{
    m->disk.entries[3].index = m->disk.entries[2].index;
}
static void spoil_end(struct ckpt_manifest *m)
{
    m->disk.entries[6].index = 101;
}
static void spoil_disk_size(struct ckpt_manifest *m)
{
    m->disk.bytes++;
}
static void spoil_no_disk(struct ckpt_manifest *m)
{
    m->disk.bytes = 0;
    m->disk.count = 0;
}
static void spoil_huge(struct ckpt_manifest *m)
{
    m->disk.bytes = 1ull << 50;
}
static void spoil_memory_size(struct ckpt_manifest *m)
{
    m->memory.bytes += 512;
}
static void spoil_state_size(struct ckpt_manifest *m)
{
    m->state.bytes = CKPT_STATE_MAX + 1;
}
static void spoil_state_base(struct ckpt_manifest *m)
{
    m->state.base[0] = 'x';
}
static void spoil_zero_over_nothing(struct ckpt_manifest *m)
{
    m->memory.base[0] = '\0';
    memset(&m->memory.entries[1].id, 0, CKPT_ID_BYTES);
}

static void test_manifest_that_makes_no_sense_is_refused(void **state)
{
    static const spoil_fn spoils[] = {
        spoil_order,       spoil_end,        spoil_disk_size,  spoil_no_disk,           spoil_huge,
        spoil_memory_size, spoil_state_size, spoil_state_base, spoil_zero_over_nothing,
    };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(spoils) / sizeof(spoils[0]); i++) {
        struct ckpt_manifest manifest;
        struct shl_buf buf;

        make(&manifest, true);
        encode(&manifest, &buf);
        assert_int_equal(decode(&buf), 0);
        shl_buf_release(&buf);
        spoils[i](&manifest);
        encode(&manifest, &buf);
        if (decode(&buf) != SHL_ECORRUPT) {
            fail_msg("spoiled manifest %zu was taken", i);
        }
        shl_buf_release(&buf);
        ckpt_manifest_release(&manifest);
    }
}

static void test_manifest_cut_off_anywhere_is_refused(void **state)
{
    struct ckpt_manifest manifest, other;
    struct shl_buf buf;
    size_t len;

    (void)state;
    make(&manifest, true);
    encode(&manifest, &buf);
    for (len = 0; len < shl_buf_len(&buf); len++) {
        assert_int_equal(ckpt_manifest_decode(&other, shl_bytes_of(shl_buf_data(&buf), len), NULL),
                         SHL_ECORRUPT);
    }
    ckpt_manifest_release(&manifest);
    shl_buf_release(&buf);
}

static void test_manifest_of_another_version_is_refused(void **state)
{
    struct shl_mp_writer w;
    struct shl_buf buf;

    (void)state;
    shl_buf_init(&buf, 1000);
    shl_mp_writer_init(&w, &buf);
    shl_mp_map(&w);
    shl_mp_kv_uint(&w, "version", CKPT_MANIFEST_VERSION + 1);
    shl_mp_end(&w);
    assert_int_equal(shl_mp_done(&w), 0);
    assert_int_equal(decode(&buf), SHL_EVERSION);
    shl_buf_release(&buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_manifest_comes_back),
        cmocka_unit_test(test_manifest_that_makes_no_sense_is_refused),
        cmocka_unit_test(test_manifest_cut_off_anywhere_is_refused),
        cmocka_unit_test(test_manifest_of_another_version_is_refused),
    };

    return cmocka_run_group_tests_name("checkpoint/manifest", tests, NULL, NULL);
}
