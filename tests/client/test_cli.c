/* The real program `shoal` against a server that answers by a table. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/attr.h"
#include "base/io.h"
#include "tests/client/mock.h"

#define BOX                                                                      \
    "{\"sandboxID\":\"sb-1\",\"status\":\"running\",\"templateID\":\"minimal\"," \
    "\"cpuCount\":2,\"memoryMB\":1024,\"startedAt\":\"2020-01-01T00:00:00.5Z\"}"
#define BROKEN "{\"sandboxID\":\"sb-22\",\"status\":\"error\",\"reason\":\"kernel panic\"}"
#define CID    "11111111-2222-4333-8444-555555555555"
#define CID2   "99999999-2222-4333-8444-555555555555"
#define CHECKPOINT(status, rest)                                                        \
    "{\"id\":\"" CID "\",\"sandboxId\":\"sb-1\",\"name\":\"before\",\"kind\":\"full\"," \
    "\"status\":\"" status "\",\"createdAt\":\"2020-01-01T00:00:00.5Z\"" rest "}"
#define READY CHECKPOINT("ready", ",\"sizeBytes\":3145728")
#define FAILED                                                                   \
    "{\"id\":\"" CID2 "\",\"sandboxId\":\"sb-1\",\"name\":\"" CID "\",\"kind\":" \
    "\"disk_only\",\"status\":\"failed\",\"sizeBytes\":0,\"errorMsg\":\"the disk is full\"}"
#define BIG ((uint64_t)100 * 1024 * 1024)

#define OUTPUT_MAX (1024 * 1024)
#define ARGS_MAX   24

struct outcome {
    int code;
    char *out;
    char *err;
    size_t out_len;
    long rss_kib;
};

static char *slurp(int fd, size_t *ret_len)
{
    char *text = calloc(1, OUTPUT_MAX + 1);
    ssize_t got = pread(fd, text, OUTPUT_MAX, 0);

    assert_true(got >= 0);
    if (ret_len) {
        *ret_len = (size_t)got;
    }
    close(fd);
    return text;
}

static void outcome_release(struct outcome *outcome)
{
    free(outcome->out);
    free(outcome->err);
}

static void child_environment(const char *url)
{
    clearenv();
    setenv("HOME", "/nonexistent", 1);
    setenv("PATH", "/usr/bin:/bin", 1);
    setenv("FROM_HERE", "local value", 1);
    if (url) {
        setenv("SHOAL_URL", url, 1);
        setenv("SHOAL_API_KEY", "key-1", 1);
    }
}

static pid_t start(const char *url, int in, int out, int err, const char *const *args)
{
    const char *argv[ARGS_MAX + 2] = {SHOAL_CLI_PATH};
    pid_t pid;

    for (size_t i = 0; args[i]; i++) {
        assert_true(i < ARGS_MAX);
        argv[i + 1] = args[i];
    }
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        child_environment(url);
        dup2(in, STDIN_FILENO);
        dup2(out, STDOUT_FILENO);
        dup2(err, STDERR_FILENO);
        execv(argv[0], (char **)argv);
        _exit(99);
    }
    return pid;
}

static struct outcome finish(pid_t pid, int out, int err)
{
    struct outcome outcome = {0};
    struct rusage usage;
    int status = 0;

    assert_int_equal(wait4(pid, &status, 0, &usage), pid);
    outcome.code = WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
    outcome.rss_kib = usage.ru_maxrss;
    outcome.out = slurp(out, &outcome.out_len);
    outcome.err = slurp(err, NULL);
    return outcome;
}

static struct outcome run_with(const char *url, int in, const char *const *args)
{
    int out = memfd_create("out", MFD_CLOEXEC);
    int err = memfd_create("err", MFD_CLOEXEC);
    int nothing = in >= 0 ? in : open("/dev/null", O_RDONLY | O_CLOEXEC);
    struct outcome outcome = finish(start(url, nothing, out, err, args), out, err);

    if (in < 0) {
        close(nothing);
    }
    return outcome;
}

#define RUN(mock, ...) run_with(mock_url(mock), -1, (const char *const[]){__VA_ARGS__, NULL})

static void expect_contains(const char *where, const char *text, const char *part)
{
    if (part && !strstr(text, part)) {
        print_error("%s should contain \"%s\" but is:\n%s\n", where, part, text);
        fail();
    }
}

#define CLUSTER                                                                                   \
    "{\"clusterId\":\"c1\",\"mode\":\"mesh\",\"self\":\"c\",\"scheduler\":{\"leader\":\"a.b\","   \
    "\"hasQuorum\":true,\"term\":3,\"commitIndex\":10,\"appliedIndex\":9,\"digest\":\"d\","       \
    "\"voters\":[\"a.b\"]},\"nodes\":[{\"id\":\"00ff\",\"name\":\"a.b\",\"state\":\"alive\","     \
    "\"mark\":\"none\",\"role\":\"voter\",\"scheduler\":true,\"url\":\"http://a:1\",\"version\":" \
    "\"1\",\"sandboxes\":2,\"memoryMB\":4096,\"memoryCommittedMB\":1024},{\"name\":\"c\","        \
    "\"state\":\"dead\",\"mark\":\"draining\",\"role\":\"standby\",\"flapping\":true}]}"

static const struct mock_rule usual_rules[] = {
    {"GET", "/api/cluster", 200, CLUSTER},
    {"POST", "/api/nodes/a.b/drain", 200, "{}"},
    {"POST", "/api/nodes/a.b/cordon", 200, "{}"},
    {"POST", "/api/nodes/a.b/uncordon", 200, "{}"},
    {"DELETE", "/api/nodes/c", 204, NULL},
    {"DELETE", "/api/nodes/a.b", 400, "{\"error\":\"it is the scheduler\"}"},
    {"POST", "/api/join-tokens", 201,
     "{\"token\":\"shoal1-abc\",\"expiresAt\":\"2030-01-01T00:00:00.000Z\"}"},
    {"POST", "/api/sandboxes", 201, BOX},
    {"GET", "/api/sandboxes", 200, "[" BOX "," BROKEN "]"},
    {"GET", "/api/sandboxes/sb-1", 200, BOX},
    {"GET", "/api/sandboxes/sb-22", 200, BROKEN},
    {"GET", "/api/sandboxes/sb-404", 404, "{\"error\":\"sandbox not found\"}"},
    {"DELETE", "/api/sandboxes/sb-1", 204, NULL},
    {"DELETE", "/api/sandboxes/sb-404", 404, "{\"error\":\"sandbox not found\"}"},
    {"POST", "/api/sandboxes/sb-1/timeout", 204, NULL},
    {"POST", "/api/sandboxes/sb-1/exec/run-async", 200,
     "{\"exitCode\":7,\"stdout\":\"to out\\n\",\"stderr\":\"to err\\n\"}"},
    {"POST", "/api/sandboxes/sb-2/exec/run-async", 200,
     "{\"exitCode\":-1,\"stdout\":\"part\",\"stderr\":\"Process timed out\"}"},
    {"POST", "/api/sandboxes/sb-3/exec/run-async", 410, "{\"error\":\"the sandbox has ended\"}"},
    {"GET", "/api/sandboxes/sb-1/files/list", 200,
     "[{\"name\":\"etc\",\"isDir\":true,\"path\":\"/etc\"},"
     "{\"name\":\"a\\u001b[31mb\",\"isDir\":false,\"size\":2048,\"path\":\"/ab\"}]"},
    {"POST", "/api/sandboxes/sb-1/files/mkdir", 204, NULL},
    {"DELETE", "/api/sandboxes/sb-1/files", 204, NULL},
    {"POST", "/api/sandboxes/sb-1/hibernate", 200,
     "{\"sandboxID\":\"sb-1\",\"status\":\"hibernated\",\"sizeBytes\":4096}"},
    {"POST", "/api/sandboxes/sb-22/hibernate", 400, "{\"error\":\"sandbox is not running\"}"},
    {"POST", "/api/sandboxes/sb-1/wake", 200, BOX},
    {"POST", "/api/sandboxes/sb-2/wake", 200,
     "{\"sandboxID\":\"sb-2\",\"status\":\"running\",\"coldWoken\":true}"},
    {"POST", "/api/sandboxes/sb-1/reboot", 204, NULL},
    {"POST", "/api/sandboxes/sb-1/power-cycle", 204, NULL},
    {"POST", "/api/sandboxes/sb-1/checkpoints", 201, CHECKPOINT("processing", "")},
    {"POST", "/api/sandboxes/sb-22/checkpoints", 409, "{\"error\":\"it already exists\"}"},
    {"GET", "/api/sandboxes/sb-1/checkpoints", 200, "[" READY "," FAILED "]"},
    {"DELETE", "/api/sandboxes/sb-1/checkpoints/" CID, 204, NULL},
    {"DELETE", "/api/sandboxes/sb-1/checkpoints/" CID2, 204, NULL},
    {"POST", "/api/sandboxes/sb-1/checkpoints/" CID "/restore", 200,
     "{\"sandboxId\":\"sb-1\",\"checkpointId\":\"" CID "\",\"status\":\"restoring\"}"},
    {"POST", "/api/sandboxes/from-checkpoint/" CID, 201, BOX},
    {"GET", "/healthz", 200, "{\"status\":\"alive\"}"},
    {"GET", "/readyz", 200, "{\"status\":\"ready\"}"},
    {"GET", "/api/workers", 200,
     "[{\"worker_id\":\"w1\",\"current\":2,\"total_memory_mb\":6144,\"draining\":false}]"},
};

struct cli_case {
    const char *args[16];
    int code;
    const char *out;  /* must be contained; NULL: nothing may be printed */
    const char *err;  /* same */
    const char *uri;  /* of the first request; NULL: none may be sent */
    const char *body; /* exact; NULL not looked at */
};

