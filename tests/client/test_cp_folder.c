/* `shoal cp` of folders, through the real server and agent: the "sandbox" is this machine, so both
 * ends can be looked at. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "tests/client/live.h"

static char top[] = "/tmp/shoal-test-cp-XXXXXX"; /* has "here" and "there" */

static int setup(void **state)
{
    memcpy(top + sizeof(top) - 7, "XXXXXX", 6);
    assert_non_null(mkdtemp(top));
    live_shell("mkdir %s/here %s/there", top, top);
    return fixture_setup(state);
}

static int teardown(void **state)
{
    int rc = fixture_teardown(state);

    live_shell("chmod -R u+rwX %s", top);
    assert_int_equal(shl_remove_tree(top), 0);
    return rc;
}

/* Some of everything that may be copied. */
static void make_tree(const char *path)
{
    live_shell(
        "cd %s && mkdir -p '%s' && cd '%s' && mkdir -p sub/deep empty locked && "
        "printf content >file && : >nothing && printf x >.hidden && printf u >'n\xc3\xa4me %%20 b' && "
        "head -c 3000000 /dev/urandom >big && printf r >sub/deep/run && chmod 750 sub/deep/run && "
        "chmod 604 file && printf l >locked/in && chmod 500 locked && "
        "ln -s file link && ln -s /no/where/at/all broken && ln -s ../.. sub/up && "
        "touch -d 2001-02-03T04:05:06Z file sub/deep",
        top, path, path);
}

static void assert_same(const char *a, const char *b)
{
    live_shell("cd %s && diff -r --no-dereference '%s' '%s' && "
               "list() { (cd \"$1\" && find . -printf '%%p %%y %%m %%l ' "
               "\\( -type f -printf '%%s %%Ts' -o -true \\) -printf '\\n' | sort); } && "
               "list '%s' >a.list && list '%s' >b.list && diff a.list b.list",
               top, a, b, a, b);
}

static void assert_only(const char *folder, const char *names)
{
    live_shell("cd %s/%s && test \"$(ls -A | tr '\\n' ' ')\" = '%s'", top, folder, names);
}

static const char *there(const char *path)
{
    static char text[4][300];
    static unsigned at;

    at = (at + 1) % 4;
    (void)snprintf(text[at], sizeof(text[at]), "%s:%s/there/%s", fix->id, top, path);
    return text[at];
}

static const char *here(const char *path)
{
    static char text[4][300];
    static unsigned at;

    at = (at + 1) % 4;
    (void)snprintf(text[at], sizeof(text[at]), "%s/here/%s", top, path);
    return text[at];
}

static void copy(const char *from, const char *to)
{
    struct live live;

    LIVE(&live, 0, NULL, "cp", from, to);
    assert_string_equal((char *)shl_buf_data(&live.err_text), "");
    assert_string_equal((char *)shl_buf_data(&live.out_text), "");
    live_release(&live);
}

static void copy_fails(const char *part, const char *from, const char *to)
{
    struct live live;

    LIVE(&live, 125, NULL, "cp", from, to);
    if (!strstr((char *)shl_buf_data(&live.err_text), part)) {
        fail_msg("\"%s\" is not in: %s", part, (char *)shl_buf_data(&live.err_text));
    }
    live_release(&live);
}

/* To a new name: the folder itself. Both ways, and nothing is different. */
static void test_cp_folder_round_trip(void **state)
{
    (void)state;
    make_tree("here/tree");
    copy(here("tree"), there("new"));
    assert_same("here/tree", "there/new");
    copy(there("new"), here("back"));
    assert_same("here/tree", "here/back");
    assert_only("there", "new ");
    assert_only("here", "back tree ");
    /* Parents are made over there, as for a file. */
    copy(here("tree/"), there("x/y/z/"));
    assert_same("here/tree", "there/x/y/z");
    copy_fails("No such file", there("new"), here("no/such"));
}

