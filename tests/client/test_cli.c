/* The real program `shoal` against a server that answers by a table. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/attr.h"
#include "tests/client/cli.h"

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
    /* previews */
    {{"preview", "create", "sb-1", "3000"},
     0,
     "http://sb-1-p3000.localhost:8080\n",
     NULL,
     "/api/sandboxes/sb-1/preview",
     "{\"port\":3000}"},
    {{"preview", "create", "--json", "sb-1", "3000"},
     0,
     "\"hostname\": \"sb-1-p3000.localhost:8080\"",
     NULL,
     "/api/sandboxes/sb-1/preview",
     NULL},
    {{"preview", "ls", "sb-1"},
     0,
     "3000  http://sb-1-p3000.localhost:8080",
     NULL,
     "/api/sandboxes/sb-1/preview",
     NULL},
    {{"preview", "ls", "-q", "sb-1"},
     0,
     "http://sb-1-p3000.localhost:8080\n",
     NULL,
     "/api/sandboxes/sb-1/preview",
     NULL},
    {{"preview", "rm", "sb-1", "3000"}, 0, NULL, NULL, "/api/sandboxes/sb-1/preview/3000", NULL},
    {{"preview", "rm", "sb-1", "3001"},
     125,
     NULL,
     "there is no preview (HTTP 404",
     "/api/sandboxes/sb-1/preview/3001",
     NULL},
    {{"preview", "create", "sb-1"}, 125, NULL, "takes a sandbox and a port", NULL, NULL},
    {{"preview", "create", "sb-1", "70000"}, 125, NULL, "from 1 to 65535", NULL, NULL},
    {{"preview", "create", "sb-1", "http"}, 125, NULL, "from 1 to 65535", NULL, NULL},
    {{"preview", "rm", "sb-1"}, 125, NULL, "the port is missing", NULL, NULL},
    {{"preview", "list", "sb-1"}, 125, NULL, "is none of create, ls, rm", NULL, NULL},
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
    {{"cluster", "stats"}, 125, NULL, "\"stats\" is none of status", NULL, NULL},
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
    {{"help", "cp"}, 0, "shoal cp: copy files", NULL, NULL, NULL},
    {{"help", "nope"}, 125, NULL, "no command \"nope\"", NULL, NULL},
    {{"completion", "bash"}, 0, "complete -F _shoal shoal", NULL, NULL, NULL},
    {{"completion", "fish"}, 125, NULL, "only bash", NULL, NULL},
    {{"exce"}, 125, NULL, "did you mean \"exec\"?", NULL, NULL},
    {{"frobnicate"}, 125, NULL, "there is no command \"frobnicate\"\n", NULL, NULL},
    {{NULL}, 125, NULL, "usage: shoal COMMAND", NULL, NULL},
    {{"ls", "--url", "nowhere"}, 125, NULL, "is not a server address", NULL, NULL},
    {{"ls", "--url", "http://127.0.0.1:1"}, 125, NULL, "hint: is the node running?", NULL, NULL},
    {{"ls", "--ca-file", "/nonexistent"}, 125, NULL, "cannot be read", NULL, NULL},
    /* secrets; `set` is in test_cli_secret.c */
    {{"create", "--secret-store", "prod"},
     0,
     "sb-1",
     NULL,
     "/api/sandboxes",
     "{\"secretStore\":\"prod\"}"},
    {{"fork", "--secret-store", "prod", CID},
     0,
     "sb-1",
     NULL,
     "/api/sandboxes/from-checkpoint/" CID,
     "{\"secretStore\":\"prod\"}"},
    {{"secret", "store", "create", "prod", "--allow", "api.x.com", "--allow=*.y.com"},
     0,
     CID "\n",
     NULL,
     "/api/secret-stores",
     "{\"name\":\"prod\",\"egressAllowlist\":[\"api.x.com\",\"*.y.com\"]}"},
    {{"secret", "store", "create", "prod", "--json"},
     0,
     "\"name\": \"prod\"",
     NULL,
     "/api/secret-stores",
     "{\"name\":\"prod\"}"},
    {{"secret", "store", "create"}, 125, NULL, "store create takes a name", NULL, NULL},
    {{"secret", "store", "create", "\xff"}, 125, NULL, "not UTF-8", NULL, NULL},
    {{"secret", "store", "create", "a", "--name", "b"},
     125,
     NULL,
     "--name is for store update",
     NULL,
     NULL},
    {{"secret", "store", "ls"},
     0,
     "prod                                  " CID "  api.x.com, *.y.com  ",
     NULL,
     "/api/secret-stores",
     NULL},
    {{"secret", "store", "ls"}, 0, CID "  " CID2 "  any  ", NULL, "/api/secret-stores", NULL},
    {{"secret", "store", "ls", "-q"}, 0, "prod\n" CID "\n", NULL, "/api/secret-stores", NULL},
    {{"secret", "store", "ls", "--json"},
     0,
     "\"egressAllowlist\": []",
     NULL,
     "/api/secret-stores",
     NULL},
    {{"secret", "store", "get", "prod"}, 0, "*.y.com\n", NULL, "/api/secret-stores", NULL},
    {{"secret", "store", "get", "nope"},
     125,
     NULL,
     "shoal: nope: there is no such secret store",
     "/api/secret-stores",
     NULL},
    {{"secret", "store", "update", "prod", "--name", "live", "--allow-any"},
     0,
     NULL,
     NULL,
     "/api/secret-stores",
     NULL},
    {{"secret", "store", "update", "prod"}, 125, NULL, "update changes --name", NULL, NULL},
    {{"secret", "store", "update", "prod", "--allow", "a", "--allow-any"},
     125,
     NULL,
     "contradict",
     NULL,
     NULL},
    {{"secret", "store", "rm", CID}, 0, NULL, NULL, "/api/secret-stores", NULL},
    {{"secret", "store", "rm", "nope", CID2},
     125,
     NULL,
     "secret store not found (HTTP 404",
     "/api/secret-stores",
     NULL},
    {{"secret", "store", "rm"}, 125, NULL, "store rm takes the stores", NULL, NULL},
    {{"secret", "store", "crate"}, 125, NULL, "did you mean create", NULL, NULL},
    {{"secret", "store"}, 125, NULL, "store takes create, ls, get, update or rm", NULL, NULL},
    {{"secret", "set", "prod", "KEY", "value"},
     125,
     NULL,
     "the value is never an argument",
     NULL,
     NULL},
    {{"secret", "set", "prod"}, 125, NULL, "set takes a store and the name", NULL, NULL},
    {{"secret", "set", "prod", "KEY", "--name", "x"}, 125, NULL, "--name is for", NULL, NULL},
    {{"secret", "ls", "prod"}, 0, "KEY    api.x.com  -    -\n", NULL, "/api/secret-stores", NULL},
    {{"secret", "ls", CID}, 0, "OTHER  any        -    -\n", NULL, "/api/secret-stores", NULL},
    {{"secret", "ls", "-q", "prod"}, 0, "KEY\nOTHER\n", NULL, "/api/secret-stores", NULL},
    {{"secret", "ls", "--allow", "x", "prod"},
     125,
     NULL,
     "ls does not change what is allowed",
     NULL,
     NULL},
    {{"secret", "ls", "-f", "x", "prod"}, 125, NULL, "are for set", NULL, NULL},
    {{"secret", "ls"}, 125, NULL, "ls takes a store", NULL, NULL},
    {{"secret", "rm", "prod", "KEY"}, 0, NULL, NULL, "/api/secret-stores", NULL},
    {{"secret", "rm", "prod", "NONE", "KEY"},
     125,
     NULL,
     "shoal: NONE: secret not found (HTTP 404",
     "/api/secret-stores",
     NULL},
    {{"secret", "rm", "prod", "a/b"},
     125,
     NULL,
     "not the name of a secret",
     "/api/secret-stores",
     NULL},
    {{"secret", "rm", "prod"}, 125, NULL, "rm takes a store and", NULL, NULL},
    {{"secret", "sett", "prod", "KEY"}, 125, NULL, "did you mean set", NULL, NULL},
    {{"secret"}, 125, NULL, "something is missing", NULL, NULL},
    /* cp: what is refused before anything is sent */
    {{"cp", "a", "b"}, 125, NULL, "must be in a sandbox", NULL, NULL},
    {{"cp", "sb-1:/a", "sb-2:/b"}, 125, NULL, "must be local", NULL, NULL},
    {{"cp", "/nonexistent", "sb-1:/a"}, 125, NULL, "/nonexistent: No such file", NULL, NULL},
    {{"cp", "/tmp", "sb-3:/a"},
     125,
     NULL,
     "sb-3:/a: no rule for this (HTTP 404, request",
     "/api/sandboxes/sb-3/exec",
     NULL},
    {{"cp", "sb-3:/a/", "/tmp/x"},
     125,
     NULL,
     "sb-3:/a/: no rule for this",
     "/api/sandboxes/sb-3/exec",
     NULL},
    {{"cp", "-", "sb-1:/a/"}, 125, NULL, "standard input has no name", NULL, NULL},
    {{"cp", "sb-1:/a", "/nonexistent/x"}, 125, NULL, "No such file", NULL, NULL},
};

/* Exit code, both outputs and the request of many command lines. */
static void test_cli_command_lines(void **state)
{
    (void)state;
    for (size_t i = 0; i < SHL_ARRAY_SIZE(cases); i++) {
        const struct cli_case *c = &cases[i];
        struct mock *mock = mock_start_usual();
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
    struct mock *mock = mock_start_usual();
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
    struct mock *mock = mock_start_usual();
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

/* The completion script is made of the flag tables; bash must accept it. */
static void test_cli_completion_works_in_bash(void **state)
{
    struct mock *mock = mock_start_usual();
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
        cmocka_unit_test(test_cli_exec_passes_interrupt_on),
        cmocka_unit_test(test_cli_status_with_a_dead_server),
        cmocka_unit_test(test_cli_full_output_is_an_error),
        cmocka_unit_test(test_cli_completion_works_in_bash),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
