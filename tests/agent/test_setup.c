/* What the node may ask of a guest, and the sizes of a guest: decoding, processors in a
 * folder like sysfs, memory maps. */
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

#include "agent/setup.h"
#include "base/io.h"
#include "base/mp.h"

#define MIB (1ull << 20)

/* ---- decoding -------------------------------------------------------------------- */

static int decode(const struct shl_buf *buf, struct agent_setup *setup, struct shl_err *err)
{
    struct shl_mp_doc doc;
    int rc;

    assert_int_equal(shl_mp_parse(&doc, shl_buf_bytes(buf)), 0);
    rc = agent_setup_decode(setup, doc.root, err);
    shl_mp_release(&doc); /* decoding copies */
    return rc;
}

static int decode_text(const char *key, const char *value, struct agent_setup *setup)
{
    struct shl_mp_writer w;
    struct shl_err err = {0};
    struct shl_buf buf;
    int rc;

    shl_buf_init(&buf, 4096);
    shl_mp_writer_init(&w, &buf);
    shl_mp_map(&w);
    shl_mp_kv_str(&w, key, value);
    shl_mp_end(&w);
    assert_int_equal(shl_mp_done(&w), 0);
    rc = decode(&buf, setup, &err);
    assert_int_equal(err.code, rc);
    assert_int_equal(rc < 0, err.msg[0] != '\0');
    agent_setup_release(setup);
    shl_buf_release(&buf);
    return rc;
}

static void test_setup_mac_is_checked(void **state)
{
    static const char *const bad[] = {"",
                                      "02:00:00:00:00",
                                      "02:00:00:00:00:0",
                                      "02:00:00:00:00:00:00",
                                      "02-00-00-00-00-00",
                                      "02:00:00:00:00:0g",
                                      "02:00:00:00:000:0",
                                      "01:00:00:00:00:00", /* a group of devices */
                                      "ff:ff:ff:ff:ff:ff"};
    static const uint8_t want[] = {0x02, 0xAB, 0xcd, 0x00, 0x10, 0xff};
    struct agent_setup setup;
    size_t i;

    (void)state;
    assert_int_equal(decode_text("mac", "02:AB:cd:00:10:ff", &setup), 0);
    assert_true(setup.net.has_mac);
    assert_memory_equal(setup.net.mac, want, sizeof(want));
    for (i = 0; i < SHL_ARRAY_SIZE(bad); i++) {
        assert_int_equal(decode_text("mac", bad[i], &setup), SHL_EINVALIDARG);
    }
}

static void test_setup_texts_are_checked(void **state)
{
    char long_name[80];
    struct agent_setup setup;

    (void)state;
    memset(long_name, 'a', sizeof(long_name) - 1);
    long_name[sizeof(long_name) - 1] = '\0';
    assert_int_equal(decode_text("hostname", "sb-12ab.x", &setup), 0);
    assert_string_equal(setup.hostname, "sb-12ab.x");
    assert_int_equal(decode_text("hostname", "a b", &setup), SHL_EINVALIDARG);
    assert_int_equal(decode_text("hostname", "a\nb", &setup), SHL_EINVALIDARG);
    assert_int_equal(decode_text("hostname", long_name, &setup), SHL_EINVALIDARG);
    assert_int_equal(decode_text("machine_id", "0123456789abcdef0123456789abcdef", &setup), 0);
    assert_int_equal(decode_text("machine_id", "0123456789abcdef0123456789abcde", &setup),
                     SHL_EINVALIDARG);
    assert_int_equal(decode_text("machine_id", "0123456789abcdef0123456789abcdeg", &setup),
                     SHL_EINVALIDARG);
    assert_int_equal(decode_text("cpus", "2", &setup), SHL_EINVALIDARG);
    assert_int_equal(decode_text("dns", "1.1.1.1", &setup), SHL_EINVALIDARG);
    assert_int_equal(decode_text("env", "A=1", &setup), SHL_EINVALIDARG);
    assert_int_equal(decode_text("unknown", "is ignored", &setup), 0);
}

