/* Files through a running agent: content, errors, modes, owners, odd kinds of files. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/fs.h"
#include "base/io.h"
#include "tests/agent/fixture.h"

static const char *in_home(const struct fixture *f, const char *name, char path[512])
{
    (void)snprintf(path, 512, "%s/%s", f->home, name);
    return path;
}

/* Content as one call; the code, content in @ret when 0. */
static int read_path(struct fixture *f, const char *path, struct shl_buf *ret, char msg[256])
{
    struct client_call call;
    int rc;

    client_begin(&f->client, &call, "file.read");
    shl_mp_kv_str(&call.w, "path", path);
    rc = client_run(&call, FIXTURE_WAIT_MS);
    (void)client_msg(&call, msg, 256);
    if (rc == 0) {
        *ret = call.data[0];
        shl_buf_init(&call.data[0], 0);
        if (client_bool(&call.head, "regular")) {
            assert_int_equal(client_int(&call.head, "size"), shl_buf_len(ret));
        }
    }
    client_call_release(&call);
    return rc;
}

static int write_path(struct fixture *f,
                      const char *path,
                      const void *data,
                      size_t len,
                      char msg[256])
{
    struct client_call call;
    size_t at = 0;
    int rc = 0;

    client_begin(&f->client, &call, "file.write");
    shl_mp_kv_str(&call.w, "path", path);
    client_send(&call);
    while (at < len && !call.done && rc == 0) {
        size_t sent = client_send_data(&call, shl_bytes_of((const uint8_t *)data + at, len - at));

        at += sent;
        if (sent == 0) {
            rc = client_pump(&f->client, FIXTURE_WAIT_MS);
        }
    }
    client_send_frame(&f->client, AGENT_FRAME_EOF, call.stream, shl_bytes_of(NULL, 0));
    rc = client_wait(&call, FIXTURE_WAIT_MS);
    (void)client_msg(&call, msg, 256);
    if (rc == 0) {
        assert_int_equal(client_int(&call.response, "size"), len);
    }
    client_call_release(&call);
    return rc;
}

static int write_text(struct fixture *f, const char *path, const char *text)
{
    char msg[256];

    return write_path(f, path, text, strlen(text), msg);
}

static void assert_read(struct fixture *f, const char *path, const char *want)
{
    struct shl_buf got;
    char msg[256];

    assert_int_equal(read_path(f, path, &got, msg), 0);
    ASSERT_BUF_EQ(&got, want);
    shl_buf_release(&got);
}

static void assert_read_fails(struct fixture *f, const char *path, int code, const char *text)
{
    struct shl_buf got;
    char msg[256];

    assert_int_equal(read_path(f, path, &got, msg), code);
    if (!strstr(msg, text)) {
        fail_msg("'%s' does not say '%s'", msg, text);
    }
}

static void assert_mode(const char *path, mode_t want)
{
    struct stat st;

    assert_int_equal(lstat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, want);
}

static void test_file_round_trip(void **state)
{
    static const size_t sizes[] = {0, 1, 65535, 65536, 65537, 1000000};
    struct fixture *f = *state;
    struct shl_buf got;
    uint8_t *data = malloc(1000000);
    char msg[256];
    size_t i;

    for (i = 0; i < 1000000; i++) {
        data[i] = (uint8_t)(i * 31 + i / 977);
    }
    for (i = 0; i < SHL_ARRAY_SIZE(sizes); i++) {
        assert_int_equal(write_path(f, "file", data, sizes[i], msg), 0);
        assert_int_equal(read_path(f, "file", &got, msg), 0);
        assert_int_equal(shl_buf_len(&got), sizes[i]);
        if (sizes[i]) {
            assert_memory_equal(shl_buf_data(&got), data, sizes[i]);
        }
        shl_buf_release(&got);
    }
    free(data);
}

