/* `shoal cp`: whole files both ways, and what is left when that fails. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/attr.h"
#include "base/io.h"
#include "tests/client/cli.h"

#define BIG ((uint64_t)100 * 1024 * 1024)

static char folder[] = "/tmp/shoal-test-cli-XXXXXX";

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    return shl_remove_tree(folder);
}

static void write_file(const char *name, uint64_t size)
{
    static unsigned char block[64 * 1024];
    char path[256];
    FILE *file;

    snprintf(path, sizeof(path), "%s/%s", folder, name);
    file = fopen(path, "w");
    assert_non_null(file);
    for (uint64_t at = 0; at < size; at += sizeof(block)) {
        size_t len = SHL_MIN(sizeof(block), size - at);

        for (size_t i = 0; i < len; i++) {
            block[i] = mock_pattern(at + i);
        }
        assert_int_equal(fwrite(block, 1, len, file), len);
    }
    assert_int_equal(fclose(file), 0);
}

static void expect_pattern_file(const char *name, uint64_t size)
{
    static unsigned char block[64 * 1024];
    char path[256];
    uint64_t at = 0;
    size_t got;
    FILE *file;

    snprintf(path, sizeof(path), "%s/%s", folder, name);
    file = fopen(path, "r");
    assert_non_null(file);
    while ((got = fread(block, 1, sizeof(block), file)) > 0) {
        for (size_t i = 0; i < got; i++) {
            if (block[i] != mock_pattern(at + i)) {
                print_error("byte %llu differs\n", (unsigned long long)(at + i));
                fail();
            }
        }
        at += got;
    }
    fclose(file);
    assert_int_equal(at, size);
}

static size_t entries_in_folder(void)
{
    char command[300];
    size_t count = 0;
    FILE *pipe;

    snprintf(command, sizeof(command), "ls -A %s | wc -l", folder);
    pipe = popen(command, "r");
    assert_int_equal(fscanf(pipe, "%zu", &count), 1);
    pclose(pipe);
    return count;
}

/* 100 MB each way: every byte right, memory far below the size of the file. */
static void test_cli_cp_streams_in_bounded_memory(void **state)
{
    const struct mock_rule rules[] = {
        {"GET", "/api/sandboxes/sb-1/files", 200, NULL, MOCK_STREAM, BIG},
        {"PUT", "/api/sandboxes/sb-1/files", 204, NULL},
    };
    struct mock *mock = mock_start(rules, 2);
    struct outcome small = RUN(mock, "version");
    struct outcome down;
    struct outcome up;
    char path[300];

    (void)state;
    snprintf(path, sizeof(path), "%s/big", folder);
    down = RUN(mock, "cp", "sb-1:/big", path);
    assert_string_equal(down.err, "");
    assert_int_equal(down.code, 0);
    expect_pattern_file("big", BIG);
    up = RUN(mock, "cp", path, "sb-1:in/");
    assert_int_equal(up.code, 0);
    assert_string_equal(mock_at(mock, 1)->uri, "/api/sandboxes/sb-1/files?path=in/big");
    assert_int_equal(mock_at(mock, 1)->body_bytes, BIG);
    assert_int_equal(mock_at(mock, 1)->wrong_bytes, 0);
    assert_false(mock_at(mock, 1)->chunked);
    print_message("peak memory KiB: idle %ld, down %ld, up %ld\n", small.rss_kib, down.rss_kib,
                  up.rss_kib);
    assert_in_range(down.rss_kib, 0, small.rss_kib + 20 * 1024);
    assert_in_range(up.rss_kib, 0, small.rss_kib + 20 * 1024);
    outcome_release(&small);
    outcome_release(&down);
    outcome_release(&up);
    mock_stop(mock);
}

/* What is there stays when a transfer breaks, and nothing is left beside it. */
static void test_cli_cp_broken_download_keeps_old_file(void **state)
{
    const struct mock_rule rules[] = {
        {"GET", "/api/sandboxes/sb-1/files", 200, "half", MOCK_TRUNCATE}};
    struct mock *mock = mock_start(rules, 1);
    struct outcome got;
    size_t before;
    char path[300];

    (void)state;
    write_file("old", 1234);
    before = entries_in_folder();
    snprintf(path, sizeof(path), "%s/old", folder);
    got = RUN(mock, "cp", "sb-1:/x", path);
    assert_int_equal(got.code, 125);
    expect_contains("stderr", got.err, "ended in the middle");
    expect_pattern_file("old", 1234);
    assert_int_equal(entries_in_folder(), before);
    outcome_release(&got);
    mock_stop(mock);
}