static void test_setup_keeps_copies(void **state)
{
    static const uint8_t entropy[] = {1, 2, 3, 0, 5};
    struct shl_mp_writer w;
    struct shl_err err = {0};
    struct agent_setup setup;
    struct shl_buf buf;

    (void)state;
    shl_buf_init(&buf, 4096);
    shl_mp_writer_init(&w, &buf);
    shl_mp_map(&w);
    shl_mp_kv_bin(&w, "entropy", entropy, sizeof(entropy));
    shl_mp_kv_uint(&w, "cpus", 3);
    shl_mp_kv_uint(&w, "memory_bytes", 2048 * MIB);
    shl_mp_kv_uint(&w, "time_ms", 1700000000123ull);
    shl_mp_kv_map(&w, "env");
    shl_mp_kv_str(&w, "A", "1");
    shl_mp_end(&w);
    shl_mp_end(&w);
    assert_int_equal(shl_mp_done(&w), 0);
    assert_int_equal(decode(&buf, &setup, &err), 0);
    shl_buf_release(&buf);
    assert_int_equal(setup.entropy_len, sizeof(entropy));
    assert_memory_equal(setup.entropy, entropy, sizeof(entropy));
    assert_int_equal(setup.cpus, 3);
    assert_int_equal(setup.memory_bytes, 2048 * MIB);
    assert_int_equal(setup.time_ms, 1700000000123ull);
    assert_true(setup.has_env);
    assert_string_equal(agent_environ_get(&setup.env, "A"), "1");
    agent_setup_release(&setup);
}

static void test_setup_entropy_is_bounded(void **state)
{
    uint8_t entropy[AGENT_ENTROPY_MAX_BYTES + 1] = {0};
    struct shl_mp_writer w;
    struct shl_err err = {0};
    struct agent_setup setup;
    struct shl_buf buf;

    (void)state;
    shl_buf_init(&buf, 4096);
    shl_mp_writer_init(&w, &buf);
    shl_mp_map(&w);
    shl_mp_kv_bin(&w, "entropy", entropy, sizeof(entropy));
    shl_mp_end(&w);
    assert_int_equal(shl_mp_done(&w), 0);
    assert_int_equal(decode(&buf, &setup, &err), SHL_EINVALIDARG);
    agent_setup_release(&setup);
    shl_buf_release(&buf);
}

/* ---- processors ------------------------------------------------------------------ */

struct cpus {
    char dir[32];
};

static void write_file(const char *dir, const char *name, const char *text)
{
    char path[96];
    int fd;

    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    (void)close(fd);
}

static char read_online(const char *dir, int cpu)
{
    char path[96], byte = '?';
    int fd;

    (void)snprintf(path, sizeof(path), "%s/cpu%d/online", dir, cpu);
    fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    assert_int_equal(read(fd, &byte, 1), 1);
    (void)close(fd);
    return byte;
}

/* Four processors, of which the first cannot be switched, as on real machines. */
static int make_cpus(void **state)
{
    struct cpus *cpus = calloc(1, sizeof(*cpus));
    int i;

    assert_non_null(cpus);
    strcpy(cpus->dir, "/tmp/shoal-cpus-XXXXXX");
    assert_non_null(mkdtemp(cpus->dir));
    write_file(cpus->dir, "present", "0-3\n");
    for (i = 0; i < 4; i++) {
        char name[64];

        (void)snprintf(name, sizeof(name), "%s/cpu%d", cpus->dir, i);
        assert_int_equal(mkdir(name, 0755), 0);
        (void)snprintf(name, sizeof(name), "cpu%d/online", i);
        if (i > 0) {
            write_file(cpus->dir, name, "1\n");
        }
    }
    *state = cpus;
    return 0;
}

static int remove_cpus(void **state)
{
    struct cpus *cpus = *state;

    assert_int_equal(shl_remove_tree(cpus->dir), 0);
    free(cpus);
    return 0;
}