static void test_file_names_are_bytes(void **state)
{
    struct fixture *f = *state;
    static const char *const names[] = {"a b", "h#%2Fx",   "\xc3\xa4\xe2\x82\xac",
                                        "~",   "\xff\xfe", "-rf"};
    size_t i;

    for (i = 0; i < SHL_ARRAY_SIZE(names); i++) {
        assert_int_equal(write_text(f, names[i], names[i]), 0);
        assert_read(f, names[i], names[i]);
    }
}

static void test_file_write_keeps_what_is_there(void **state)
{
    struct fixture *f = *state;
    struct stat before, after;
    char path[512];

    assert_int_equal(write_text(f, "x", "long content"), 0);
    assert_mode(in_home(f, "x", path), 0644);
    assert_int_equal(chmod(path, 0700), 0);
    assert_int_equal(stat(path, &before), 0);
    assert_int_equal(write_text(f, "x", "short"), 0);
    assert_read(f, "x", "short");
    assert_int_equal(stat(path, &after), 0);
    assert_true(before.st_ino == after.st_ino);
    assert_mode(path, 0700);
}

static void test_file_write_makes_parents(void **state)
{
    struct fixture *f = *state;
    char path[512];

    assert_int_equal(write_text(f, "p/q/r/file", "deep"), 0);
    assert_read(f, in_home(f, "p//q/./r/file", path), "deep");
    assert_mode(in_home(f, "p/q", path), 0755);
}

static void test_file_links_are_followed(void **state)
{
    struct fixture *f = *state;
    char path[512], link[512];
    struct stat st;

    assert_int_equal(symlink("target", in_home(f, "link", link)), 0);
    assert_int_equal(write_text(f, "link", "through"), 0); /* dangling: makes the target */
    assert_read(f, in_home(f, "target", path), "through");
    assert_int_equal(lstat(link, &st), 0);
    assert_true(S_ISLNK(st.st_mode));
    assert_int_equal(symlink("loop", in_home(f, "loop", link)), 0);
    assert_read_fails(f, "loop", SHL_EINVALIDARG, "symbolic links");
}

static void test_file_errors_have_codes_and_texts(void **state)
{
    struct fixture *f = *state;
    char msg[256], path[512], big[5000];

    assert_int_equal(write_text(f, "file", "x"), 0);
    assert_int_equal(mkdir(in_home(f, "dir", path), 0755), 0);
    assert_read_fails(f, "none", SHL_ENOTFOUND, "no such file");
    assert_read_fails(f, "none/none", SHL_ENOTFOUND, "no such file");
    assert_read_fails(f, "dir", SHL_EINVALIDARG, "is a directory");
    assert_read_fails(f, "file/x", SHL_EINVALIDARG, "not a directory");
    assert_read_fails(f, "", SHL_EINVALIDARG, "path");
    memset(big, 'a', sizeof(big));
    big[4999] = '\0';
    assert_read_fails(f, big, SHL_EINVALIDARG, "longer");
    big[300] = '\0';
    assert_read_fails(f, big, SHL_EINVALIDARG, "too long");
    assert_int_equal(write_path(f, "dir", "x", 1, msg), SHL_EINVALIDARG);
    assert_non_null(strstr(msg, "is a directory"));
    assert_int_equal(write_path(f, "dir/", "x", 1, msg), SHL_EINVALIDARG);
    assert_int_equal(write_path(f, "new/", "x", 1, msg), SHL_EINVALIDARG);
    assert_int_equal(write_path(f, "file/x", "x", 1, msg), SHL_EINVALIDARG);
    assert_non_null(strstr(msg, "not a directory"));
    assert_int_equal(fixture_path_op(f, "file.list", "none", msg), SHL_ENOTFOUND);
    assert_int_equal(fixture_path_op(f, "file.list", "file", msg), SHL_EINVALIDARG);
    assert_non_null(strstr(msg, "not a directory"));
}