/* Into a folder that is there: under its name, "/." only what is in it. */
static void test_cp_folder_into_folders(void **state)
{
    (void)state;
    make_tree("here/tree");
    copy(here("tree"), there(""));
    assert_same("here/tree", "there/tree");
    live_shell("mkdir %s/there/in %s/here/in %s/here/dot %s/there/dot && chmod 711 %s/there/dot "
               "%s/here/dot",
               top, top, top, top, top, top);
    copy(here("tree/"), there("in"));
    assert_same("here/tree", "there/in/tree");
    copy(there("tree"), here("in/"));
    assert_same("here/tree", "here/in/tree");
    copy(here("tree/."), there("dot"));
    copy(there("tree/."), here("dot"));
    /* A folder that was there keeps its own mode. */
    live_shell("cd %s && test \"$(stat -c %%a here/dot there/dot | tr '\\n' ' ')\" = '711 711 ' && "
               "chmod --reference=here/tree here/dot there/dot",
               top);
    assert_same("here/tree", "there/dot");
    assert_same("here/tree", "here/dot");
}

/* What is there stays, what has the same name is replaced, links are not followed. */
static void test_cp_folder_merges(void **state)
{
    (void)state;
    live_shell(
        "cd %s && mkdir -p here/t/sub there/t/sub outside && echo new >here/t/same && "
        "echo new >here/t/sub/same && echo new >here/t/was-link && echo other >there/t/other "
        "&& echo old >there/t/sub/same && echo other >there/t/sub/other && "
        "echo untouched >outside/file && cp -a there/t here-t && "
        "ln -s %s/outside/file there/t/was-link && ln -s %s/outside/file here-t/was-link",
        top, top, top);
    copy(here("t"), there(""));
    live_shell("cd %s && mv here/t up && mv here-t here/t", top);
    live_shell("cd %s && rm -r there/t && cp -a up there/t", top);
    copy(there("t"), here(""));
    live_shell(
        "cd %s/here/t && test \"$(cat same sub/same was-link | tr '\\n' ' ')\" = 'new new new ' "
        "&& test \"$(cat other sub/other | tr '\\n' ' ')\" = 'other other ' && "
        "test ! -L was-link && test \"$(cat ../../outside/file)\" = untouched",
        top);
    assert_only("here", "t ");
}

/* Nothing changes when a folder and a file are in each other's way. */
static void test_cp_folder_conflicts(void **state)
{
    (void)state;
    live_shell(
        "cd %s && mkdir -p there/t/a there/t/z here/t/a there/u outside && touch there/t/a/new "
        "there/t/z/file here/t/z && ln -s %s/outside here/u",
        top, top);
    copy_fails("a folder would take its place", there("t"), here(""));
    assert_only("here/t", "a z ");
    assert_only("here/t/a", "");
    /* A link where the folder goes may be of an earlier copy, and lead anywhere. */
    live_shell("touch %s/there/u/evil", top);
    copy_fails("is no folder", there("u"), here(""));
    assert_only("outside", "");
    live_shell("touch %s/here/file %s/there/file", top, top);
    copy_fails("is no folder", there("t"), here("file"));
    copy_fails("is no folder", here("t"), there("file"));
    assert_only("here", "file t u ");
    assert_only("there", "file t u ");
}

/* One file into a folder that has a link of its name: the link is replaced. */
static void test_cp_file_replaces_a_link_in_a_folder(void **state)
{
    (void)state;
    live_shell("cd %s && mkdir here/d outside && echo untouched >outside/file && "
               "ln -s %s/outside/file here/d/f && echo new >there/f",
               top, top);
    copy(there("f"), here("d"));
    live_shell(
        "cd %s && test \"$(cat here/d/f)\" = new && test \"$(cat outside/file)\" = untouched", top);
}

static bool has_temporary(const char *folder)
{
    char command[400];

    (void)snprintf(command, sizeof(command), "ls -A %s/%s | grep -q shoal-cp", top, folder);
    return system(command) == 0;
}

/* What is no file, folder or link is refused, and nothing is left of the rest. */
static void test_cp_folder_refuses_pipes(void **state)
{
    (void)state;
    live_shell("cd %s && mkdir here/t there/t && touch here/t/a there/t/a && mkfifo here/t/pipe "
               "there/t/pipe",
               top);
    copy_fails("t/pipe is no file, folder or link", here("t"), there("new"));
    copy_fails("\"./pipe\" in the sandbox's archive is no file", there("t"), here("new"));
    assert_only("here", "t ");
    copy_fails("No such file", here("missing"), there("x"));
    copy_fails("no folder", there("missing/"), here("x"));
    copy_fails("404", there("missing"), here("x"));
    while (has_temporary("there")) { /* the script over there is alone now, and ends */
        run_for(&fix->loop, 50);
    }
    assert_only("there", "t ");
}

