#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "node/image/actions.h"
#include "node/image/row.h"

static int parse(const char *text, struct image_manifest *ret, struct shl_err *err)
{
    json_error_t why;
    json_t *json = json_loads(text, JSON_ALLOW_NUL, &why);
    int rc;

    if (!json) {
        fail_msg("%s: %s", why.text, text);
    }
    *err = (struct shl_err){0};
    rc = image_manifest_parse(json, ret, err);
    json_decref(json);
    return rc;
}

static void good(const char *text, struct image_manifest *ret)
{
    struct shl_err err;

    if (parse(text, ret, &err) != 0) {
        fail_msg("%s: %s", err.msg, text);
    }
}

static void refused(const char *text, const char *part)
{
    struct image_manifest manifest;
    struct shl_err err;

    assert_int_equal(parse(text, &manifest, &err), SHL_EINVALIDARG);
    if (!strstr(err.msg, part)) {
        fail_msg("\"%s\" is not in: %s", part, err.msg);
    }
}

#define STEP(step) "{\"base\":\"base\",\"steps\":[" step "]}"

/* The values are those of json.dumps(..., sort_keys=True, separators=(",", ":")). */
static void test_manifest_hash_is_that_of_canonical_json(void **state)
{
    struct image_manifest manifest;

    (void)state;
    good("{\"steps\":[{\"type\":\"apt_install\",\"args\":{\"packages\":[\"jq\",\"curl\"]}},"
         "{\"type\":\"run\",\"args\":{\"commands\":[\"echo \\\"a\\\\b\\\" > \\/tmp/x\","
         "\"printf '\\t\\u001B'\"]}}],\"base\":\"ubuntu\",\"builderMemoryMB\":2048,\"name\":\"n\"}",
         &manifest);
    assert_string_equal(manifest.hash,
                        "e4d47cf8db23bafecd6fca6861c10cd8dba4878f05bd69404798a84318c0696f");
    assert_string_equal(manifest.steps[0].hash,
                        "564f33a933c1d57eb5d362f9dcfda013a0099cb28014c9b08a759848ff6b4584");
    assert_string_equal(manifest.steps[1].hash, manifest.hash);
    assert_string_equal(manifest.name, "n");
    assert_int_equal(manifest.builder_mb, 2048);
    image_manifest_release(&manifest);
    good("{}", &manifest);
    assert_string_equal(manifest.hash,
                        "485f603ddf675cfc9b285fed0d9d5e85c4c09c66e8cb4fc0cc0720acc08874ef");
    assert_int_equal(manifest.runtime_mb, IMAGE_RUNTIME_MB);
    image_manifest_release(&manifest);
}

static void test_manifest_flat_steps_are_the_same_image(void **state)
{
    struct image_manifest flat, nested;

    (void)state;
    good(STEP("{\"type\":\"run\",\"commands\":[\"true\"]}"), &flat);
    good(STEP("{\"type\":\"run\",\"args\":{\"commands\":[\"true\"]}}"), &nested);
    assert_string_equal(flat.hash, nested.hash);
    image_manifest_release(&flat);
    image_manifest_release(&nested);
}

static void test_manifest_order_counts(void **state)
{
    struct image_manifest one, other;

    (void)state;
    good(STEP("{\"type\":\"workdir\",\"path\":\"/a\"},{\"type\":\"workdir\",\"path\":\"/b\"}"),
         &one);
    good(STEP("{\"type\":\"workdir\",\"path\":\"/b\"},{\"type\":\"workdir\",\"path\":\"/a\"}"),
         &other);
    assert_string_not_equal(one.hash, other.hash);
    assert_string_equal(image_manifest_workdir(&one, 2), "/b");
    assert_string_equal(image_manifest_workdir(&one, 1), "/a");
    assert_null(image_manifest_workdir(&one, 0));
    image_manifest_release(&one);
    image_manifest_release(&other);
}