/* Nothing that is not a plain file may make the agent wait. */
static void test_file_special_files_are_refused(void **state)
{
    struct fixture *f = *state;
    char path[512], msg[256];

    assert_int_equal(mkfifo(in_home(f, "fifo", path), 0666), 0);
    assert_read_fails(f, "fifo", SHL_EINVALIDARG, "not a regular file");
    assert_int_equal(write_path(f, "fifo", "x", 1, msg), SHL_EINVALIDARG);
    assert_int_equal(fixture_path_op(f, "file.list", "fifo", msg), SHL_EINVALIDARG);
    assert_read_fails(f, "/dev/zero", SHL_EINVALIDARG, "not a regular file");
    assert_int_equal(write_path(f, "/dev/null", "x", 1, msg), SHL_EINVALIDARG);
    assert_int_equal(fixture_path_op(f, "file.remove", "fifo", msg), 0);
}

/* Their size is not known before: read until the end. */
static void test_file_proc_is_read_to_its_end(void **state)
{
    struct fixture *f = *state;
    struct shl_buf got;
    char msg[256];

    assert_int_equal(read_path(f, "/proc/self/status", &got, msg), 0);
    assert_memory_equal(shl_buf_data(&got), "Name:\tshoal-agent\n", 18);
    shl_buf_release(&got);
    assert_int_equal(read_path(f, "/proc/sys/kernel/ostype", &got, msg), 0);
    ASSERT_BUF_EQ(&got, "Linux\n");
    shl_buf_release(&got);
}

static void test_file_list_is_sorted_and_complete(void **state)
{
    struct fixture *f = *state;
    static const char *const want[] = {".hidden", "B", "a", "dangling", "dir", "to-dir"};
    struct client_call call;
    char path[512];
    size_t i;

    assert_int_equal(write_text(f, "a", "12345"), 0);
    assert_int_equal(write_text(f, ".hidden", ""), 0);
    assert_int_equal(write_text(f, "B", ""), 0);
    assert_int_equal(mkdir(in_home(f, "dir", path), 0750), 0);
    assert_int_equal(symlink("dir", in_home(f, "to-dir", path)), 0);
    assert_int_equal(symlink("nowhere", in_home(f, "dangling", path)), 0);
    client_begin(&f->client, &call, "file.list");
    shl_mp_kv_str(&call.w, "path", f->home);
    assert_int_equal(client_run(&call, FIXTURE_WAIT_MS), 0);
    for (i = 0; i < SHL_ARRAY_SIZE(want); i++) {
        struct shl_mp_doc doc;
        char name[64];
        size_t used;

        assert_int_equal(shl_mp_parse_first(&doc, shl_buf_bytes(&call.data[0]), &used), 0);
        assert_int_equal(shl_mp_get_cpy(doc.root, "name", name, sizeof(name)), 0);
        assert_string_equal(name, want[i]);
        assert_int_equal(client_bool(&doc, "is_dir"), strstr(name, "dir") != NULL);
        assert_int_equal(client_int(&doc, "size"), strcmp(name, "a") == 0          ? 5
                                                   : strcmp(name, "dangling") == 0 ? 7
                                                                                   : 0);
        if (strcmp(name, "dir") == 0) {
            assert_int_equal(client_int(&doc, "mode"), 0750);
        }
        assert_true(client_int(&doc, "mtime_ms") > 1500000000000);
        shl_mp_release(&doc);
        shl_buf_consume(&call.data[0], used);
    }
    assert_int_equal(shl_buf_len(&call.data[0]), 0);
    client_call_release(&call);
}