static void assert_online(const struct cpus *cpus, const char *want)
{
    int i;

    for (i = 1; i < 4; i++) {
        assert_int_equal(read_online(cpus->dir, i), want[i - 1]);
    }
}

static void test_cpus_first_ones_are_online(void **state)
{
    struct cpus *cpus = *state;

    assert_int_equal(agent_cpus_set(cpus->dir, 1, NULL), 0);
    assert_online(cpus, "000");
    assert_int_equal(agent_cpus_set(cpus->dir, 3, NULL), 0);
    assert_online(cpus, "110");
    assert_int_equal(agent_cpus_set(cpus->dir, 2, NULL), 0);
    assert_online(cpus, "100");
    assert_int_equal(agent_cpus_set(cpus->dir, 4, NULL), 0);
    assert_online(cpus, "111");
}

/* One that is right already is not written: that would cost milliseconds. */
static void test_cpus_right_ones_are_left_alone(void **state)
{
    struct cpus *cpus = *state;

    write_file(cpus->dir, "cpu1/online", "1 untouched");
    write_file(cpus->dir, "cpu2/online", "0 untouched");
    assert_int_equal(agent_cpus_set(cpus->dir, 2, NULL), 0);
    assert_online(cpus, "100");
    {
        struct shl_buf buf;
        char path[96];

        (void)snprintf(path, sizeof(path), "%s/cpu2/online", cpus->dir);
        shl_buf_init(&buf, 64);
        assert_int_equal(shl_read_file(path, &buf), 0);
        assert_int_equal(shl_buf_len(&buf), strlen("0 untouched"));
        shl_buf_release(&buf);
    }
}

static void test_cpus_more_than_there_are(void **state)
{
    struct cpus *cpus = *state;
    struct shl_err err = {0};

    assert_int_equal(agent_cpus_set(cpus->dir, 5, &err), SHL_EINVALIDARG);
    assert_string_equal(err.msg, "the machine has 4 processors, not 5");
    assert_int_equal(agent_cpus_set(cpus->dir, 0, &err), SHL_EINVALIDARG);
    assert_online(cpus, "111");
    write_file(cpus->dir, "present", "0\n");
    assert_int_equal(agent_cpus_set(cpus->dir, 1, &err), 0);
    assert_int_equal(agent_cpus_set(cpus->dir, 2, &err), SHL_EINVALIDARG);
    assert_int_equal(agent_cpus_set("/nonexistent", 1, &err), SHL_EINVALIDARG);
}

/* ---- memory ---------------------------------------------------------------------- */

static void test_memory_of_iomem(void **state)
{
    (void)state;
    assert_int_equal(agent_iomem_ram_bytes(""), 0);
    assert_int_equal(agent_iomem_ram_bytes("nonsense\n\n00-"), 0);
    /* A guest with a part of its virtio-mem region plugged: only what the firmware gave. */
    assert_int_equal(agent_iomem_ram_bytes("00000000-00000fff : Reserved\n"
                                           "00001000-0009fbff : System RAM\n"
                                           "00100000-1fffffff : System RAM\n"
                                           "  01000000-01e025c7 : Kernel code\n"
                                           "d0000000-d00001ff : LNRO0005:00\n"
                                           "100000000-4dfffffff : virtio5\n"
                                           "  100000000-13fffffff : System RAM (virtio_mem)\n"),
                     0x9ec00 + 0x1ff00000);
    /* One that reaches above 4 GiB. */
    assert_int_equal(agent_iomem_ram_bytes("100000000-13fffffff : System RAM\n"), 1024 * MIB);
    assert_int_equal(agent_iomem_ram_bytes("13fffffff-100000000 : System RAM\n"), 0);
    assert_int_equal(agent_iomem_ram_bytes("  100000000-13fffffff : System RAM"), 0);
}