static const struct cli_case cases[] = {
    /* create */
    {{"create"}, 0, "sb-1\n", NULL, "/api/sandboxes", "{}"},
    {{"create", "-t", "minimal", "--cpus", "2", "--memory=1024", "--disk", "20480", "--timeout",
      "0", "--json"},
     0,
     "\"sandboxID\": \"sb-1\"",
     NULL,
     "/api/sandboxes",
     "{\"templateID\":\"minimal\",\"cpuCount\":2,\"memoryMB\":1024,\"diskMB\":20480,"
     "\"timeout\":0}"},
    {{"create", "-eA=1=2", "-e", "FROM_HERE", "--metadata", "who=me", "-e", "E="},
     0,
     "sb-1\n",
     NULL,
     "/api/sandboxes",
     "{\"envs\":{\"A\":\"1=2\",\"FROM_HERE\":\"local value\",\"E\":\"\"},"
     "\"metadata\":{\"who\":\"me\"}}"},
    {{"create", "-e", "NOT_SET_ANYWHERE"}, 125, NULL, "NOT_SET_ANYWHERE=VALUE", NULL, NULL},
    {{"create", "-e", "=x"}, 125, NULL, "no usable name", NULL, NULL},
    {{"create", "--cpus", "two"}, 125, NULL, "whole number from 1", NULL, NULL},
    {{"create", "--cpus", "0"}, 125, NULL, "whole number from 1", NULL, NULL},
    {{"create", "--memory", "99999999999999999999"}, 125, NULL, "whole number", NULL, NULL},
    {{"create", "--timeout", "-1"}, 125, NULL, "whole number from 0", NULL, NULL},
    {{"create", "--cpus"}, 125, NULL, "--cpus wants a value", NULL, NULL},
    {{"create", "--memroy", "3"}, 125, NULL, "did you mean --memory?", NULL, NULL},
    {{"create", "-Z"}, 125, NULL, "no flag -Z", NULL, NULL},
    {{"create", "--json=yes"}, 125, NULL, "--json takes no value", NULL, NULL},
    {{"create", "sb-1"}, 125, NULL, "one argument too many", NULL, NULL},
    {{"create", "-t", "\xff"}, 125, NULL, "not UTF-8", NULL, NULL},
    {{"create", "-o", "yaml"}, 125, NULL, "json or table", NULL, NULL},
    {{"create", "-o", "table", "--json"}, 125, NULL, "contradict", NULL, NULL},
    {{"create", "--help"}, 0, "example:\n  shoal create", NULL, NULL, NULL},
    /* ls, get */
    {{"ls"},
     0,
     "sb-1   running  minimal   2     1.0 GiB  ",
     NULL,
     "/api/sandboxes?limit=500",
     NULL},
    {{"list"},
     0,
     "sb-22  error    -         -     -        -\n",
     NULL,
     "/api/sandboxes?limit=500",
     NULL},
    {{"ls", "-q"}, 0, "sb-1\nsb-22\n", NULL, "/api/sandboxes?limit=500", NULL},
    {{"ls", "--json"}, 0, "\"memoryMB\": 1024", NULL, "/api/sandboxes?limit=500", NULL},
    {{"--json", "ls"}, 0, "\"memoryMB\": 1024", NULL, "/api/sandboxes?limit=500", NULL},
    {{"-o", "json", "ls"}, 0, "\"memoryMB\": 1024", NULL, "/api/sandboxes?limit=500", NULL},
    {{"get", "sb-22"}, 0, "reason     kernel panic\n", NULL, "/api/sandboxes/sb-22", NULL},
    {{"get", "-o", "json", "sb-1"},
     0,
     "\"status\": \"running\"",
     NULL,
     "/api/sandboxes/sb-1",
     NULL},
    {{"get"}, 125, NULL, "something is missing\nusage: shoal get", NULL, NULL},
    {{"get", "sb-404"},
     125,
     NULL,
     "shoal: sb-404: sandbox not found (HTTP 404, request req-7)\nhint: `shoal ls`",
     "/api/sandboxes/sb-404",
     NULL},
    {{"get", "sb-404", "--json"},
     125,
     NULL,
     "{\"error\": \"sandbox not found\", \"context\": \"sb-404\", \"code\": \"ENOTFOUND\", "
     "\"status\": 404, \"requestId\": \"req-7\"}\n",
     "/api/sandboxes/sb-404",
     NULL},
    {{"get", "../x"}, 125, NULL, "is not the id of a sandbox", NULL, NULL},
    /* exec */
    {{"exec", "sb-1", "ls | wc"},
     7,
     "to out\n",
     "to err\n",
     "/api/sandboxes/sb-1/exec/run-async",
     "{\"cmd\":\"ls | wc\"}"},
    {{"exec", "-c", "/tmp", "-e", "A=1", "--timeout", "5", "sb-1", "--", "ls", "-l", "--", "-q"},
     7,
     "to out\n",
     "to err\n",
     "/api/sandboxes/sb-1/exec/run-async",
     "{\"cmd\":\"ls\",\"args\":[\"-l\",\"--\",\"-q\"],\"cwd\":\"/tmp\",\"timeout\":5,"
     "\"envs\":{\"A\":\"1\"}}"},
    {{"exec", "sb-1", "ls", "--json"},
     7,
     "to out\n",
     "to err\n",
     "/api/sandboxes/sb-1/exec/run-async",
     "{\"cmd\":\"ls\",\"args\":[\"--json\"]}"},
    {{"exec", "sb-1", "--json", "ls"},
     7,
     "\"exitCode\": 7",
     NULL,
     "/api/sandboxes/sb-1/exec/run-async",
     "{\"cmd\":\"ls\"}"},
    {{"exec", "sb-2", "sleep 99"},
     124,
     "part",
     "Process timed out",
     "/api/sandboxes/sb-2/exec/run-async",
     NULL},
    {{"exec", "sb-3", "true"},
     125,
     NULL,
     "shoal: sb-3: the sandbox has ended (HTTP 410",
     "/api/sandboxes/sb-3/exec/run-async",
     NULL},
    {{"exec", "sb-1"}, 125, NULL, "something is missing", NULL, NULL},
    {{"exec", "sb-1", "--"}, 125, NULL, "something is missing", NULL, NULL},
    {{"exec", "sb-1", "--", "\xff"}, 125, NULL, "not UTF-8", NULL, NULL},
    /* hibernate, wake, reboot */
    {{"hibernate", "sb-1"}, 0, NULL, NULL, "/api/sandboxes/sb-1/hibernate", "{}"},
    {{"hibernate", "sb-22", "sb-1"},
     125,
     NULL,
     "shoal: sb-22: sandbox is not running (HTTP 400",
     "/api/sandboxes/sb-22/hibernate",
     NULL},
    {{"hibernate", "--json", "sb-1"},
     0,
     "{\"sandboxID\": \"sb-1\", \"status\": \"hibernated\", \"sizeBytes\": 4096}\n",
     NULL,
     "/api/sandboxes/sb-1/hibernate",
     NULL},
    {{"hibernate"}, 125, NULL, "something is missing", NULL, NULL},
    {{"hibernate", "a/b"}, 125, NULL, "is not the id of a sandbox", NULL, NULL},
    {{"wake", "sb-1"}, 0, NULL, NULL, "/api/sandboxes/sb-1/wake", "{}"},
    {{"wake", "--timeout", "0", "sb-1"},
     0,
     NULL,
     NULL,
     "/api/sandboxes/sb-1/wake",
     "{\"timeout\":0}"},
    {{"wake", "sb-2"},
     0,
     NULL,
     "sb-2: its memory could not be restored",
     "/api/sandboxes/sb-2/wake",
     NULL},
    {{"wake", "sb-1", "--json"},
     0,
     "\"status\": \"running\"",
     NULL,
     "/api/sandboxes/sb-1/wake",
     NULL},
    {{"wake", "--timeout", "-1", "sb-1"}, 125, NULL, "whole number from 0", NULL, NULL},
    {{"reboot", "sb-1"}, 0, NULL, NULL, "/api/sandboxes/sb-1/reboot", NULL},
    {{"reboot", "--hard", "sb-1"}, 0, NULL, NULL, "/api/sandboxes/sb-1/power-cycle", NULL},
    {{"reboot", "sb-1", "sb-2"}, 125, NULL, "one argument too many", NULL, NULL},
    /* checkpoints */
    {{"checkpoint", "create", "sb-1", "before"},
     0,
     CID "\n",
     NULL,
     "/api/sandboxes/sb-1/checkpoints",
     "{\"name\":\"before\"}"},
    {{"checkpoint", "create", "--disk-only", "--keep", "3", "sb-1", "a b", "--wait", "--json"},
     0,
     "\"status\": \"ready\"",
     NULL,
     "/api/sandboxes/sb-1/checkpoints",
     "{\"name\":\"a b\",\"kind\":\"disk_only\",\"retentionPolicy\":{\"mode\":\"delete_oldest\","
     "\"maxCount\":3}}"},
    {{"checkpoint", "create", "sb-22", "before"},
     125,
     NULL,
     "already exists (HTTP 409",
     "/api/sandboxes/sb-22/checkpoints",
     NULL},
    {{"checkpoint", "create", "sb-1", "\xff"}, 125, NULL, "not UTF-8", NULL, NULL},
    {{"checkpoint", "create", "sb-1"}, 125, NULL, "takes a sandbox and a name", NULL, NULL},
    {{"checkpoint", "create", "sb-1", "a", "b"}, 125, NULL, "sandbox and a name", NULL, NULL},
    {{"checkpoint", "create", "--keep", "0", "sb-1", "a"}, 125, NULL, "from 1", NULL, NULL},
    {{"checkpoint", "ls", "sb-1"},
     0,
     "before                                full       ready   3.0 MiB",
     NULL,
     "/api/sandboxes/sb-1/checkpoints",
     NULL},
    {{"checkpoint", "ls", "sb-1"},
     0,
     "disk_only  failed  -        -      the disk is full\n",
     NULL,
     "/api/sandboxes/sb-1/checkpoints",
     NULL},
    {{"checkpoint", "ls", "-q", "sb-1"},
     0,
     CID "\n" CID2 "\n",
     NULL,
     "/api/sandboxes/sb-1/checkpoints",
     NULL},
    {{"checkpoint", "ls", "--json", "sb-1"},
     0,
     "\"errorMsg\": \"the disk is full\"",
     NULL,
     "/api/sandboxes/sb-1/checkpoints",
     NULL},
    {{"checkpoint", "ls", "sb-404"},
     125,
     NULL,
     "no rule for this",
     "/api/sandboxes/sb-404/checkpoints",
     NULL},
    {{"checkpoint", "rm", "sb-1", "before", CID2},
     0,
     NULL,
     NULL,
     "/api/sandboxes/sb-1/checkpoints",
     NULL},
    {{"checkpoint", "rm", "sb-1", "nope", "before"},
     125,
     NULL,
     "shoal: sb-1: sandbox sb-1 has no checkpoint \"nope\"\n",
     "/api/sandboxes/sb-1/checkpoints",
     NULL},
    {{"checkpoint", "rm", "sb-1"}, 125, NULL, "the checkpoint is missing", NULL, NULL},
    {{"checkpoint", "remvoe", "sb-1"}, 125, NULL, "is none of create, ls, rm", NULL, NULL},
    {{"checkpoint", "craete", "sb-1"}, 125, NULL, "did you mean create", NULL, NULL},
    {{"restore", "sb-1", "before"}, 0, NULL, NULL, "/api/sandboxes/sb-1/checkpoints", NULL},
    {{"restore", "sb-1", "nope"},
     125,
     NULL,
     "has no checkpoint \"nope\"",
     "/api/sandboxes/sb-1/checkpoints",
     NULL},
    {{"restore", "sb-1"}, 125, NULL, "something is missing", NULL, NULL},
    /* fork */
    {{"fork", CID}, 0, "sb-1\n", NULL, "/api/sandboxes/from-checkpoint/" CID, "{}"},
    {{"fork", "sb-1", "before"}, 0, "sb-1\n", NULL, "/api/sandboxes/sb-1/checkpoints", NULL},
    {{"fork", "--cpus", "2", "--memory", "2048", "--disk=30000", "--timeout", "0", "-e", "A=1",
      "--metadata", "k=v", "--json", CID},
     0,
     "\"sandboxID\": \"sb-1\"",
     NULL,
     "/api/sandboxes/from-checkpoint/" CID,
     "{\"cpuCount\":2,\"memoryMB\":2048,\"diskMB\":30000,\"timeout\":0,\"envs\":{\"A\":\"1\"},"
     "\"metadata\":{\"k\":\"v\"}}"},
    {{"fork", "sb-1", "nope"},
     125,
     NULL,
     "has no checkpoint",
     "/api/sandboxes/sb-1/checkpoints",
     NULL},
    {{"fork", "../x"}, 125, NULL, "is not the id of a checkpoint", NULL, NULL},
    {{"fork", "-n", "0", CID}, 125, NULL, "from 1", NULL, NULL},
    {{"fork", "-n", "2", CID},
     125,
     NULL,
     "is not a JSON array",
     "/api/sandboxes/from-checkpoint/" CID,
     NULL},
    {{"fork"}, 125, NULL, "something is missing", NULL, NULL},
    {{"fork", "-e", "NOT_SET_ANYWHERE", CID}, 125, NULL, "NOT_SET_ANYWHERE=", NULL, NULL},
    /* the others */
    {{"kill", "sb-1"}, 0, NULL, NULL, "/api/sandboxes/sb-1", NULL},
    {{"rm", "sb-404", "sb-1"}, 125, NULL, "sandbox not found", "/api/sandboxes/sb-404", NULL},
    {{"timeout", "sb-1", "30"}, 0, NULL, NULL, "/api/sandboxes/sb-1/timeout", "{\"timeout\":30}"},
    {{"timeout", "sb-1", "--", "-1"}, 125, NULL, "whole number", NULL, NULL},
    {{"timeout", "sb-1", "1h"}, 125, NULL, "whole number", NULL, NULL},
    {{"files", "ls", "sb-1", "/"},
     0,
     "file  2.0 KiB  a?[31mb\n",
     NULL,
     "/api/sandboxes/sb-1/files/list?path=/",
     NULL},
    {{"files", "ls", "sb-1", "-q"},
     0,
     "etc\n",
     NULL,
     "/api/sandboxes/sb-1/files/list?path=/",
     NULL},
    {{"files", "mkdir", "sb-1", "/a", "/b c"},
     0,
     NULL,
     NULL,
     "/api/sandboxes/sb-1/files/mkdir?path=/a",
     NULL},
    {{"files", "rm", "sb-1", "/a"}, 0, NULL, NULL, "/api/sandboxes/sb-1/files?path=/a", NULL},
    {{"files", "rm", "sb-1"}, 125, NULL, "path is missing", NULL, NULL},
    {{"files", "mkdri", "sb-1", "/a"}, 125, NULL, "did you mean mkdir", NULL, NULL},
    {{"status"}, 0, "w1      -        2          6.0 GiB  -         no\n", NULL, "/healthz", NULL},
    {{"status", "--json"}, 0, "\"state\": \"ready\"", NULL, "/healthz", NULL},
    /* nodes and cluster */
    {{"node", "ls"},
     0,
     "a.b   alive                     scheduler  2          4.0 GiB  1.0 GiB   1        http://a:1  00ff\n",
     NULL,
     "/api/cluster",
     NULL},
    {{"node", "ls"}, 0, "c     dead, draining, flapping  standby", NULL, "/api/cluster", NULL},
    {{"node", "ls", "-q"}, 0, "a.b\nc\n", NULL, "/api/cluster", NULL},
    {{"node", "ls", "--json"}, 0, "[\n  {\n    \"id\": \"00ff\"", NULL, "/api/cluster", NULL},
    {{"node", "ls", "a"}, 125, NULL, "takes nothing more", NULL, NULL},
    {{"node", "drain", "a.b"}, 0, NULL, NULL, "/api/nodes/a.b/drain", NULL},
    {{"node", "cordon", "a.b"}, 0, NULL, NULL, "/api/nodes/a.b/cordon", NULL},
    {{"node", "uncordon", "a.b"}, 0, NULL, NULL, "/api/nodes/a.b/uncordon", NULL},
    {{"node", "rm", "c", "a.b"},
     125,
     NULL,
     "shoal: a.b: it is the scheduler (HTTP 400",
     "/api/nodes/c",
     NULL},
    {{"node", "rm"}, 125, NULL, "rm takes the name or the id of a node", NULL, NULL},
    {{"node", "drian", "a"}, 125, NULL, "did you mean drain", NULL, NULL},
    {{"node", "drain", "../x"}, 125, NULL, "is not the name of a node", NULL, NULL},
    {{"cluster", "status"}, 0, "scheduler  a.b\n", NULL, "/api/cluster", NULL},
    {{"cluster", "status"}, 0, "applied    9 of 10\n", NULL, "/api/cluster", NULL},
    {{"cluster", "status", "--json"}, 0, "\"hasQuorum\": true", NULL, "/api/cluster", NULL},
    {{"cluster", "stats"}, 125, NULL, "\"stats\" is not status", NULL, NULL},
    {{"token", "create"}, 0, "shoal1-abc\n", NULL, "/api/join-tokens", "{}"},
    {{"token", "create", "--ttl", "1m"},
     0,
     "shoal1-abc\n",
     NULL,
     "/api/join-tokens",
     "{\"ttl\":60}"},
    {{"token", "create", "--json"}, 0, "\"expiresAt\"", NULL, "/api/join-tokens", NULL},
    {{"token", "create", "--ttl", "0"}, 125, NULL, "seconds from 1", NULL, NULL},
    {{"token", "make"}, 125, NULL, "\"make\" is not create", NULL, NULL},
    {{"version"}, 0, "shoal 0.", NULL, NULL, NULL},
    {{"--version"}, 0, "shoal 0.", NULL, NULL, NULL},
    {{"version", "--json"}, 0, "\"version\": \"0.", NULL, NULL, NULL},
    {{"help"}, 0, "commands:\n", NULL, NULL, NULL},
    {{"--help"}, 0, "commands:\n", NULL, NULL, NULL},
    {{"help", "cp"}, 0, "shoal cp: copy a file", NULL, NULL, NULL},
    {{"help", "nope"}, 125, NULL, "no command \"nope\"", NULL, NULL},
    {{"completion", "bash"}, 0, "complete -F _shoal shoal", NULL, NULL, NULL},
    {{"completion", "fish"}, 125, NULL, "only bash", NULL, NULL},
    {{"exce"}, 125, NULL, "did you mean \"exec\"?", NULL, NULL},
    {{"frobnicate"}, 125, NULL, "there is no command \"frobnicate\"\n", NULL, NULL},
    {{NULL}, 125, NULL, "usage: shoal COMMAND", NULL, NULL},
    {{"ls", "--url", "nowhere"}, 125, NULL, "is not a server address", NULL, NULL},
    {{"ls", "--url", "http://127.0.0.1:1"}, 125, NULL, "hint: is the node running?", NULL, NULL},
    {{"ls", "--ca-file", "/nonexistent"}, 125, NULL, "cannot be read", NULL, NULL},
    /* cp: what is refused before anything is sent */
    {{"cp", "a", "b"}, 125, NULL, "must be in a sandbox", NULL, NULL},
    {{"cp", "sb-1:/a", "sb-2:/b"}, 125, NULL, "must be local", NULL, NULL},
    {{"cp", "/nonexistent", "sb-1:/a"}, 125, NULL, "/nonexistent: No such file", NULL, NULL},
    {{"cp", "/tmp", "sb-1:/a"}, 125, NULL, "folders cannot be copied yet", NULL, NULL},
    {{"cp", "sb-1:/a/", "/tmp/x"}, 125, NULL, "folders cannot be copied yet", NULL, NULL},
    {{"cp", "-", "sb-1:/a/"}, 125, NULL, "standard input has no name", NULL, NULL},
    {{"cp", "sb-1:/a", "/nonexistent/x"}, 125, NULL, "No such file", NULL, NULL},
};

