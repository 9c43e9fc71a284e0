/* node/replica: the disk of the node that fetches is full. A tmpfs in a mount namespace of its
 * own; skipped where namespaces are not allowed. */
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/checkpoint/small_disk.h"
#include "tests/node/replica/kit.h"

static const int from_1[] = {1, 0};

/* The fetch that meets it ends and says why; another one fits again after a collection. */
static void test_full_disk_ends_the_fetch_alone(void **state)
{
    struct kit *kit = *state;
    struct kit_fetch *f = kit->fetches;
    struct ckpt_id large, small;

    kit_open(kit, LIE_NONE, LIE_NONE);
    large = add_checkpoint(kit->nodes[1].store, 0, 1500); /* 32 MiB do not compress */
    small = add_checkpoint(kit->nodes[1].store, 5000, 40);
    assert_int_equal(kit_fetch(kit, f, &large, from_1), -ENOSPC);
    assert_non_null(strstr(f->msg, "space"));
    assert_int_equal(kit_stats(kit).held_bytes, 0);
    assert_int_equal(kit_stats(kit).fetch.jobs, 0);
    assert_int_equal(count_manifests(kit->nodes[0].store), 0);
    assert_true(collect(kit->nodes[0].store).swept_chunks > 100);
    assert_int_equal(kit_fetch(kit, f, &small, from_1), 0);
    assert_true(is_readable(kit->nodes[0].store, &small, 5000, 40));
}

static int setup(void **state)
{
    struct kit *kit = malloc(sizeof(*kit));
    char path[128];

    kit_setup(kit);
    snprintf(path, sizeof(path), "%s/0", kit->dir);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(mount("none", path, "tmpfs", 0, DISK_OPTIONS), 0);
    *state = kit;
    return 0;
}

static int teardown(void **state)
{
    struct kit *kit = *state;
    char path[128];

    snprintf(path, sizeof(path), "%s/0", kit->dir);
    assert_int_equal(umount2(path, MNT_DETACH), 0); /* gone when the store is closed */
    kit_teardown(kit);
    free(kit);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_full_disk_ends_the_fetch_alone, setup, teardown),
    };

    if (!can_mount()) {
        printf("skipped: this needs a mount namespace (run as root)\n");
        return 77;
    }
    return cmocka_run_group_tests_name("node/replica_full", tests, NULL, NULL);
}