static void test_manifest_what_is_wrong_is_said(void **state)
{
    (void)state;
    refused("[]", "image must be an object");
    refused("{\"steps\":{}}", "array");
    refused("{\"steps\":[1]}", "step 0 must be an object");
    refused(STEP("{\"type\":\"docker\"}"), "unknown step type: docker");
    refused(STEP("{\"type\":\"run\",\"args\":[]}"), "args must be an object");
    refused(STEP("{\"type\":\"run\",\"args\":{\"commands\":\"ls\"}}"), "commands must be an array");
    refused(STEP("{\"type\":\"run\",\"args\":{\"commands\":[1]}}"), "strings only");
    refused(STEP("{\"type\":\"run\",\"args\":{\"commands\":[]}}"), "1 to");
    refused(STEP("{\"type\":\"apt_install\",\"args\":{\"packages\":[\" \"]}}"), "empty");
    refused(STEP("{\"type\":\"env\",\"args\":{\"vars\":{\"A B\":\"x\"}}}"),
            "\"A B\" is not a name");
    refused(STEP("{\"type\":\"env\",\"args\":{\"vars\":{\"A\":1}}}"), "must be a string");
    refused(STEP("{\"type\":\"workdir\",\"args\":{\"path\":\"tmp\"}}"), "absolute");
    refused(STEP("{\"type\":\"workdir\"}"), "path is required");
    refused(STEP("{\"type\":\"add_file\",\"args\":{\"path\":\"/a/\",\"content\":\"\"}}"),
            "name a file");
    refused(STEP("{\"type\":\"add_file\",\"args\":{\"path\":\"/a\",\"content\":\"%%%\"}}"),
            "not base64");
    refused(STEP("{\"type\":\"add_file\",\"args\":{\"path\":\"/a\"}}"), "must be a string");
    refused(STEP("{\"type\":\"add_file\",\"path\":\"/a\",\"content\":\"\",\"encoding\":\"rot13\"}"),
            "encoding must be");
    refused(STEP("{\"type\":\"add_dir\",\"args\":{\"path\":\"/a\",\"files\":[{\"relativePath\":"
                 "\"x/../../y\",\"content\":\"\"}]}}"),
            "without \"..\"");
    refused(STEP("{\"type\":\"add_dir\",\"args\":{\"path\":\"/a\",\"files\":[{\"relativePath\":"
                 "\"..\\\\y\",\"content\":\"\"}]}}"),
            "without \"..\"");
    refused(STEP("{\"type\":\"add_dir\",\"args\":{\"path\":\"/a\",\"files\":[{\"relativePath\":"
                 "\"/y\",\"content\":\"\"}]}}"),
            "relativePath");
    refused("{\"base\":\"../x\"}", "template not found");
    refused("{\"base\":7}", "base must be a string");
    refused("{\"builderMemoryMB\":\"4\"}", "number of MB");
    refused("{\"name\":\"a/b\"}", "name of a snapshot");
}

static void test_manifest_text_with_a_zero_byte_is_refused(void **state)
{
    (void)state;
    refused(STEP("{\"type\":\"add_file\",\"args\":{\"path\":\"/a\\u0000b\",\"content\":\"\"}}"),
            "zero byte");
    refused(STEP("{\"type\":\"env\",\"args\":{\"vars\":{\"A\":\"x\\u0000y\"}}}"), "zero byte");
    refused(STEP("{\"type\":\"run\",\"args\":{\"commands\":[\"a\\u0000b\"]}}"), "zero byte");
}

static void test_manifest_memory_is_moved_into_its_range(void **state)
{
    struct image_manifest manifest;

    (void)state;
    good("{\"builderMemoryMB\":1,\"runtimeMemoryMB\":999999}", &manifest);
    assert_int_equal(manifest.builder_mb, IMAGE_MEMORY_MIN_MB);
    assert_int_equal(manifest.runtime_mb, NODE_MEMORY_MAX_MB);
    image_manifest_release(&manifest);
}

static void expect_argv(struct image_step *step, size_t index, const char *const *argv)
{
    struct image_action action;
    size_t i;

    assert_int_equal(image_action_get(step, index, &action), 1);
    assert_false(action.is_write);
    for (i = 0; argv[i]; i++) {
        assert_true(i < action.argc);
        assert_string_equal(action.argv[i], argv[i]);
    }
    assert_int_equal(action.argc, i);
    image_action_release(&action);
}

#define ARGV(...) ((const char *const[]){__VA_ARGS__, NULL})

static void test_actions_packages_are_arguments(void **state)
{
    struct image_manifest manifest;

    (void)state;
    good(STEP("{\"type\":\"apt_install\",\"packages\":[\"jq\",\" -t  sid  curl \"]},"
              "{\"type\":\"pip_install\",\"packages\":[\"requests>=2.28\",\"a;rm -rf /\"]},"
              "{\"type\":\"run\",\"commands\":[\"echo a\",\"echo b\"]}"),
         &manifest);
    expect_argv(&manifest.steps[0], 0, ARGV("apt-get", "update", "-q"));
    expect_argv(&manifest.steps[0], 1,
                ARGV("apt-get", "install", "-y", "-q", "jq", "-t", "sid", "curl"));
    expect_argv(&manifest.steps[1], 0,
                ARGV("python3", "-m", "pip", "install", "-q", "requests>=2.28", "a;rm", "-rf",
                     "/"));
    expect_argv(&manifest.steps[2], 0, ARGV("/bin/sh", "-c", "echo a && echo b"));
    image_manifest_release(&manifest);
}