/* Exit code, both outputs and the request of many command lines. */
static void test_cli_command_lines(void **state)
{
    (void)state;
    for (size_t i = 0; i < SHL_ARRAY_SIZE(cases); i++) {
        const struct cli_case *c = &cases[i];
        struct mock *mock = mock_start(usual_rules, SHL_ARRAY_SIZE(usual_rules));
        struct outcome got = run_with(mock_url(mock), -1, c->args);
        const struct mock_request *request = mock_at(mock, 0);

        if (got.code != c->code || (!c->out && got.out[0]) || (!c->err && got.err[0]) ||
            (!c->uri && request) || (c->uri && !request) ||
            (c->uri && strcmp(c->uri, request->uri) != 0) ||
            (c->body && strcmp(c->body, request->body) != 0)) {
            print_error("case %zu, shoal %s %s: code %d (want %d), request %s %s\nout:\n%s\n"
                        "err:\n%s\n",
                        i, c->args[0], c->args[0] && c->args[1] ? c->args[1] : "", got.code,
                        c->code, request ? request->uri : "none", request ? request->body : "",
                        got.out, got.err);
            fail();
        }
        expect_contains("stdout", got.out, c->out);
        expect_contains("stderr", got.err, c->err);
        outcome_release(&got);
        mock_stop(mock);
    }
}

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