static void test_memory_wanted_is_what_is_added(void **state)
{
    /* 512 MiB less the holes of the firmware; the kernel keeps 45 MiB of it. */
    struct agent_memory_base base = {.ram_bytes = 512 * MIB - 389120, .total_bytes = 467 * MIB};

    (void)state;
    assert_int_equal(agent_memory_wanted(&base, 512 * MIB), 467 * MIB);
    assert_int_equal(agent_memory_wanted(&base, 516 * MIB), 471 * MIB);
    assert_int_equal(agent_memory_wanted(&base, 2048 * MIB), (2048 - 45) * MIB);
    assert_int_equal(agent_memory_wanted(&base, 16384 * MIB), (16384 - 45) * MIB);
    assert_int_equal(agent_memory_wanted(&base, 128 * MIB), 467 * MIB); /* never less */
    assert_int_equal(agent_memory_wait(&base, 0, NULL), 0);
}

/* ---- boot id --------------------------------------------------------------------- */

static void test_boot_id_is_of_both(void **state)
{
    static const char kernel[] = "00112233-4455-4677-8899-aabbccddeeff";
    char one[SHL_UUID_SIZE], two[SHL_UUID_SIZE];

    (void)state;
    assert_int_equal(agent_boot_id_mix(one, kernel, "0123456789abcdef0123456789abcdef"), 0);
    assert_string_equal(one, "01326754-cdfe-4b98-89ba-efdc45762310");
    assert_int_equal(agent_boot_id_mix(two, kernel, "0123456789abcdef0123456789abcdee"), 0);
    assert_string_not_equal(one, two);
    assert_int_equal(agent_boot_id_mix(two, "10112233-4455-4677-8899-aabbccddeeff",
                                       "0123456789abcdef0123456789abcdef"),
                     0);
    assert_string_not_equal(one, two);
}

static void test_boot_id_needs_a_uuid_and_a_machine_id(void **state)
{
    static const char good[] = "00112233-4455-4677-8899-aabbccddeeff";
    char id[SHL_UUID_SIZE];

    (void)state;
    assert_int_equal(agent_boot_id_mix(id, "", "0123456789abcdef0123456789abcdef"), -EINVAL);
    assert_int_equal(agent_boot_id_mix(id, "0011223344554677-8899-aabbccddeeffxx",
                                       "0123456789abcdef0123456789abcdef"),
                     -EINVAL);
    assert_int_equal(agent_boot_id_mix(id, good, "0123"), -EINVAL);
    assert_int_equal(agent_boot_id_mix(id, good, ""), -EINVAL);
}

/* ---- trust ----------------------------------------------------------------------- */

#define PEM_A "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
#define PEM_B "-----BEGIN CERTIFICATE-----\nBBBB\n-----END CERTIFICATE-----\n"

static char *text_below(const char *root, const char *path)
{
    char full[256];
    struct shl_buf buf;
    char *text;

    (void)snprintf(full, sizeof(full), "%s%s", root, path);
    shl_buf_init(&buf, 65536);
    assert_int_equal(shl_read_file(full, &buf), 0);
    text = shl_bytes_dup_str(shl_buf_bytes(&buf));
    shl_buf_release(&buf);
    return text;
}

static void expect_text(const char *root, const char *path, const char *wanted)
{
    char *text = text_below(root, path);

    assert_string_equal(text, wanted);
    free(text);
}