/* More entries than fit in the credit of a stream. */
static void test_file_list_of_a_large_folder(void **state)
{
    struct fixture *f = *state;
    struct client_call call;
    char path[512];
    int i, count = 0;

    for (i = 0; i < 8000; i++) {
        (void)snprintf(path, sizeof(path), "%s/file-%05d", f->home, i);
        i = close(open(path, O_CREAT | O_WRONLY, 0644)) == 0 ? i : -1;
        assert_true(i >= 0);
    }
    client_begin(&f->client, &call, "file.list");
    shl_mp_kv_str(&call.w, "path", f->home);
    assert_int_equal(client_run(&call, FIXTURE_WAIT_MS), 0);
    while (shl_buf_len(&call.data[0]) > 0) {
        struct shl_mp_doc doc;
        size_t used;

        assert_int_equal(shl_mp_parse_first(&doc, shl_buf_bytes(&call.data[0]), &used), 0);
        shl_mp_release(&doc);
        shl_buf_consume(&call.data[0], used);
        count++;
    }
    assert_int_equal(count, 8000);
    client_call_release(&call);
}

static void test_file_mkdir_is_recursive_and_repeatable(void **state)
{
    struct fixture *f = *state;
    char path[512], msg[256];

    assert_int_equal(fixture_path_op(f, "file.mkdir", "m/n/o", msg), 0);
    assert_int_equal(fixture_path_op(f, "file.mkdir", "m/n/o", msg), 0);
    assert_int_equal(fixture_path_op(f, "file.mkdir", "m/n/o/", msg), 0);
    assert_mode(in_home(f, "m/n/o", path), 0755);
    assert_int_equal(write_text(f, "file", "x"), 0);
    assert_int_equal(fixture_path_op(f, "file.mkdir", "file", msg), SHL_EINVALIDARG);
    assert_non_null(strstr(msg, "not a directory"));
    assert_int_equal(fixture_path_op(f, "file.mkdir", "file/x", msg), SHL_EINVALIDARG);
    assert_int_equal(fixture_path_op(f, "file.mkdir", "/", msg), 0);
}

static void test_file_remove_whole_trees_without_following_links(void **state)
{
    struct fixture *f = *state;
    char path[512], msg[256];

    assert_int_equal(write_text(f, "keep/file", "kept"), 0);
    assert_int_equal(write_text(f, "t/a/b/c", "x"), 0);
    assert_int_equal(write_text(f, "t/a/.d", "x"), 0);
    assert_int_equal(symlink("../../keep", in_home(f, "t/a/link", path)), 0);
    assert_int_equal(mkfifo(in_home(f, "t/fifo", path), 0666), 0);
    assert_int_equal(chmod(in_home(f, "t/a/b", path), 0500), 0);
    assert_int_equal(fixture_path_op(f, "file.remove", "t/a/link/", msg), 0); /* the link */
    assert_int_equal(symlink("../../keep", in_home(f, "t/a/link", path)), 0);
    if (geteuid() != 0) {
        assert_int_equal(fixture_path_op(f, "file.remove", "t", msg), -EACCES);
        assert_int_equal(chmod(in_home(f, "t/a/b", path), 0700), 0);
    }
    assert_int_equal(fixture_path_op(f, "file.remove", "t", msg), 0);
    assert_int_equal(access(in_home(f, "t", path), F_OK), -1);
    assert_read(f, "keep/file", "kept");
    assert_int_equal(fixture_path_op(f, "file.remove", "t", msg), 0); /* gone is fine */
    assert_int_equal(fixture_path_op(f, "file.remove", "t/u/v", msg), 0);
    assert_int_equal(fixture_path_op(f, "file.remove", "keep/file/x", msg), 0);
}

static void test_file_remove_refuses_the_root(void **state)
{
    static const char *const paths[] = {"/", "//", "/.", "/..", "/tmp/..", "."};
    struct fixture *f = *state;
    char msg[256];
    size_t i;

    for (i = 0; i < SHL_ARRAY_SIZE(paths); i++) {
        assert_int_equal(fixture_path_op(f, "file.remove", paths[i], msg), SHL_EINVALIDARG);
    }
    assert_int_equal(fixture_path_op(f, "file.remove", "/proc", msg), -EBUSY);
    assert_non_null(strstr(msg, "mount point"));
}