/* Ctrl-C reaches the command in the sandbox, whose exit code is ours. */
static void test_cli_exec_passes_interrupt_on(void **state)
{
    const struct mock_rule rules[] = {
        {"POST", "/api/sandboxes/sb-1/exec/run-async", 202, "{\"execId\":\"e1\",\"running\":true}"},
        {"GET", "/api/sandboxes/sb-1/exec/e1/result", 200, "{\"running\":true}", .times = 2},
        {"GET", "/api/sandboxes/sb-1/exec/e1/result", 200,
         "{\"running\":false,\"exitCode\":130,\"stdout\":\"\",\"stderr\":\"\"}"},
        {"POST", "/api/sandboxes/sb-1/exec/e1/kill", 200, "{\"status\":\"ok\"}"},
    };
    struct mock *mock = mock_start(rules, 4);
    int out = memfd_create("out", MFD_CLOEXEC);
    int err = memfd_create("err", MFD_CLOEXEC);
    int in = open("/dev/null", O_RDONLY | O_CLOEXEC);
    pid_t pid = start(mock_url(mock), in, out, err,
                      (const char *const[]){"exec", "sb-1", "sleep 100", NULL});
    struct outcome got;
    bool killed = false;

    (void)state;
    for (int i = 0; mock_count(mock) < 2 && i < 1000; i++) {
        usleep(10000);
    }
    assert_int_equal(kill(pid, SIGINT), 0);
    got = finish(pid, out, err);
    close(in);
    assert_int_equal(got.code, 130);
    for (size_t i = 0; i < mock_count(mock); i++) {
        killed |= strcmp(mock_at(mock, i)->body, "{\"signal\":2}") == 0;
    }
    assert_true(killed);
    outcome_release(&got);
    mock_stop(mock);
}

