/* Making and deleting checkpoints, limits, and what a new daemon finds. */
#include "tests/node/sandbox/checkpoint_fixture.h"

/* ---- making ------------------------------------------------------------------------- */

static void test_becomes_ready(void **state)
{
    struct fixture *fix = *state;
    struct node_manager_counts counts = {0};
    struct node_checkpoint *checkpoint = begin(fix, "first", false);

    assert_int_equal(strlen(checkpoint->id), 36);
    assert_string_equal(checkpoint->sandbox_id, "sb-00000001");
    assert_string_equal(checkpoint->spec.envs.items[1].value, "2");
    assert_int_equal(fix->snapshot_kind, SANDBOX_SNAPSHOT_FULL);
    assert_string_equal(list(fix), "first:processing");
    assert_ptr_equal(node_checkpoint_find(fix->manager, ORG, checkpoint->id), checkpoint);
    assert_null(node_checkpoint_find(fix->manager, "org-other", checkpoint->id));
    answer_snapshot(fix, 'a');
    assert_int_equal(checkpoint->status, NODE_CHECKPOINT_PROCESSING);
    RUN_UNTIL(fix, checkpoint->status == NODE_CHECKPOINT_READY);
    assert_int_equal(checkpoint->size_bytes, 8192 + 1000 + 65536);
    assert_int_equal(strlen(checkpoint->manifest), 64);
    assert_int_equal(count_manifests(fix), 1);
    assert_int_equal(count_layers(fix), 3);
    checkpoints_count(fix->manager, &counts);
    assert_int_equal(counts.checkpoints, 1);
    assert_int_equal(counts.checkpoints_processing, 0);
}

static void test_newest_first_and_foreign_ones_hidden(void **state)
{
    struct fixture *fix = *state;
    struct names names = {0};

    (void)make(fix, "one", 'a');
    (void)make(fix, "two", 'b');
    assert_string_equal(list(fix), "two:ready one:ready");
    node_checkpoint_each(fix->manager, "org-other", "sb-00000001", add_name, &names);
    node_checkpoint_each(fix->manager, ORG, "sb-00000002", add_name, &names);
    assert_string_equal(names.text, "");
}

static void test_disk_only(void **state)
{
    struct fixture *fix = *state;
    struct node_checkpoint *checkpoint = begin(fix, "disk", true);

    assert_int_equal(fix->snapshot_kind, SANDBOX_SNAPSHOT_DISK);
    answer_snapshot(fix, 'a');
    RUN_UNTIL(fix, checkpoint->status == NODE_CHECKPOINT_READY);
    assert_true(checkpoint->disk_only);
    assert_int_equal(count_layers(fix), 1);
}

static void test_bad_names(void **state)
{
    struct fixture *fix = *state;
    static const char *const bad[] = {"", "a\nb", "\x7f", "\xff", "a\xc2\x85"};
    struct node_checkpoint_spec spec = {0};
    struct node_checkpoint *checkpoint;
    struct shl_err err;
    size_t i;

    for (i = 0; i < SHL_ARRAY_SIZE(bad); i++) {
        (void)snprintf(spec.name, sizeof(spec.name), "%s", bad[i]);
        assert_int_equal(try_create(fix, &spec, &checkpoint, &err), SHL_EINVALIDARG);
    }
    (void)memset(spec.name, 'x', sizeof(spec.name)); /* no terminator */
    assert_int_equal(try_create(fix, &spec, &checkpoint, &err), SHL_EINVALIDARG);
    spec.name[NODE_CHECKPOINT_NAME_MAX] = '\0';
    assert_int_equal(try_create(fix, &spec, &checkpoint, &err), 0);
    assert_int_equal(fix->snapshots, 1);
}