/* Ctrl-C in the middle: neither end has anything of it. */
static void test_cp_folder_interrupted(void **state)
{
    struct live live;

    (void)state;
    live_shell("cd %s && mkdir here/t there/t && truncate -s 2G here/t/big there/t/big", top);
    for (int i = 0; i < 2; i++) {
        const char *const up[] = {"cp", here("t"), there("new"), NULL};
        const char *const down[] = {"cp", there("t"), here("new"), NULL};

        live_start(&live, i == 0 ? up : down);
        while (!has_temporary(i == 0 ? "there" : "here")) {
            assert_false(live.is_ended);
            live_turn(&live);
        }
        for (int turns = 0; turns < 50; turns++) {
            live_turn(&live);
        }
        (void)kill(live.pid, SIGINT);
        live_finish(&live);
        assert_int_equal(live.code, 130);
        live_release(&live);
        while (has_temporary("there")) {
            run_for(&fix->loop, 50);
        }
        assert_false(has_temporary("here"));
    }
    assert_only("here", "t ");
    assert_only("there", "t ");
}

/* When all of it has been sent, what goes on over there is not known any more. */
static void test_cp_folder_interrupted_at_the_end(void **state)
{
    char command[400], reached[200];
    struct live live;

    (void)state;
    live_shell("mkdir %s/here/t", top);
    (void)snprintf(reached, sizeof(reached), "%s/moving", top);
    (void)snprintf(command, sizeof(command),
                   "printf '#!/bin/sh\\n: >%s; exec sleep 600\\n' >mv && chmod +x mv", reached);
    LIVE(&live, 0, NULL, "exec", fix->id, command);
    live_release(&live);
    live_start(&live, (const char *const[]){"cp", here("t"), there("new"), NULL});
    while (access(reached, F_OK) < 0) {
        assert_false(live.is_ended);
        live_turn(&live);
    }
    (void)kill(live.pid, SIGINT);
    live_finish(&live);
    assert_int_equal(live.code, 130);
    assert_true(live_has(&live.err_text, "interrupted when all of it was sent"));
    live_release(&live);
    while (has_temporary("there")) {
        run_for(&fix->loop, 50);
    }
}

/* The sandbox goes in the middle. */
static void test_cp_folder_connection_ends(void **state)
{
    struct live live;
    char target[128];

    (void)state;
    live_shell("cd %s && mkdir there/t && truncate -s 2G there/t/big", top);
    live_start(&live, (const char *const[]){"cp", there("t"), here("new"), NULL});
    while (!has_temporary("here")) {
        assert_false(live.is_ended);
        live_turn(&live);
    }
    (void)snprintf(target, sizeof(target), "DELETE /api/sandboxes/%s", fix->id);
    json_decref(call(204, target, NULL));
    live_finish(&live);
    assert_int_equal(live.code, 125);
    assert_true(live_has(&live.err_text, "try again"));
    live_release(&live);
    assert_only("here", "");
}

/* To standard output as an archive. */
static void test_cp_folder_as_an_archive(void **state)
{
    struct live live;
    char path[300];
    FILE *file;

    (void)state;
    make_tree("there/tree");
    LIVE(&live, 0, NULL, "cp", there("tree"), "-");
    (void)snprintf(path, sizeof(path), "%s/x.tar", top);
    file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(shl_buf_data(&live.out_text), 1, shl_buf_len(&live.out_text) - 1, file),
                     shl_buf_len(&live.out_text) - 1);
    assert_int_equal(fclose(file), 0);
    live_release(&live);
    live_shell("cd %s && mkdir out && tar xpf x.tar -C out", top);
    assert_same("there/tree", "out");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(test_cp_folder_round_trip),
        TEST(test_cp_folder_into_folders),
        TEST(test_cp_folder_merges),
        TEST(test_cp_folder_conflicts),
        TEST(test_cp_file_replaces_a_link_in_a_folder),
        TEST(test_cp_folder_refuses_pipes),
        TEST(test_cp_folder_interrupted),
        TEST(test_cp_folder_interrupted_at_the_end),
        TEST(test_cp_folder_connection_ends),
        TEST(test_cp_folder_as_an_archive),
    };

    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    return cmocka_run_group_tests_name("client/cp_folder", tests, NULL, NULL);
}