/* A server that is down is named as such; the live one does the work. */
static void test_cli_status_with_a_dead_server(void **state)
{
    struct mock *mock = mock_start(usual_rules, SHL_ARRAY_SIZE(usual_rules));
    struct outcome got;
    char urls[200];

    (void)state;
    snprintf(urls, sizeof(urls), "http://127.0.0.1:1,%s", mock_url(mock));
    got = RUN(mock, "status", "--url", urls);
    assert_int_equal(got.code, 1);
    expect_contains("stdout", got.out, "unreachable");
    expect_contains("stdout", got.out, "w1 ");
    outcome_release(&got);
    got = RUN(mock, "get", "sb-1", "--url", urls);
    assert_int_equal(got.code, 0);
    outcome_release(&got);
    mock_stop(mock);
}

static void test_cli_full_output_is_an_error(void **state)
{
    struct mock *mock = mock_start(usual_rules, SHL_ARRAY_SIZE(usual_rules));
    int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
    int err = memfd_create("err", MFD_CLOEXEC);
    int in = open("/dev/null", O_RDONLY | O_CLOEXEC);
    int out = memfd_create("out", MFD_CLOEXEC);
    struct outcome got =
        finish(start(mock_url(mock), in, full, err, (const char *const[]){"ls", NULL}), out, err);

    (void)state;
    close(full);
    close(in);
    assert_int_equal(got.code, 125);
    expect_contains("stderr", got.err, "cannot write the output");
    outcome_release(&got);
    mock_stop(mock);
}