static void test_cli_cp_names_and_modes(void **state)
{
    const struct mock_rule rules[] = {
        {"GET", "/api/sandboxes/sb-1/files", 200, NULL, MOCK_STREAM, 3000}};
    struct mock *mock = mock_start(rules, 1);
    struct outcome got;
    struct stat st;
    char path[300];

    (void)state;
    /* into a folder: the file's own name */
    got = RUN(mock, "cp", "sb-1:/var/log/x.log", folder);
    assert_int_equal(got.code, 0);
    expect_pattern_file("x.log", 3000);
    outcome_release(&got);
    /* an existing mode is kept, and the file behind a link is replaced, not the link */
    snprintf(path, sizeof(path), "%s/x.log", folder);
    assert_int_equal(chmod(path, 0640), 0);
    snprintf(path, sizeof(path), "%s/link", folder);
    assert_int_equal(symlink("x.log", path), 0);
    got = RUN(mock, "cp", "sb-1:/y", path);
    assert_int_equal(got.code, 0);
    assert_int_equal(lstat(path, &st), 0);
    assert_true(S_ISLNK(st.st_mode));
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0640);
    outcome_release(&got);
    got = RUN(mock, "cp", "sb-1:/y", "/dev/null");
    assert_int_equal(got.code, 0);
    outcome_release(&got);
    got = RUN(mock, "cp", "sb-1:/y", "-");
    assert_int_equal(got.code, 0);
    assert_int_equal(got.out_len, 3000);
    outcome_release(&got);
    mock_stop(mock);
}

static void test_cli_cp_standard_input_is_chunked(void **state)
{
    const struct mock_rule rules[] = {{"PUT", "/api/sandboxes/sb-1/files", 204, NULL}};
    struct mock *mock = mock_start(rules, 1);
    struct outcome got;
    char path[300];
    int in;

    (void)state;
    write_file("in", 300000);
    snprintf(path, sizeof(path), "%s/in", folder);
    in = open(path, O_RDONLY | O_CLOEXEC);
    got = run_with(mock_url(mock), in, (const char *const[]){"cp", "-", "sb-1:/x", NULL});
    close(in);
    assert_int_equal(got.code, 0);
    assert_int_equal(mock_at(mock, 0)->body_bytes, 300000);
    assert_int_equal(mock_at(mock, 0)->wrong_bytes, 0);
    assert_true(mock_at(mock, 0)->chunked);
    outcome_release(&got);
    mock_stop(mock);
}

/* Only the server knows that the target is a folder: then the file goes into it. */
static void test_cli_cp_upload_to_existing_folder(void **state)
{
    const struct mock_rule rules[] = {
        {"PUT", "/api/sandboxes/sb-1/files", 400, "{\"error\":\"is a directory\"}", .times = 1},
        {"GET", "/api/sandboxes/sb-1/files/list", 200, "[]"},
        {"PUT", "/api/sandboxes/sb-1/files", 204, NULL},
    };
    struct mock *mock = mock_start(rules, 3);
    struct outcome got;
    char path[300];

    (void)state;
    write_file("doc.txt", 5000);
    snprintf(path, sizeof(path), "%s/doc.txt", folder);
    got = RUN(mock, "cp", path, "sb-1:/tmp");
    assert_string_equal(got.err, "");
    assert_int_equal(got.code, 0);
    assert_string_equal(mock_at(mock, 2)->uri, "/api/sandboxes/sb-1/files?path=/tmp/doc.txt");
    assert_int_equal(mock_at(mock, 2)->body_bytes, 5000);
    outcome_release(&got);
    mock_stop(mock);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cli_cp_streams_in_bounded_memory),
        cmocka_unit_test(test_cli_cp_broken_download_keeps_old_file),
        cmocka_unit_test(test_cli_cp_names_and_modes),
        cmocka_unit_test(test_cli_cp_standard_input_is_chunked),
        cmocka_unit_test(test_cli_cp_upload_to_existing_folder),
    };

    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
