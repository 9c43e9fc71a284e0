/* Raw files with holes through the store and back: the same bytes, the same size, holes where
 * there was nothing. */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "checkpoint/image.h"
#include "tests/checkpoint/helper.h"

#define CHUNK CKPT_CHUNK_BYTES

static int new_file(off_t bytes)
{
    int fd = memfd_create("raw", MFD_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, bytes), 0);
    return fd;
}

static void put_text(int fd, const char *text, uint64_t at)
{
    assert_int_equal(shl_pwrite_full(fd, text, strlen(text), at), 0);
}

static struct ckpt_id store(struct ckpt_store *store, int fd, struct ckpt_manifest *manifest)
{
    struct ckpt_session *session;
    struct shl_err err = {0};
    struct shl_buf buf;
    struct ckpt_id id;

    assert_int_equal(ckpt_session_begin(store, &session, &err), 0);
    ckpt_manifest_init(manifest);
    if (ckpt_raw_store(session, fd, NULL, manifest, &err) < 0) {
        fail_msg("%s", err.msg);
    }
    shl_buf_init(&buf, CKPT_MANIFEST_MAX);
    assert_int_equal(ckpt_manifest_encode(manifest, &buf), 0);
    assert_int_equal(ckpt_session_commit(session, shl_buf_bytes(&buf), &id, &err), 0);
    shl_buf_release(&buf);
    return id;
}

static void check_same(int one, int two)
{
    uint8_t a[CHUNK], b[CHUNK];
    struct stat st_one, st_two;
    off_t at;

    assert_int_equal(fstat(one, &st_one), 0);
    assert_int_equal(fstat(two, &st_two), 0);
    assert_int_equal(st_one.st_size, st_two.st_size);
    for (at = 0; at < st_one.st_size; at += CHUNK) {
        ssize_t len = pread(one, a, CHUNK, at);

        assert_true(len > 0);
        assert_int_equal(pread(two, b, CHUNK, at), len);
        assert_memory_equal(a, b, (size_t)len);
    }
}

static void test_there_and_back(void **state)
{
    struct ckpt_store *ckpt = open_store(enter_dir());
    /* the last chunk is neither whole nor a multiple of a sector */
    off_t bytes = 64 * CHUNK + 1000;
    int from = new_file(bytes), to = new_file(0);
    struct ckpt_manifest manifest;
    struct shl_err err = {0};
    struct stat st;

    (void)state;
    put_text(from, "first", 0);
    put_text(from, "across", 3 * CHUNK - 3);
    put_text(from, "last", (uint64_t)bytes - 4);
    (void)store(ckpt, from, &manifest);
    assert_int_equal(manifest.disk.bytes, 64 * CHUNK + 1024);
    assert_int_equal(manifest.disk.count, 4);
    assert_false(manifest.has_memory);
    assert_string_equal(manifest.disk.base, "");
    if (ckpt_raw_materialise(ckpt, &manifest, (uint64_t)bytes, to, &err) < 0) {
        fail_msg("%s", err.msg);
    }
    check_same(from, to);
    assert_int_equal(fstat(to, &st), 0);
    assert_true(st.st_blocks * 512 <= 5 * CHUNK);
    ckpt_manifest_release(&manifest);
    (void)close(from);
    (void)close(to);
    ckpt_store_close(ckpt);
    leave_dir();
}

static void test_small_and_empty(void **state)
{
    struct ckpt_store *ckpt = open_store(enter_dir());
    int small = new_file(0), zeros = new_file(10 * CHUNK), to = new_file(0);
    struct ckpt_manifest manifest;
    struct ckpt_session *session;
    struct shl_err err = {0};

    (void)state;
    put_text(small, "plain", 0);
    (void)store(ckpt, small, &manifest);
    assert_int_equal(manifest.disk.count, 1);
    assert_int_equal(ckpt_raw_materialise(ckpt, &manifest, 5, to, &err), 0);
    check_same(small, to);
    ckpt_manifest_release(&manifest);

    (void)store(ckpt, zeros, &manifest);
    assert_int_equal(manifest.disk.count, 0);
    assert_int_equal(ftruncate(to, 0), 0);
    assert_int_equal(ckpt_raw_materialise(ckpt, &manifest, 10 * CHUNK, to, &err), 0);
    check_same(zeros, to);
    ckpt_manifest_release(&manifest);

    /* nothing at all is no image */
    assert_int_equal(ftruncate(small, 0), 0);
    assert_int_equal(ckpt_session_begin(ckpt, &session, &err), 0);
    ckpt_manifest_init(&manifest);
    assert_int_equal(ckpt_raw_store(session, small, NULL, &manifest, &err), SHL_EINVALIDARG);
    ckpt_manifest_release(&manifest);
    ckpt_session_abort(session);
    (void)close(small);
    (void)close(zeros);
    (void)close(to);
    ckpt_store_close(ckpt);
    leave_dir();
}

/* A peer says that it is one. */
static void test_refused(void **state)
{
    struct ckpt_store *ckpt = open_store(enter_dir());
    int from = new_file(2 * CHUNK), to = new_file(0);
    const atomic_bool cancel = true;
    struct ckpt_manifest manifest;
    struct ckpt_session *session;
    struct shl_err err = {0};

    (void)state;
    put_text(from, "x", CHUNK);
    (void)store(ckpt, from, &manifest);
    assert_int_equal(ckpt_raw_materialise(ckpt, &manifest, 2 * CHUNK + 1, to, &err),
                     SHL_EINVALIDARG);
    assert_int_equal(ckpt_raw_materialise(ckpt, &manifest, 2 * CHUNK - 512, to, &err),
                     SHL_EINVALIDARG);
    manifest.disk.bytes = CHUNK + 512; /* so its chunk is too long */
    assert_int_equal(ckpt_raw_materialise(ckpt, &manifest, CHUNK + 512, to, &err), SHL_ECORRUPT);
    manifest.disk.bytes = 2 * CHUNK;
    manifest.disk.base[0] = 'b';
    assert_int_equal(ckpt_raw_materialise(ckpt, &manifest, 2 * CHUNK, to, &err), SHL_EINVALIDARG);
    manifest.disk.base[0] = '\0';
    manifest.has_memory = true;
    assert_int_equal(ckpt_raw_materialise(ckpt, &manifest, 2 * CHUNK, to, &err), SHL_EINVALIDARG);
    ckpt_manifest_release(&manifest);

    assert_int_equal(ckpt_session_begin(ckpt, &session, &err), 0);
    ckpt_manifest_init(&manifest);
    assert_int_equal(ckpt_raw_store(session, from, &cancel, &manifest, &err), SHL_EUNAVAILABLE);
    ckpt_manifest_release(&manifest);
    ckpt_session_abort(session);
    (void)close(from);
    (void)close(to);
    ckpt_store_close(ckpt);
    leave_dir();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_there_and_back),
        cmocka_unit_test(test_small_and_empty),
        cmocka_unit_test(test_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