/* A checkpoint is named once, then only its id is used; an id wins over a name. */
static void test_cli_checkpoint_names(void **state)
{
    struct mock *mock = mock_start(usual_rules, SHL_ARRAY_SIZE(usual_rules));
    struct outcome got = RUN(mock, "restore", "sb-1", "before");

    (void)state;
    assert_int_equal(got.code, 0);
    assert_string_equal(mock_at(mock, 1)->uri, "/api/sandboxes/sb-1/checkpoints/" CID "/restore");
    outcome_release(&got);
    mock_forget(mock);
    got = RUN(mock, "checkpoint", "rm", "sb-1", CID, CID2);
    assert_int_equal(got.code, 0);
    assert_string_equal(mock_at(mock, 1)->uri, "/api/sandboxes/sb-1/checkpoints/" CID);
    assert_string_equal(mock_at(mock, 3)->uri, "/api/sandboxes/sb-1/checkpoints/" CID2);
    outcome_release(&got);
    mock_forget(mock);
    got = RUN(mock, "fork", "sb-1", "before");
    assert_int_equal(got.code, 0);
    assert_string_equal(mock_at(mock, 1)->uri, "/api/sandboxes/from-checkpoint/" CID);
    outcome_release(&got);
    mock_stop(mock);
}

static void test_cli_checkpoint_wait(void **state)
{
    const struct mock_rule rules[] = {
        {"POST", "/api/sandboxes/sb-1/checkpoints", 201, CHECKPOINT("processing", "")},
        {"GET", "/api/sandboxes/sb-1/checkpoints", 200, "[" CHECKPOINT("processing", "") "]",
         .times = 2},
        {"GET", "/api/sandboxes/sb-1/checkpoints", 200, "[" READY "]", .times = 1},
        {"GET", "/api/sandboxes/sb-1/checkpoints", 200,
         "[" CHECKPOINT("failed", ",\"errorMsg\":\"no room\"") "]", .times = 1},
        {"GET", "/api/sandboxes/sb-1/checkpoints", 200, "[]"},
    };
    struct mock *mock = mock_start(rules, SHL_ARRAY_SIZE(rules));
    struct outcome got = RUN(mock, "checkpoint", "create", "-w", "sb-1", "before");

    (void)state;
    assert_string_equal(got.err, "");
    assert_int_equal(got.code, 0);
    assert_string_equal(got.out, CID "\n");
    assert_int_equal(mock_count(mock), 4);
    outcome_release(&got);
    got = RUN(mock, "checkpoint", "create", "-w", "sb-1", "before");
    assert_int_equal(got.code, 125);
    assert_string_equal(got.out, "");
    expect_contains("stderr", got.err, "the checkpoint is failed: no room");
    outcome_release(&got);
    got = RUN(mock, "checkpoint", "create", "-w", "sb-1", "before"); /* deleted meanwhile */
    assert_int_equal(got.code, 125);
    expect_contains("stderr", got.err, "has no checkpoint");
    outcome_release(&got);
    mock_stop(mock);
}