/* Deeper than any path can be long. */
static void test_file_remove_a_very_deep_tree(void **state)
{
    struct fixture *f = *state;
    char msg[256], path[512];
    int fd = open(f->home, O_RDONLY | O_DIRECTORY);
    int i;

    for (i = 0; i < 3000; i++) {
        int next;

        assert_int_equal(mkdirat(fd, "deeper", 0755), 0);
        next = openat(fd, "deeper", O_RDONLY | O_DIRECTORY);
        (void)close(fd);
        fd = next;
    }
    (void)close(fd);
    assert_int_equal(fixture_path_op(f, "file.remove", "deeper", msg), 0);
    assert_int_equal(access(in_home(f, "deeper", path), F_OK), -1);
}

/* 100 MB each way; neither side holds more than its windows. */
static void check_pattern(struct client_call *call, uint8_t channel, struct shl_bytes bytes)
{
    uint64_t *at = call->arg;
    size_t i;

    assert_int_equal(channel, AGENT_CHANNEL_RAW);
    for (i = 0; i < bytes.len; i++, (*at)++) {
        if (bytes.base[i] != (uint8_t)(*at * 131 >> 7)) {
            fail_msg("byte %llu is wrong", (unsigned long long)*at);
        }
    }
}

static uint64_t agent_peak_bytes(const struct fixture *f)
{
    struct shl_buf buf;
    char path[64], *text;
    uint64_t bytes;

    (void)snprintf(path, sizeof(path), "/proc/%d/status", f->pid);
    shl_buf_init(&buf, 65536);
    assert_int_equal(shl_read_file(path, &buf), 0);
    text = shl_bytes_dup_str(shl_buf_bytes(&buf));
    bytes = strtoull(strstr(text, "VmHWM:") + 6, NULL, 10) * 1024;
    free(text);
    shl_buf_release(&buf);
    return bytes;
}

static void test_file_100_mb_in_bounded_memory(void **state)
{
    static uint8_t chunk[AGENT_PAYLOAD_MAX];
    const uint64_t total = 100000000;
    struct fixture *f = *state;
    struct client_call call;
    uint64_t at = 0, seen = 0, before = agent_peak_bytes(f);
    int rc = 0;

    client_begin(&f->client, &call, "file.write");
    shl_mp_kv_str(&call.w, "path", "big");
    client_send(&call);
    while (at < total && rc == 0) {
        size_t len = (size_t)SHL_MIN(total - at, (uint64_t)sizeof(chunk)), i;

        len = SHL_MIN(len, call.send_credit);
        for (i = 0; i < len; i++) {
            chunk[i] = (uint8_t)((at + i) * 131 >> 7);
        }
        at += client_send_data(&call, shl_bytes_of(chunk, len));
        rc = client_pump(&f->client, FIXTURE_WAIT_MS);
    }
    assert_int_equal(rc, 0);
    client_send_frame(&f->client, AGENT_FRAME_EOF, call.stream, shl_bytes_of(NULL, 0));
    assert_int_equal(client_wait(&call, FIXTURE_WAIT_MS), 0);
    assert_int_equal(client_int(&call.response, "size"), total);
    client_call_release(&call);

    client_begin(&f->client, &call, "file.read");
    shl_mp_kv_str(&call.w, "path", "big");
    call.on_data = check_pattern;
    call.arg = &seen;
    assert_int_equal(client_run(&call, FIXTURE_WAIT_MS), 0);
    assert_int_equal(seen, total);
    client_call_release(&call);
    assert_true(agent_peak_bytes(f) - before < 20u * 1024 * 1024);
}