static void test_same_name_is_a_conflict(void **state)
{
    struct fixture *fix = *state;
    struct node_checkpoint_spec spec = {.name = "same", .disk_only = true};
    struct node_checkpoint *checkpoint;
    struct shl_err err;

    (void)make(fix, "same", 'a');
    assert_int_equal(try_create(fix, &spec, &checkpoint, &err), SHL_ECONFLICT);
    assert_string_equal(err.msg, "a checkpoint named same already exists");
}

static void test_only_of_a_running_sandbox(void **state)
{
    struct fixture *fix = *state;
    struct node_checkpoint_spec spec = {.name = "x"};
    struct node_checkpoint *checkpoint;
    struct shl_err err;
    int i;

    for (i = NODE_SANDBOX_CREATING; i <= NODE_SANDBOX_ERROR; i++) {
        if (i != NODE_SANDBOX_RUNNING) {
            fix->sandbox->pub.state = (enum node_sandbox_state)i;
            assert_int_equal(try_create(fix, &spec, &checkpoint, &err), SHL_EBADSTATE);
            assert_string_equal(err.msg, "sandbox is not running");
        }
    }
    assert_int_equal(fix->snapshots, 0);
    assert_string_equal(list(fix), "");
}

static void test_limits(void **state)
{
    struct fixture *fix = *state;
    struct node_checkpoint_spec spec = {.name = "more"};
    struct node_checkpoint *checkpoint = NULL;
    struct shl_err err;
    char name[16];
    int i;

    for (i = 0; i < NODE_CHECKPOINTS_FULL_MAX; i++) {
        (void)snprintf(name, sizeof(name), "n%d", i);
        checkpoint = make(fix, name, (char)('a' + i));
    }
    assert_int_equal(try_create(fix, &spec, &checkpoint, &err), SHL_EBADSTATE);
    assert_non_null(strstr(err.msg, "maximum"));
    /* the other kind has its own limit */
    for (i = 0; i < NODE_CHECKPOINTS_DISK_MAX; i++) {
        (void)snprintf(name, sizeof(name), "d%d", i);
        checkpoint = begin(fix, name, true);
        answer_snapshot(fix, 'd');
        RUN_UNTIL(fix, checkpoint->status == NODE_CHECKPOINT_READY);
    }
    spec.disk_only = true;
    assert_int_equal(try_create(fix, &spec, &checkpoint, &err), SHL_EBADSTATE);
    assert_non_null(strstr(err.msg, "maximum"));
}

static void test_retention_keeps_the_newest(void **state)
{
    struct fixture *fix = *state;
    struct node_checkpoint_spec spec = {.name = "new", .keep_max = 2};
    struct node_checkpoint *checkpoint;
    struct shl_err err;

    (void)make(fix, "a", 'a');
    (void)make(fix, "b", 'b');
    (void)make(fix, "c", 'c');
    assert_int_equal(try_create(fix, &spec, &checkpoint, &err), 0);
    /* nothing goes before the new one is safe */
    assert_string_equal(list(fix), "new:processing c:ready b:ready a:ready");
    answer_snapshot(fix, 'n');
    RUN_UNTIL(fix, checkpoint->status == NODE_CHECKPOINT_READY);
    assert_string_equal(list(fix), "new:ready c:ready");
    assert_int_equal(count_layers(fix), 6);
    assert_int_equal(count_manifests(fix), 2);
}

static void test_retention_works_at_the_limit(void **state)
{
    struct fixture *fix = *state;
    struct node_checkpoint_spec spec = {.name = "new", .keep_max = 1000};
    struct node_checkpoint *checkpoint;
    struct shl_err err;
    char name[16];
    int i;

    for (i = 0; i < NODE_CHECKPOINTS_FULL_MAX; i++) {
        (void)snprintf(name, sizeof(name), "n%d", i);
        (void)make(fix, name, (char)('a' + i));
    }
    assert_int_equal(try_create(fix, &spec, &checkpoint, &err), 0);
    answer_snapshot(fix, 'z');
    RUN_UNTIL(fix, checkpoint->status == NODE_CHECKPOINT_READY);
    assert_string_equal(list(fix), "new:ready n9:ready n8:ready n7:ready n6:ready n5:ready "
                                   "n4:ready n3:ready n2:ready n1:ready");
}