/* Those that were made are printed, those that were not are told, and the code says so. */
static void test_cli_fork_many(void **state)
{
    const struct mock_rule rules[] = {
        {"POST", "/api/sandboxes/from-checkpoint/" CID, 201,
         "{\"results\":[{\"sandbox\":" BOX "},{\"sandbox\":{\"sandboxID\":\"sb-2\"}}],"
         "\"created\":2}",
         .times = 1},
        {"POST", "/api/sandboxes/from-checkpoint/" CID, 201,
         "{\"results\":[{\"error\":\"no ro\\u001bom\",\"status\":503},{\"sandbox\":" BOX "},{}],"
         "\"created\":1}",
         .times = 2},
        {"POST", "/api/sandboxes/from-checkpoint/" CID, 503,
         "{\"error\":\"no room\",\"results\":[{\"error\":\"no room\",\"status\":503}],"
         "\"created\":0}"},
    };
    struct mock *mock = mock_start(rules, SHL_ARRAY_SIZE(rules));
    struct outcome got = RUN(mock, "fork", "--count", "2", "--timeout", "60", CID);

    (void)state;
    assert_string_equal(got.err, "");
    assert_int_equal(got.code, 0);
    assert_string_equal(got.out, "sb-1\nsb-2\n");
    assert_string_equal(mock_at(mock, 0)->body, "{\"timeout\":60,\"count\":2}");
    outcome_release(&got);
    got = RUN(mock, "fork", "-n3", CID);
    assert_int_equal(got.code, 125);
    assert_string_equal(got.out, "sb-1\n");
    assert_string_equal(got.err, "shoal: fork 1: no ro?om\n"
                                 "shoal: fork 3: the server does not say why\n");
    outcome_release(&got);
    got = RUN(mock, "fork", "-n3", "--json", CID);
    assert_int_equal(got.code, 125);
    expect_contains("stdout", got.out, "\"status\": 503");
    outcome_release(&got);
    got = RUN(mock, "fork", "-n3", CID);
    assert_int_equal(got.code, 125);
    assert_string_equal(got.out, "");
    expect_contains("stderr", got.err, "no room (HTTP 503");
    outcome_release(&got);
    mock_stop(mock);
}