static void test_file_full_disk_is_enospc(void **state)
{
    struct fixture *f = *state;
    struct fixture_result result;
    static uint8_t data[3 * 65536];
    char msg[256], remove_msg[256];
    int rc, remove_rc;

    if (geteuid() != 0) {
        skip();
    }
    fixture_exec(f, "mkdir small && mount -t tmpfs -o size=64k none small", NULL, &result);
    fixture_result_release(&result);
    if (result.exit_code != 0) {
        skip();
    }
    rc = write_path(f, "small/file", data, sizeof(data), msg);
    remove_rc = fixture_path_op(f, "file.remove", "small", remove_msg);
    fixture_exec(f, "umount small", NULL, &result); /* first: it must not stay */
    fixture_result_release(&result);
    assert_int_equal(result.exit_code, 0);
    assert_int_equal(rc, -ENOSPC);
    assert_non_null(strstr(msg, "no space"));
    assert_int_equal(remove_rc, -EBUSY);
}

/* The rule of who owns new files, on the functions themselves (the agent of the tests
 * runs as one user). */
static void assert_owner(const char *path, uid_t want)
{
    struct stat st;

    assert_int_equal(lstat(path, &st), 0);
    assert_int_equal(st.st_uid, want);
}

static void test_file_new_entries_belong_to_the_user(void **state)
{
    struct fixture *f = *state;
    struct agent_fs_owner owner = {.uid = 1000, .gid = 1000, .active = true};
    char path[512], system_dir[] = "/var/shoal-test-XXXXXX";
    struct shl_err err;
    int fd;

    if (geteuid() != 0) {
        skip();
    }
    /* below a folder of the system that belongs to root: stays root's */
    assert_non_null(mkdtemp(system_dir));
    (void)snprintf(path, sizeof(path), "%s/a/b", system_dir);
    assert_int_equal(agent_fs_open_write(path, &owner, &fd, &err), 0);
    (void)close(fd);
    assert_owner(path, 0);
    /* below a folder of somebody: the user's, with new parents */
    assert_int_equal(chown(system_dir, 33, 33), 0);
    (void)snprintf(path, sizeof(path), "%s/c/d", system_dir);
    assert_int_equal(agent_fs_open_write(path, &owner, &fd, &err), 0);
    (void)close(fd);
    assert_owner(path, 1000);
    *strrchr(path, '/') = '\0';
    assert_owner(path, 1000);
    assert_int_equal(shl_remove_tree(system_dir), 0);
    /* outside the system folders (/tmp): the user's */
    assert_int_equal(agent_fs_mkdir(in_home(f, "m/n", path), &owner, &err), 0);
    assert_owner(path, 1000);
    /* an existing file keeps its owner */
    assert_int_equal(agent_fs_open_write(in_home(f, "o", path), &owner, &fd, &err), 0);
    assert_int_equal(fchown(fd, 7, 7), 0);
    (void)close(fd);
    assert_int_equal(agent_fs_open_write(path, &owner, &fd, &err), 0);
    (void)close(fd);
    assert_owner(path, 7);
}

static void test_file_many_streams_side_by_side(void **state)
{
    enum {
        STREAMS = 20
    };
    static const char pattern[] = "0123456789abcdef";
    struct fixture *f = *state;
    struct client_call calls[STREAMS];
    struct shl_buf data;
    char name[16], msg[256];
    int i;

    shl_buf_init(&data, 1u << 20);
    for (i = 0; i < 20000; i++) {
        assert_int_equal(shl_buf_append(&data, pattern, 16), 0);
    }
    for (i = 0; i < STREAMS; i++) {
        (void)snprintf(name, sizeof(name), "f%d", i);
        assert_int_equal(write_path(f, name, shl_buf_data(&data), shl_buf_len(&data), msg), 0);
    }
    for (i = 0; i < STREAMS; i++) {
        (void)snprintf(name, sizeof(name), "f%d", i);
        client_begin(&f->client, &calls[i], "file.read");
        shl_mp_kv_str(&calls[i].w, "path", name);
        client_send(&calls[i]);
    }
    for (i = STREAMS - 1; i >= 0; i--) {
        assert_int_equal(client_wait(&calls[i], FIXTURE_WAIT_MS), 0);
        assert_int_equal(shl_buf_len(&calls[i].data[0]), shl_buf_len(&data));
        assert_memory_equal(shl_buf_data(&calls[i].data[0]), shl_buf_data(&data),
                            shl_buf_len(&data));
        client_call_release(&calls[i]);
    }
    shl_buf_release(&data);
}