static void test_failed_snapshot(void **state)
{
    struct fixture *fix = *state;
    struct node_checkpoint *checkpoint = begin(fix, "x", false);

    fail_snapshot(fix, "no space is left for the memory");
    assert_int_equal(checkpoint->status, NODE_CHECKPOINT_FAILED);
    assert_string_equal(checkpoint->error, "no space is left for the memory");
    assert_true(checkpoint->failed_at_ms > 0);
    /* its name is free again */
    (void)make(fix, "x", 'a');
    assert_string_equal(list(fix), "x:ready x:failed");
}

static void test_refused_snapshot_leaves_nothing(void **state)
{
    struct fixture *fix = *state;
    struct node_checkpoint_spec spec = {.name = "x"};
    struct node_checkpoint *checkpoint;
    struct shl_err err;

    fix->snapshot_rc = SHL_EBADSTATE;
    assert_int_equal(try_create(fix, &spec, &checkpoint, &err), SHL_EBADSTATE);
    assert_string_equal(list(fix), "");
    fix->snapshot_rc = 0;
    restart(fix);
    assert_string_equal(list(fix), "");
}

static void test_failed_ones_are_bounded(void **state)
{
    struct fixture *fix = *state;
    char name[16];
    int i;

    for (i = 0; i < CHECKPOINTS_FAILED_MAX + 3; i++) {
        (void)snprintf(name, sizeof(name), "f%d", i);
        (void)begin(fix, name, false);
        fail_snapshot(fix, "because");
    }
    assert_string_equal(list(fix), "f12:failed f11:failed f10:failed f9:failed f8:failed f7:failed "
                                   "f6:failed f5:failed f4:failed f3:failed");
}

static void test_failed_ingest(void **state)
{
    struct fixture *fix = *state;
    struct node_checkpoint *checkpoint = begin(fix, "x", false);

    fix->store_rc = -ENOSPC;
    answer_snapshot(fix, 'a');
    RUN_UNTIL(fix, checkpoint->status == NODE_CHECKPOINT_FAILED);
    assert_string_equal(checkpoint->error, "cannot write a segment: No space left on device");
    assert_int_equal(checkpoint->size_bytes, 0);
    assert_int_equal(count_layers(fix), 0);
    fix->store_rc = 0;
    (void)make(fix, "y", 'b');
    assert_int_equal(count_manifests(fix), 1);
}

/* A real full file system below the store. */
static void test_no_space_in_the_store(void **state)
{
    struct fixture *fix = *state;
    struct node_checkpoint *checkpoint;
    char path[256], fill[4096];
    int fd;

    if (geteuid() != 0) {
        skip();
    }
    close_set(fix);
    (void)snprintf(path, sizeof(path), "%s/checkpoints", fix->data);
    if (mount("tmpfs", path, "tmpfs", 0, "size=1m") < 0) {
        open_set(fix);
        skip();
    }
    open_set(fix);
    (void)snprintf(path, sizeof(path), "%s/checkpoints/fill", fix->data);
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    (void)memset(fill, 'f', sizeof(fill));
    while (write(fd, fill, sizeof(fill)) > 0) {
    }
    checkpoint = begin(fix, "x", false);
    answer_snapshot(fix, 'a');
    RUN_UNTIL(fix, checkpoint->status == NODE_CHECKPOINT_FAILED);
    assert_non_null(strstr(checkpoint->error, "No space left"));
    /* with room again it works in the same daemon */
    assert_int_equal(ftruncate(fd, 0), 0);
    (void)close(fd);
    (void)make(fix, "x", 'a');
    close_set(fix);
    (void)snprintf(path, sizeof(path), "%s/checkpoints", fix->data);
    assert_int_equal(umount2(path, MNT_DETACH), 0);
}