/* The completion script is made of the flag tables; bash must accept it. */
static void test_cli_completion_works_in_bash(void **state)
{
    struct mock *mock = mock_start(usual_rules, SHL_ARRAY_SIZE(usual_rules));
    struct outcome got = RUN(mock, "completion", "bash");
    char command[600];
    char line[200] = "";
    FILE *pipe;

    (void)state;
    snprintf(command, sizeof(command),
             "bash -c 'source <(%s completion bash); COMP_WORDS=(shoal create --mem); "
             "COMP_CWORD=2; _shoal; echo \"${COMPREPLY[*]}\"; COMP_WORDS=(shoal st); COMP_CWORD=1; "
             "_shoal; echo \"${COMPREPLY[*]}\"'",
             SHOAL_CLI_PATH);
    pipe = popen(command, "r");
    assert_non_null(fgets(line, sizeof(line), pipe));
    assert_string_equal(line, "--memory\n");
    assert_non_null(fgets(line, sizeof(line), pipe));
    assert_string_equal(line, "status\n");
    assert_int_equal(pclose(pipe), 0);
    outcome_release(&got);
    mock_stop(mock);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cli_command_lines),
        cmocka_unit_test(test_cli_cp_streams_in_bounded_memory),
        cmocka_unit_test(test_cli_cp_broken_download_keeps_old_file),
        cmocka_unit_test(test_cli_cp_names_and_modes),
        cmocka_unit_test(test_cli_cp_standard_input_is_chunked),
        cmocka_unit_test(test_cli_cp_upload_to_existing_folder),
        cmocka_unit_test(test_cli_exec_passes_interrupt_on),
        cmocka_unit_test(test_cli_status_with_a_dead_server),
        cmocka_unit_test(test_cli_full_output_is_an_error),
        cmocka_unit_test(test_cli_checkpoint_names),
        cmocka_unit_test(test_cli_checkpoint_wait),
        cmocka_unit_test(test_cli_fork_many),
        cmocka_unit_test(test_cli_completion_works_in_bash),
    };

    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
