/* Archives that a sandbox might send: whatever is in them, nothing outside of the folder changes.
 */
#include <archive.h>
#include <archive_entry.h>
#include <limits.h>
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

#include "base/io.h"
#include "client/cp.h"

#define ARCHIVE_MAX (1u << 20)

static char top[] = "/tmp/shoal-test-unpack-XXXXXX"; /* "in" is unpacked into, "out" is not */

struct item {
    unsigned type;
    const char *name;
    const char *target; /* of links */
    const char *data;
    unsigned mode;
};

struct packed {
    uint8_t data[ARCHIVE_MAX];
    size_t len;
    size_t at;
    size_t cut; /* give no more than this many, then an error; 0: all */
};

static struct packed packed;

static int setup(void **state)
{
    char path[200];

    (void)state;
    memcpy(top + sizeof(top) - 7, "XXXXXX", 6);
    assert_non_null(mkdtemp(top));
    (void)snprintf(path, sizeof(path),
                   "mkdir -m 700 %s/in && mkdir -m 755 %s/out && echo old >%s/out/file", top, top,
                   top);
    return system(path);
}

static int teardown(void **state)
{
    (void)state;
    cp_remove(top);
    return access(top, F_OK) == 0;
}

static void pack(const struct item *items, size_t count)
{
    struct archive *archive = archive_write_new();

    assert_int_equal(archive_write_set_format_gnutar(archive), ARCHIVE_OK);
    assert_int_equal(archive_write_open_memory(archive, packed.data, sizeof(packed.data),
                                               &packed.len),
                     ARCHIVE_OK);
    for (size_t i = 0; i < count; i++) {
        struct archive_entry *entry = archive_entry_new();
        size_t len = items[i].data ? strlen(items[i].data) : 0;

        archive_entry_set_pathname(entry, items[i].name);
        archive_entry_set_mode(entry, items[i].type | items[i].mode);
        archive_entry_set_size(entry, (la_int64_t)len);
        archive_entry_set_mtime(entry, 1000000000, 0);
        if (items[i].type == AE_IFLNK) {
            archive_entry_set_symlink(entry, items[i].target);
        } else if (items[i].target) {
            archive_entry_set_hardlink(entry, items[i].target);
        }
        assert_true(archive_write_header(archive, entry) >= ARCHIVE_WARN);
        if (len > 0) {
            assert_int_equal(archive_write_data(archive, items[i].data, len), len);
        }
        archive_entry_free(entry);
    }
    assert_int_equal(archive_write_close(archive), ARCHIVE_OK);
    assert_int_equal(archive_write_free(archive), ARCHIVE_OK);
    packed.at = 0;
    packed.cut = 0;
}

static ssize_t give(void *arg, const void **ret_data)
{
    size_t end = packed.cut ? packed.cut : packed.len;
    size_t len = SHL_MIN(end - packed.at, (size_t)1000);

    (void)arg;
    if (len == 0 && packed.cut) {
        return SHL_EUNAVAILABLE;
    }
    *ret_data = packed.data + packed.at;
    packed.at += len;
    return (ssize_t)len;
}

static int unpack(struct cp_counts *counts, struct shl_err *err)
{
    char path[100];

    (void)snprintf(path, sizeof(path), "%s/in", top);
    return cp_unpack(path, give, NULL, counts, err);
}

static bool shell(const char *command)
{
    char text[1000];

    (void)snprintf(text, sizeof(text), "cd %s && %s", top, command);
    return system(text) == 0;
}

static void nothing_outside_changed(void)
{
    assert_true(
        shell("test \"$(ls -A out)\" = file && test \"$(cat out/file)\" = old && "
              "test \"$(stat -c %a out)\" = 755 && test \"$(ls -A)\" = \"$(printf 'in\\nout')\""));
}

#define LINK(where, to)                 \
    {                                   \
        AE_IFLNK, where, to, NULL, 0777 \
    }
#define FILE_OF(where, what)              \
    {                                     \
        AE_IFREG, where, NULL, what, 0644 \
    }
#define FOLDER(where, bits)               \
    {                                     \
        AE_IFDIR, where, NULL, NULL, bits \
    }
