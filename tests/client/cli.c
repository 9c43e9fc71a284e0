#include "tests/client/cli.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/attr.h"

#define BROKEN "{\"sandboxID\":\"sb-22\",\"status\":\"error\",\"reason\":\"kernel panic\"}"
#define PREVIEW                                                               \
    "{\"id\":\"x\",\"hostname\":\"sb-1-p3000.localhost:8080\",\"port\":3000," \
    "\"url\":\"http://sb-1-p3000.localhost:8080\",\"createdAt\":\"2026-01-01T00:00:00.000Z\"}"
#define STORE(id, name, allowed)                                                             \
    "{\"id\":\"" id "\",\"orgId\":\"o\",\"name\":\"" name "\",\"egressAllowlist\":[" allowed \
    "],\"createdAt\":\"2020-01-01T00:00:00.000Z\"}"
#define PROD STORE(CID, "prod", "\"api.x.com\",\"*.y.com\"")
#define FAILED                                                                   \
    "{\"id\":\"" CID2 "\",\"sandboxId\":\"sb-1\",\"name\":\"" CID "\",\"kind\":" \
    "\"disk_only\",\"status\":\"failed\",\"sizeBytes\":0,\"errorMsg\":\"the disk is full\"}"
#define CLUSTER                                                                                   \
    "{\"clusterId\":\"c1\",\"mode\":\"mesh\",\"self\":\"c\",\"scheduler\":{\"leader\":\"a.b\","   \
    "\"hasQuorum\":true,\"term\":3,\"commitIndex\":10,\"appliedIndex\":9,\"digest\":\"d\","       \
    "\"voters\":[\"a.b\"]},\"nodes\":[{\"id\":\"00ff\",\"name\":\"a.b\",\"state\":\"alive\","     \
    "\"mark\":\"none\",\"role\":\"voter\",\"scheduler\":true,\"url\":\"http://a:1\",\"version\":" \
    "\"1\",\"sandboxes\":2,\"memoryMB\":4096,\"memoryCommittedMB\":1024},{\"name\":\"c\","        \
    "\"state\":\"dead\",\"mark\":\"draining\",\"role\":\"standby\",\"flapping\":true}]}"

#define OUTPUT_MAX (1024 * 1024)
#define ARGS_MAX   24

/* ---- the program ----------------------------------------------------------------------- */

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

void outcome_release(struct outcome *outcome)
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

pid_t start(const char *url, int in, int out, int err, const char *const *args)
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

struct outcome finish(pid_t pid, int out, int err)
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

struct outcome run_with(const char *url, int in, const char *const *args)
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

void expect_contains(const char *where, const char *text, const char *part)
{
    if (part && !strstr(text, part)) {
        print_error("%s should contain \"%s\" but is:\n%s\n", where, part, text);
        fail();
    }
}

/* ---- its server ------------------------------------------------------------------------ */

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
    {"POST", "/api/sandboxes/sb-1/preview", 201, PREVIEW},
    {"GET", "/api/sandboxes/sb-1/preview", 200, "[" PREVIEW "]"},
    {"DELETE", "/api/sandboxes/sb-1/preview/3000", 204, NULL},
    {"DELETE", "/api/sandboxes/sb-1/preview/3001", 404, "{\"error\":\"there is no preview\"}"},
    {"POST", "/api/secret-stores", 201, PROD},
    /* the second one is named like the id of the first */
    {"GET", "/api/secret-stores", 200, "[" PROD "," STORE(CID2, CID, "") "]"},
    {"GET", "/api/secret-stores/" CID, 200, PROD},
    {"PUT", "/api/secret-stores/" CID, 200, PROD},
    {"DELETE", "/api/secret-stores/" CID, 204, NULL},
    {"DELETE", "/api/secret-stores/" CID2, 404, "{\"error\":\"secret store not found\"}"},
    {"PUT", "/api/secret-stores/" CID "/secrets/KEY", 200, "{\"name\":\"KEY\",\"status\":\"set\"}"},
    {"PUT", "/api/secret-stores/" CID "/secrets/BAD", 400,
     "{\"error\":\"value must have 1 to 16384 bytes\"}"},
    {"GET", "/api/secret-stores/" CID "/secrets", 200,
     "[{\"id\":\"x\",\"storeId\":\"" CID "\",\"name\":\"KEY\",\"allowedHosts\":[\"api.x.com\"]},"
     "{\"name\":\"OTHER\",\"allowedHosts\":[]}]"},
    {"DELETE", "/api/secret-stores/" CID "/secrets/KEY", 204, NULL},
    {"DELETE", "/api/secret-stores/" CID "/secrets/NONE", 404, "{\"error\":\"secret not found\"}"},
    {"GET", "/healthz", 200, "{\"status\":\"alive\"}"},
    {"GET", "/readyz", 200, "{\"status\":\"ready\"}"},
    {"GET", "/api/workers", 200,
     "[{\"worker_id\":\"w1\",\"current\":2,\"total_memory_mb\":6144,\"draining\":false}]"},
};

struct mock *mock_start_usual(void)
{
    return mock_start(usual_rules, SHL_ARRAY_SIZE(usual_rules));
}