static void test_file_read_of_a_shrinking_file_fails(void **state)
{
    struct fixture *f = *state;
    struct client_call call;
    char path[512];

    assert_int_equal(write_text(f, "s", "x"), 0);
    assert_int_equal(truncate(in_home(f, "s", path), 10 << 20), 0);
    client_begin(&f->client, &call, "file.read");
    shl_mp_kv_str(&call.w, "path", "s");
    call.hold_credit = true; /* the agent has to stop inside */
    client_send(&call);
    while (call.data_bytes[0] < AGENT_WINDOW_BYTES) {
        assert_int_equal(client_pump(&f->client, FIXTURE_WAIT_MS), 0);
    }
    assert_int_equal(truncate(path, 0), 0);
    {
        uint8_t credit[4];

        shl_put_le32(credit, 64u << 20);
        client_send_frame(&f->client, AGENT_FRAME_CREDIT, call.stream, shl_bytes_of(credit, 4));
    }
    assert_int_equal(client_wait(&call, FIXTURE_WAIT_MS), SHL_EBADSTATE);
    client_call_release(&call);
}

/* A write that was given up has bytes on their way when the next write of the file comes:
 * the next one wins whole, whatever moment it comes in. */
static void test_file_later_write_of_a_path_takes_over(void **state)
{
    static uint8_t noise[AGENT_WINDOW_BYTES];
    struct fixture *f = *state;
    int round;

    memset(noise, 'N', sizeof(noise));
    for (round = 0; round < 50; round++) {
        struct client_call first;
        int pumps;

        client_begin(&f->client, &first, "file.write");
        shl_mp_kv_str(&first.w, "path", "contested");
        client_send(&first);
        for (pumps = 0; pumps < round % 5; pumps++) {
            (void)client_pump(&f->client, 0);
        }
        (void)client_send_data(&first, shl_bytes_of(noise, (size_t)(round % 4 + 1) * 65536));
        for (pumps = 0; pumps < round % 7; pumps++) {
            (void)client_pump(&f->client, 0);
        }
        assert_int_equal(write_text(f, "contested", "whole"), 0);
        assert_int_equal(client_wait(&first, FIXTURE_WAIT_MS), SHL_ECONFLICT);
        assert_read(f, "contested", "whole");
        client_call_release(&first);
    }
    assert_int_equal(write_text(f, "contested", "free again"), 0);
    assert_read(f, "contested", "free again");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_file_round_trip),
        TEST(test_file_names_are_bytes),
        TEST(test_file_write_keeps_what_is_there),
        TEST(test_file_write_makes_parents),
        TEST(test_file_links_are_followed),
        TEST(test_file_errors_have_codes_and_texts),
        TEST(test_file_special_files_are_refused),
        TEST(test_file_proc_is_read_to_its_end),
        TEST(test_file_list_is_sorted_and_complete),
        TEST(test_file_list_of_a_large_folder),
        TEST(test_file_mkdir_is_recursive_and_repeatable),
        TEST(test_file_remove_whole_trees_without_following_links),
        TEST(test_file_remove_refuses_the_root),
        TEST(test_file_remove_a_very_deep_tree),
        TEST(test_file_100_mb_in_bounded_memory),
        TEST(test_file_full_disk_is_enospc),
        TEST(test_file_new_entries_belong_to_the_user),
        TEST(test_file_many_streams_side_by_side),
        TEST(test_file_read_of_a_shrinking_file_fails),
        TEST(test_file_later_write_of_a_path_takes_over),
    };

    return cmocka_run_group_tests_name("agent/file", tests, NULL, NULL);
}