/* ---- deleting ----------------------------------------------------------------------- */

static void test_delete_ready(void **state)
{
    struct fixture *fix = *state;

    (void)make(fix, "keep", 'a');
    delete_now(fix, make(fix, "go", 'b'));
    assert_string_equal(list(fix), "keep:ready");
    assert_int_equal(count_layers(fix), 3);
    assert_int_equal(count_manifests(fix), 1);
    restart(fix);
    assert_string_equal(list(fix), "keep:ready");
}

static void test_delete_before_the_snapshot(void **state)
{
    struct fixture *fix = *state;

    delete_now(fix, begin(fix, "go", false));
    answer_snapshot(fix, 'a');
    assert_int_equal(count_layers(fix), 0);
    assert_int_equal(count_manifests(fix), 0);
}

static void test_delete_before_a_failed_snapshot(void **state)
{
    struct fixture *fix = *state;

    delete_now(fix, begin(fix, "go", false));
    fail_snapshot(fix, "because");
    assert_string_equal(list(fix), "");
    restart(fix);
    assert_string_equal(list(fix), "");
}

static void test_delete_while_ingested(void **state)
{
    struct fixture *fix = *state;
    struct node_checkpoint *checkpoint = begin(fix, "go", false);

    hold_ingests(fix, true);
    answer_snapshot(fix, 'a');
    RUN_UNTIL(fix, fix->manager->checkpoints->ingesting == 1);
    delete_now(fix, checkpoint);
    hold_ingests(fix, false);
    assert_int_equal(count_manifests(fix), 0);
    assert_int_equal(count_layers(fix), 0);
}

static void test_delete_while_queued(void **state)
{
    struct fixture *fix = *state;
    struct node_checkpoint *first = begin(fix, "first", false);
    struct node_checkpoint *second;

    hold_ingests(fix, true);
    answer_snapshot(fix, 'a');
    RUN_UNTIL(fix, fix->manager->checkpoints->ingesting == 1);
    second = begin(fix, "second", false);
    answer_snapshot(fix, 'b');
    delete_now(fix, second);
    hold_ingests(fix, false);
    RUN_UNTIL(fix, first->status == NODE_CHECKPOINT_READY);
    assert_int_equal(count_manifests(fix), 1);
    assert_int_equal(count_layers(fix), 3);
}

static void test_newest_is_ingested_first(void **state)
{
    struct fixture *fix = *state;
    struct node_checkpoint *checkpoints[3];
    int i;

    hold_ingests(fix, true);
    for (i = 0; i < 3; i++) {
        char name[2] = {(char)('a' + i), '\0'};

        checkpoints[i] = begin(fix, name, false);
        answer_snapshot(fix, (char)('a' + i));
        RUN_UNTIL(fix, fix->manager->checkpoints->ingesting == 1);
    }
    hold_ingests(fix, false);
    for (i = 0; i < 3; i++) {
        RUN_UNTIL(fix, checkpoints[i]->status == NODE_CHECKPOINT_READY);
    }
    assert_string_equal(fix->ingested, "acb"); /* a was under way when the others came */
}

/* ---- a new daemon ------------------------------------------------------------------- */

static void test_ready_survives_a_restart(void **state)
{
    struct fixture *fix = *state;
    struct node_checkpoint *checkpoint = make(fix, "x", 'a');
    char id[NODE_CHECKPOINT_ID_SIZE], manifest[65];

    (void)snprintf(id, sizeof(id), "%s", checkpoint->id);
    (void)snprintf(manifest, sizeof(manifest), "%s", checkpoint->manifest);
    restart(fix);
    checkpoint = node_checkpoint_find(fix->manager, ORG, id);
    assert_non_null(checkpoint);
    assert_int_equal(checkpoint->status, NODE_CHECKPOINT_READY);
    assert_string_equal(checkpoint->manifest, manifest);
    assert_int_equal(checkpoint->size_bytes, 8192 + 1000 + 65536);
    assert_string_equal(checkpoint->name, "x");
    assert_int_equal(checkpoint->spec.cpus, 2);
    assert_int_equal(checkpoint->spec.metadata.count, 1);
    assert_int_equal(count_layers(fix), 3);
    assert_int_equal(count_manifests(fix), 1);
}