#define PACK(...)                            \
    pack((const struct item[]){__VA_ARGS__}, \
         sizeof((const struct item[]){__VA_ARGS__}) / sizeof(struct item))

static void refused(const char *part)
{
    struct cp_counts counts = {0};
    struct shl_err err = {0};

    assert_true(unpack(&counts, &err) < 0);
    if (!strstr(err.msg, part)) {
        fail_msg("\"%s\" is not in: %s", part, err.msg);
    }
    nothing_outside_changed();
}

static void taken(void)
{
    struct cp_counts counts = {0};
    struct shl_err err = {0};

    if (unpack(&counts, &err) < 0) {
        fail_msg("%s", err.msg);
    }
    nothing_outside_changed();
}

static void test_cp_unpack_refuses_names_that_lead_out(void **state)
{
    (void)state;
    PACK(FOLDER("./", 0755), FILE_OF("../out/evil", "x"));
    refused("\"../out/evil\" in the sandbox's archive leads out");
    PACK(FILE_OF("a/../../out/evil", "x"));
    refused("leads out");
    PACK(FILE_OF("a/..", "x"));
    refused("leads out");
    PACK(FILE_OF("/tmp/shoal-evil", "x"));
    refused("absolute");
    PACK(FILE_OF("//tmp/shoal-evil", "x"));
    refused("absolute");
    assert_int_not_equal(access("/tmp/shoal-evil", F_OK), 0);
    PACK(FILE_OF("./a\x1b[31m/../..", "x"));
    refused("\"./a?[31m/../..\"");
}

static void test_cp_unpack_never_follows_links(void **state)
{
    char out[100];

    (void)state;
    (void)snprintf(out, sizeof(out), "%s/out", top);
    PACK(LINK("a", out), FILE_OF("a/evil", "x"));
    refused("a/evil");
    PACK(LINK("b", "../out"), FILE_OF("./b/file", "x"));
    refused("b/file");
    PACK(FOLDER("c", 0755), LINK("c/d", "../../out"), FILE_OF("c/d/evil", "x"));
    refused("c/d/evil");
    PACK(LINK("e", out), FOLDER("e/sub", 0755));
    refused("e/sub");
    PACK(LINK("l", out), LINK("l/link", "x"));
    refused("l/link");
    /* The link itself may be replaced. */
    PACK(LINK("f", "../out/file"), FILE_OF("f", "mine"));
    taken();
    assert_true(shell("test ! -L in/f && test \"$(cat in/f)\" = mine"));
    PACK(LINK("g", out), FOLDER("g", 0711), FILE_OF("g/mine", "x"));
    taken();
    assert_true(shell("test ! -L in/g && test -f in/g/mine"));
    /* Modes and times of folders come at the end: not of what took their place. */
    PACK(FOLDER("h", 0700), LINK("h", out));
    taken();
}

static void test_cp_unpack_refuses_what_is_no_file(void **state)
{
    (void)state;
    PACK(FILE_OF("a", "x"), {AE_IFREG, "b", "a", NULL, 0644});
    refused("\"b\" in the sandbox's archive is a hard link");
    PACK({AE_IFREG, "b", "/etc/passwd", NULL, 0644});
    refused("hard link");
    PACK({AE_IFCHR, "null", NULL, NULL, 0666});
    refused("no file, folder or link");
    PACK({AE_IFBLK, "sda", NULL, NULL, 0666});
    refused("no file, folder or link");
    PACK({AE_IFIFO, "pipe", NULL, NULL, 0666});
    refused("no file, folder or link");
}

static void test_cp_unpack_keeps_modes_but_no_rights(void **state)
{
    (void)state;
    PACK(FOLDER("./", 0750), {AE_IFREG, "./suid", NULL, "x", 06755}, FOLDER("./sticky", 01777),
         {AE_IFREG, "./secret", NULL, "x", 0600}, FOLDER("./shut", 0500),
         FILE_OF("./shut/in", "x"));
    taken();
    assert_true(shell("test \"$(cd in && stat -c %a . suid sticky secret shut | tr '\\n' ' ')\" = "
                      "'750 755 777 600 500 ' && test \"$(stat -c %Y in/shut)\" = 1000000000"));
}