static void test_trust_is_added_once_and_where_programs_look(void **state)
{
    struct agent_trust trust = {.count = 2};
    char root[] = "/tmp/shoal-trust-XXXXXX", path[256];
    int i;

    (void)state;
    assert_non_null(mkdtemp(root));
    (void)snprintf(path, sizeof(path), "%s" AGENT_TRUST_FOLDER, root);
    assert_int_equal(shl_mkdir_all(path, 0755), 0);
    (void)snprintf(path, sizeof(path), "%s" AGENT_TRUST_BUNDLE, root);
    assert_int_equal(shl_write_file_atomic(path, "system", 6, 0644), 0);
    (void)snprintf(path, sizeof(path), "%s" AGENT_TRUST_FOLDER "/0123abcd.0", root);
    assert_int_equal(shl_write_file_atomic(path, "another", 7, 0644), 0);
    trust.list[0] = (struct agent_trusted){"0123abcd", strdup(PEM_A)};
    trust.list[1] = (struct agent_trusted){"ffffffff", strdup(PEM_B)};
    for (i = 0; i < 2; i++) {
        assert_int_equal(agent_trust_apply(&trust, root, NULL), 0);
        expect_text(root, AGENT_TRUST_BUNDLE, "system\n" PEM_A PEM_B);
        expect_text(root, AGENT_TRUST_SOURCE "/shoal-0123abcd.crt", PEM_A);
        expect_text(root, AGENT_TRUST_FOLDER "/0123abcd.0", "another");
        expect_text(root, AGENT_TRUST_FILE, PEM_A PEM_B);
        (void)snprintf(path, sizeof(path), "%s" AGENT_TRUST_FOLDER "/0123abcd.1", root);
        assert_int_equal(readlink(path, (char[256]){0}, 255),
                         strlen(AGENT_TRUST_SOURCE "/shoal-0123abcd.crt"));
        (void)snprintf(path, sizeof(path), "%s" AGENT_TRUST_FOLDER "/0123abcd.2", root);
        assert_int_equal(access(path, F_OK), -1);
    }
    agent_trust_release(&trust);
    assert_int_equal(shl_remove_tree(root), 0);
}

static int decode_trust(const char *hash, const char *pem)
{
    struct agent_setup setup;
    struct shl_mp_writer w;
    struct shl_err err = {0};
    struct shl_buf buf;
    int rc;

    shl_buf_init(&buf, 200000);
    shl_mp_writer_init(&w, &buf);
    shl_mp_map(&w);
    shl_mp_kv_array(&w, "trust");
    shl_mp_map(&w);
    shl_mp_kv_str(&w, "hash", hash);
    shl_mp_kv_str(&w, "pem", pem);
    shl_mp_end(&w);
    shl_mp_end(&w);
    shl_mp_end(&w);
    assert_int_equal(shl_mp_done(&w), 0);
    rc = decode(&buf, &setup, &err);
    assert_int_equal(rc < 0, err.msg[0] != '\0');
    agent_setup_release(&setup);
    shl_buf_release(&buf);
    return rc;
}

static void test_trust_names_no_other_file(void **state)
{
    char *large = calloc(1, AGENT_TRUST_BYTES + 2);

    (void)state;
    memset(large, 'a', AGENT_TRUST_BYTES + 1);
    assert_int_equal(decode_trust("0123abcd", PEM_A), 0);
    assert_int_equal(decode_trust("../../ab", PEM_A), SHL_EINVALIDARG);
    assert_int_equal(decode_trust("0123abc", PEM_A), SHL_EINVALIDARG);
    assert_int_equal(decode_trust("0123abcd", large), SHL_EINVALIDARG);
    free(large);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_trust_is_added_once_and_where_programs_look),
        cmocka_unit_test(test_trust_names_no_other_file),
        cmocka_unit_test(test_setup_mac_is_checked),
        cmocka_unit_test(test_setup_texts_are_checked),
        cmocka_unit_test(test_setup_keeps_copies),
        cmocka_unit_test(test_setup_entropy_is_bounded),
        cmocka_unit_test(test_boot_id_is_of_both),
        cmocka_unit_test(test_boot_id_needs_a_uuid_and_a_machine_id),
        cmocka_unit_test_setup_teardown(test_cpus_first_ones_are_online, make_cpus, remove_cpus),
        cmocka_unit_test_setup_teardown(test_cpus_right_ones_are_left_alone, make_cpus,
                                        remove_cpus),
        cmocka_unit_test_setup_teardown(test_cpus_more_than_there_are, make_cpus, remove_cpus),
        cmocka_unit_test(test_memory_of_iomem),
        cmocka_unit_test(test_memory_wanted_is_what_is_added),
    };

    return cmocka_run_group_tests_name("agent/setup", tests, NULL, NULL);
}