static void test_restart_before_the_snapshot(void **state)
{
    struct fixture *fix = *state;

    (void)begin(fix, "x", false);
    restart(fix);
    assert_string_equal(list(fix), "x:failed");
    restart(fix);
    assert_string_equal(list(fix), "x:failed");
}

static void test_restart_while_queued(void **state)
{
    struct fixture *fix = *state;
    struct node_checkpoint *checkpoint;
    char id[NODE_CHECKPOINT_ID_SIZE];

    hold_ingests(fix, true);
    (void)begin(fix, "busy", false);
    answer_snapshot(fix, 'a');
    RUN_UNTIL(fix, fix->manager->checkpoints->ingesting == 1);
    checkpoint = begin(fix, "x", false);
    (void)snprintf(id, sizeof(id), "%s", checkpoint->id);
    answer_snapshot(fix, 'b');
    restart(fix);
    /* the one that was cut off too */
    RUN_UNTIL(fix, strcmp(list(fix), "x:ready busy:ready") == 0);
    assert_non_null(node_checkpoint_find(fix->manager, ORG, id));
    assert_int_equal(count_layers(fix), 6);
    assert_int_equal(count_manifests(fix), 2);
}

/* Died between the commit of the manifest and the record: the same manifest comes again. */
static void test_ingest_is_idempotent(void **state)
{
    struct fixture *fix = *state;
    struct node_checkpoint *checkpoint = make(fix, "x", 'a');
    char id[NODE_CHECKPOINT_ID_SIZE], manifest[65];

    (void)snprintf(id, sizeof(id), "%s", checkpoint->id);
    (void)snprintf(manifest, sizeof(manifest), "%s", checkpoint->manifest);
    checkpoint->status = NODE_CHECKPOINT_PROCESSING;
    checkpoint->manifest[0] = '\0';
    assert_int_equal(checkpoint_save(checkpoint_of(checkpoint), NULL), 0);
    restart(fix);
    checkpoint = node_checkpoint_find(fix->manager, ORG, id);
    RUN_UNTIL(fix, checkpoint->status == NODE_CHECKPOINT_READY);
    assert_string_equal(checkpoint->manifest, manifest);
    assert_int_equal(count_manifests(fix), 1);
}

/* Died between the deletion of a record and that of its manifest. */
static void test_manifest_without_record_goes(void **state)
{
    struct fixture *fix = *state;
    struct node_checkpoint *checkpoint = make(fix, "x", 'a');

    (void)make(fix, "keep", 'b');
    assert_int_equal(node_store_delete(fix->store, CHECKPOINT_KIND, checkpoint->id, NULL), 0);
    restart(fix);
    assert_string_equal(list(fix), "keep:ready");
    assert_int_equal(count_manifests(fix), 1);
    assert_int_equal(count_layers(fix), 3);
}

static void test_missing_manifest_is_stored_again(void **state)
{
    struct fixture *fix = *state;
    struct node_checkpoint *checkpoint = make(fix, "x", 'a');
    char id[NODE_CHECKPOINT_ID_SIZE];
    struct ckpt_id manifest;

    (void)snprintf(id, sizeof(id), "%s", checkpoint->id);
    assert_true(manifest_id_parse(checkpoint->manifest, &manifest));
    assert_int_equal(ckpt_manifest_delete(fix->manager->checkpoints->store, &manifest, NULL), 0);
    restart(fix);
    assert_string_equal(list(fix), "x:ready");
    assert_int_equal(count_manifests(fix), 1);
    checkpoint = node_checkpoint_find(fix->manager, ORG, id);
    assert_true(manifest_id_parse(checkpoint->manifest, &manifest));
    assert_int_equal(ckpt_manifest_delete(fix->manager->checkpoints->store, &manifest, NULL), 0);
}