static void test_cp_unpack_limits(void **state)
{
    struct cp_counts counts = {.entries = CP_ENTRIES_MAX - 1};
    struct shl_err err = {0};
    char deep[2 * CP_DEPTH_MAX + 8] = "";

    (void)state;
    PACK(FILE_OF("a", "x"), FILE_OF("b", "x"));
    assert_int_equal(unpack(&counts, &err), SHL_ELIMIT);
    assert_non_null(strstr(err.msg, "more than 1000000"));
    assert_true(shell("test -f in/a && test ! -e in/b"));
    for (size_t i = 0; i <= CP_DEPTH_MAX; i++) {
        strcat(deep, "d/");
    }
    PACK(FOLDER(deep, 0755));
    refused("too long a name");
    deep[2 * CP_DEPTH_MAX] = '\0';
    PACK(FOLDER(deep, 0755));
    taken();
}

/* A whole path may be longer than the system takes at once. */
static void test_cp_unpack_is_removed_however_deep(void **state)
{
    char name[PATH_MAX] = "";
    char path[100];

    (void)state;
    while (strlen(name) + 220 < sizeof(name)) {
        memset(name + strlen(name), 'd', 200);
        strcat(name, "/");
    }
    memset(name + strlen(name), 'd', sizeof(name) - 2 - strlen(name)); /* and a slash */
    PACK(FOLDER(name, 0500));
    taken();
    (void)snprintf(path, sizeof(path), "%s/in", top);
    cp_remove(path);
    assert_int_not_equal(access(path, F_OK), 0);
    assert_true(shell("mkdir in"));
}

static void test_cp_unpack_says_what_is_cut_or_no_archive(void **state)
{
    (void)state;
    packed = (struct packed){.len = 0};
    refused("no valid archive");
    memset(packed.data, 'x', 20000);
    packed.len = 20000;
    packed.at = 0;
    refused("no valid archive");
    /* Everywhere it may end. */
    PACK(FOLDER("./", 0755), FILE_OF("./file", "0123456789"), FILE_OF("./second", "x"));
    for (size_t cut = 1; cut < 5 * 512; cut += 100) {
        packed.at = 0;
        packed.cut = cut;
        refused("");
    }
    packed.at = 0;
    packed.cut = 0;
    packed.len = 2 * 512 + 3; /* a proper end in the middle of a file */
    refused("");
}

/* What is moved into a folder that is there. */
static void test_cp_merge_never_follows_links(void **state)
{
    struct shl_err err = {0};
    char from[100];
    char to[100];

    (void)state;
    (void)snprintf(from, sizeof(from), "%s/in", top);
    (void)snprintf(to, sizeof(to), "%s/in/../to", top);
    assert_true(shell("mkdir -p in/link/sub to && touch in/link/evil && ln -s ../out to/link"));
    assert_int_equal(cp_merge(from, to, &err), SHL_ECONFLICT);
    assert_true(shell("rm to/link && mkdir to/link && ln -s ../../out to/link/sub"));
    assert_int_equal(cp_merge(from, to, &err), SHL_ECONFLICT);
    assert_non_null(strstr(err.msg, "/to/link/sub is a link"));
    assert_true(shell("rm to/link/sub && ln -s ../../out/file to/link/evil"));
    assert_int_equal(cp_merge(from, to, &err), 0);
    assert_true(shell(
        "test ! -L to/link/evil && test ! -s to/link/evil && test -d to/link/sub && rm -r to"));
    nothing_outside_changed();
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_cp_unpack_refuses_names_that_lead_out),
        TEST(test_cp_unpack_never_follows_links),
        TEST(test_cp_unpack_refuses_what_is_no_file),
        TEST(test_cp_unpack_keeps_modes_but_no_rights),
        TEST(test_cp_unpack_limits),
        TEST(test_cp_unpack_is_removed_however_deep),
        TEST(test_cp_unpack_says_what_is_cut_or_no_archive),
        TEST(test_cp_merge_never_follows_links),
    };

    return cmocka_run_group_tests_name("client/cp_unpack", tests, NULL, NULL);
}