/* Carries the actions out with the files below a folder of its own. */
static void run_here(const struct image_action *action)
{
    pid_t pid = fork();
    int status;

    if (pid == 0) {
        execvp(action->argv[0], action->argv);
        _exit(127);
    }
    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void run_step(struct image_step *step)
{
    struct image_action action;
    size_t i;

    for (i = 0; image_action_get(step, i, &action) == 1; i++) {
        if (action.is_write) {
            FILE *file = fopen(action.path, "w");

            assert_non_null(file);
            assert_int_equal(fwrite(action.content, 1, action.content_len, file),
                             action.content_len);
            assert_int_equal(fclose(file), 0);
        } else if (geteuid() == 0 || strcmp(action.argv[0], "chown") != 0) {
            run_here(&action);
        }
        image_action_release(&action);
    }
}

static void expect_file(const char *folder, const char *name, const char *content)
{
    char path[600], text[200] = "";
    FILE *file;
    size_t len;

    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    file = fopen(path, "r");
    if (!file) {
        fail_msg("%s is missing", path);
        return;
    }
    len = fread(text, 1, sizeof(text) - 1, file);
    (void)fclose(file);
    text[len] = '\0';
    assert_string_equal(text, content);
}

static void test_actions_files_and_folders_arrive(void **state)
{
    char folder[] = "/tmp/shoal-image-XXXXXX";
    struct image_manifest manifest;
    char *text, *command;

    (void)state;
    if (geteuid() != 0) {
        skip(); /* owners are changed */
    }
    assert_non_null(mkdtemp(folder));
    assert_true(asprintf(&text,
                         STEP("{\"type\":\"add_file\",\"args\":{\"path\":\"%s/my dir/it's $HOME\","
                              "\"content\":\"aGk=\",\"encoding\":\"base64\"}},"
                              "{\"type\":\"add_dir\",\"args\":{\"path\":\"%s/tree/\",\"files\":["
                              "{\"relativePath\":\"a\\\\b c\\\\d\",\"content\":\"ZA==\"},"
                              "{\"relativePath\":\"-x\",\"content\":\"\"},"
                              "{\"relativePath\":\"a/e\",\"content\":\"ZQ==\"}]}},"
                              "{\"type\":\"workdir\",\"args\":{\"path\":\"%s/-w/$(touch x)\"}}"),
                         folder, folder, folder) > 0);
    good(text, &manifest);
    run_step(&manifest.steps[0]);
    run_step(&manifest.steps[1]);
    run_step(&manifest.steps[2]);
    expect_file(folder, "my dir/it's $HOME", "hi");
    expect_file(folder, "tree/a/b c/d", "d");
    expect_file(folder, "tree/a/e", "e");
    expect_file(folder, "tree/-x", "");
    assert_true(asprintf(&command,
                         "test -d '%s/-w/$(touch x)' && test \"$(find %s -mindepth 1 ! -uid 1000 "
                         "| wc -l)\" = 1", /* the folder -w alone was made on the way */
                         folder, folder) > 0);
    assert_int_equal(system(command), 0);
    free(command);
    assert_true(asprintf(&command, "rm -r %s", folder) > 0);
    assert_int_equal(system(command), 0);
    free(command);
    free(text);
    image_manifest_release(&manifest);
}

static void test_actions_values_survive_the_shell(void **state)
{
    struct image_manifest manifest;
    struct image_action action;
    char *script;
    char text[200] = "";
    FILE *pipe;

    (void)state;
    good(STEP(
             "{\"type\":\"env\",\"vars\":{\"A\":\"it's \\\"$HOME\\\" `x` \\\\\",\"B\":\"1\\n2\"}}"),
         &manifest);
    assert_int_equal(image_action_get(&manifest.steps[0], 0, &action), 1);
    assert_int_equal(action.argc, 6);
    /* a value of two lines has no place in /etc/environment */
    assert_string_equal(action.argv[4], "A=it's \"$HOME\" `x` \\\n");
    assert_true(asprintf(&script, "%s printf '%%s|%%s' \"$A\" \"$B\"", action.argv[5]) > 0);
    pipe = popen(script, "r");
    assert_non_null(pipe);
    text[fread(text, 1, sizeof(text) - 1, pipe)] = '\0';
    assert_int_equal(pclose(pipe), 0);
    assert_string_equal(text, "it's \"$HOME\" `x` \\|1\n2");
    free(script);
    image_action_release(&action);
    assert_int_equal(image_action_get(&manifest.steps[0], 1, &action), 0);
    image_manifest_release(&manifest);
}

static void test_actions_many_files_are_split_over_programs(void **state)
{
    json_t *files = json_array();
    json_t *json;
    struct image_manifest manifest;
    struct image_action action;
    struct shl_err err = {0};
    size_t writes = 0, owned = 0, i;
    char path[300];

    (void)state;
    for (i = 0; i < 1500; i++) {
        (void)snprintf(path, sizeof(path), "d%zu/%0200zu", i / 3, i);
        assert_int_equal(json_array_append_new(files, json_pack("{s:s, s:s}", "relativePath", path,
                                                                "content", "")),
                         0);
    }
    json = json_pack("{s:[{s:s, s:s, s:o}]}", "steps", "type", "add_dir", "path", "/x", "files",
                     files);
    assert_int_equal(image_manifest_parse(json, &manifest, &err), 0);
    json_decref(json);
    for (i = 0; image_action_get(&manifest.steps[0], i, &action) == 1; i++) {
        size_t bytes = 0;

        writes += action.is_write;
        for (size_t n = 0; n < action.argc; n++) {
            bytes += strlen(action.argv[n]) + 1;
        }
        assert_true(bytes < 100 * 1024);
        if (!action.is_write && strcmp(action.argv[0], "chown") == 0) {
            owned += action.argc - 3;
        }
        image_action_release(&action);
    }
    assert_int_equal(writes, 1500);
    assert_int_equal(owned, 1500);
    image_manifest_release(&manifest);
}

/* Too long for a row: how long each file was stays, whatever it was written in. */
static void test_manifest_text_without_contents(void **state)
{
    char big[IMAGE_MANIFEST_MAX + 1];
    struct image_manifest manifest;
    struct shl_err err = {0};
    json_t *json;
    char *text;

    (void)state;
    memset(big, 'A', IMAGE_MANIFEST_MAX);
    big[IMAGE_MANIFEST_MAX] = '\0';
    json = json_pack("{s:[{s:s, s:s, s:s}, {s:s, s:{s:s, s:s, s:s}}, {s:s, s:s, s:[{s:s, s:s}]}]}",
                     "steps", "type", "add_file", "path", "/a", "content", big, "type", "add_file",
                     "args", "path", "/b", "content", "text", "encoding", "utf8", "type", "add_dir",
                     "path", "/c", "files", "relativePath", "d", "content", "QQ==\r\n");
    assert_int_equal(image_manifest_parse(json, &manifest, &err), 0);
    json_decref(json);
    text = image_manifest_text(&manifest);
    assert_string_equal(
        text, "{\"steps\":[{\"type\":\"add_file\",\"path\":\"/a\",\"contentBytes\":12288},"
              "{\"type\":\"add_file\",\"args\":{\"path\":\"/b\",\"encoding\":\"utf8\","
              "\"contentBytes\":4}},{\"type\":\"add_dir\",\"path\":\"/c\",\"files\":"
              "[{\"relativePath\":\"d\",\"contentBytes\":1}]}]}");
    free(text);
    image_manifest_release(&manifest);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_manifest_hash_is_that_of_canonical_json),
        cmocka_unit_test(test_manifest_flat_steps_are_the_same_image),
        cmocka_unit_test(test_manifest_order_counts),
        cmocka_unit_test(test_manifest_what_is_wrong_is_said),
        cmocka_unit_test(test_manifest_text_with_a_zero_byte_is_refused),
        cmocka_unit_test(test_manifest_memory_is_moved_into_its_range),
        cmocka_unit_test(test_manifest_text_without_contents),
        cmocka_unit_test(test_actions_packages_are_arguments),
        cmocka_unit_test(test_actions_files_and_folders_arrive),
        cmocka_unit_test(test_actions_values_survive_the_shell),
        cmocka_unit_test(test_actions_many_files_are_split_over_programs),
    };

    return cmocka_run_group_tests_name("image manifest", tests, NULL, NULL);
}