/* Bits rot on the disk: the scrub finds them and the layers heal them. */
static void test_damaged_chunk_is_stored_again(void **state)
{
    struct fixture *fix = *state;
    struct node_checkpoint *checkpoint = make(fix, "x", 'a');
    struct checkpoints *set = fix->manager->checkpoints;
    char path[SANDBOX_PATH_MAX];
    struct ckpt_store_stats stats;
    struct answer answer;
    uint8_t bytes[1];
    int fd;

    (void)snprintf(path, sizeof(path), "%s/checkpoints/segments/00000001", fix->data);
    fd = open(path, O_RDWR | O_CLOEXEC);
    /* behind the headers of the file and of its first chunk */
    assert_int_equal(shl_pread_full(fd, bytes, sizeof(bytes), 140), 0);
    bytes[0] ^= 0x10;
    assert_int_equal(shl_pwrite_full(fd, bytes, sizeof(bytes), 140), 0);
    (void)close(fd);
    fix->ingested[0] = '\0';
    set->scrubbed_at_ms -= CHECKPOINT_SCRUB_MS;
    checkpoints_housekeeping(fix->manager);
    RUN_UNTIL(fix, set->upkeep == NULL);
    idle(fix);
    assert_string_equal(fix->ingested, "a");
    ckpt_store_stats(set->store, &stats);
    assert_int_equal(stats.damaged, 0);
    assert_string_equal(list(fix), "x:ready");
    layer_path(fix, &checkpoint_of(checkpoint)->stack.disk[0], LAYERS_DISK, path);
    assert_int_equal(unlink(path), 0);
    begin_fork(fix, checkpoint, &answer);
    RUN_UNTIL(fix, fix->fork_count == 1 || answer.done);
    assert_int_equal(fix->fork_count, 1);
}

static void test_damaged_record_stops_the_daemon(void **state)
{
    struct fixture *fix = *state;
    struct shl_err err = {0};

    assert_int_equal(
        node_store_put(fix->store, CHECKPOINT_KIND, "x", shl_bytes_of("\xc1", 1), NULL), 0);
    close_set(fix);
    assert_int_equal(try_load(fix, &err), SHL_ECORRUPT);
    assert_string_equal(err.msg, "the record of checkpoint x is damaged");
    drop_manager(fix);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_becomes_ready),
        TEST(test_newest_first_and_foreign_ones_hidden),
        TEST(test_disk_only),
        TEST(test_bad_names),
        TEST(test_same_name_is_a_conflict),
        TEST(test_only_of_a_running_sandbox),
        TEST(test_limits),
        TEST(test_retention_keeps_the_newest),
        TEST(test_retention_works_at_the_limit),
        TEST(test_failed_snapshot),
        TEST(test_refused_snapshot_leaves_nothing),
        TEST(test_failed_ones_are_bounded),
        TEST(test_failed_ingest),
        TEST(test_no_space_in_the_store),
        TEST(test_delete_ready),
        TEST(test_delete_before_the_snapshot),
        TEST(test_delete_before_a_failed_snapshot),
        TEST(test_delete_while_ingested),
        TEST(test_delete_while_queued),
        TEST(test_newest_is_ingested_first),
        TEST(test_ready_survives_a_restart),
        TEST(test_restart_before_the_snapshot),
        TEST(test_restart_while_queued),
        TEST(test_ingest_is_idempotent),
        TEST(test_manifest_without_record_goes),
        TEST(test_missing_manifest_is_stored_again),
        TEST(test_damaged_chunk_is_stored_again),
        TEST(test_damaged_record_stops_the_daemon),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
