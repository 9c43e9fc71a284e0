/* Command line client of the control protocol (vmm-kvm/control.h), for the VMM tests and for
 * trying a VM by hand: files are named, opened here and handed over as descriptors.
 *
 *   shoal-vmm --dir DIR &
 *   vmmctl [--wait SECONDS] [--timeout SECONDS] DIR OP [OPTION]...
 *
 *   start    --kernel F --initrd F --base F [--layer F]... --overlay F --vcpus N --memory-mb N
 *            --disk-mb N [--cmdline S] [--hotplug-max-mb N] [--hotplug-mb N] [--serial F]
 *            [--serial-max-kb N] [--tap NAME --mac aa:..] [--deadline-ms N]
 *   restore  --state F [--mem-base F] [--mem F]... --base F [--layer F]... --overlay F
 *            --disk-mb N [--hotplug-mb N] [--serial F] [--serial-max-kb N]
 *            [--working-set F] [--tap NAME --mac aa:..] [--deadline-ms N] [--paused]
 *   snapshot [--state F --mem F] [--overlay F] [--keep-paused] [--disk-only]
 *   layers   --layer F...
 *   deadline --at-ms N   (0: none)
 *   pause   resume   status   stats
 *   stop     [--grace-ms N]
 *   flatten  OUT MEMORY_MB BASE LAYER...   no VMM takes part, DIR is not used: the raw image
 *            of the boot memory that these make; BASE may be - for zeros
 *
 * --layer and --mem: from the lowest to the highest. --overlay, --serial and the files of
 * snapshot are made when missing; --overlay of snapshot is the next one. --wait: how long the
 * socket may take to appear (10), --timeout: the reply (60). Sizes: N or, for --disk-mb,
 * --memory-mb and --hotplug-mb, MiB as the name says.
 *
 * Prints one "field value" per line of the reply, nested fields with dots ("exits.io 12").
 * Exit status: 0; 1 refused, with "vmmctl: OP: NAME: sentence" on standard error; 125 no
 * connection, no reply in time, a wrong argument or a file that does not open.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/attr.h"

#include "bench/flatten.h"
#include "bench/vmm_client.h"

#define EXIT_REFUSED 1
#define EXIT_LINK    125
#define FIELD_MAX    256
#define CMDLINE                                                                              \
    "console=ttyS0 quiet loglevel=1 reboot=k panic=-1 clocksource=kvm-clock 8250.nr_uarts=1" \
    " pci=off random.trust_cpu=on memhp_default_state=online"

enum kind {
    KIND_READ,   /* a file, read-only */
    KIND_WRITE,  /* a file, read-write, made when missing */
    KIND_TAP,    /* an interface */
    KIND_NUMBER, /* times scale */
    KIND_TEXT,
    KIND_FLAG,
};

/* Every option stands for one field or descriptor of the request. */
static const struct {
    const char *name;
    enum kind kind;
    const char *field;
    uint64_t scale;
} table[] = {
    {"kernel", KIND_READ, "kernel", 0},
    {"initrd", KIND_READ, "initrd", 0},
    {"base", KIND_READ, "base", 0},
    {"layer", KIND_READ, "layer", 0},
    {"overlay", KIND_WRITE, "overlay", 0},
    {"state", KIND_WRITE, "state", 0},
    {"mem-base", KIND_READ, "mem_base", 0},
    {"mem", KIND_WRITE, "mem", 0},
    {"working-set", KIND_READ, "working_set", 0},
    {"serial", KIND_WRITE, "serial", 0},
    {"tap", KIND_TAP, "tap", 0},
    {"mac", KIND_TEXT, "mac", 0},
    {"cmdline", KIND_TEXT, "cmdline", 0},
    {"vcpus", KIND_NUMBER, "vcpus", 1},
    {"memory-mb", KIND_NUMBER, "memory_bytes", 1 << 20},
    {"disk-mb", KIND_NUMBER, "disk_bytes", 1 << 20},
    {"hotplug-max-mb", KIND_NUMBER, "hotplug_max_bytes", 1 << 20},
    {"hotplug-mb", KIND_NUMBER, "hotplug_bytes", 1 << 20},
    {"serial-max-kb", KIND_NUMBER, "serial_max_bytes", 1 << 10},
    {"grace-ms", KIND_NUMBER, "grace_ms", 1},
    {"at-ms", KIND_NUMBER, "at_ms", 1},
    {"deadline-ms", KIND_NUMBER, "deadline_ms", 1},
    {"paused", KIND_FLAG, "paused", 0},
    {"keep-paused", KIND_FLAG, "keep_paused", 0},
    {"disk-only", KIND_FLAG, "disk_only", 0},
};

static int add_number(struct bench_call *call, size_t i, const char *text, struct shl_err *err)
{
    unsigned long long value;
    char *end;

    errno = 0;
    value = strtoull(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || value > UINT64_MAX / table[i].scale) {
        return shl_err_set(err, SHL_EINVALIDARG, "'%s' is not a number", text);
    }
    shl_mp_kv_uint(&call->w, table[i].field, value * table[i].scale);
    return 0;
}

static int add_option(struct bench_call *call,
                      const char *op,
                      size_t i,
                      const char *text,
                      struct shl_err *err)
{
    /* What a restore reads, a snapshot writes. */
    bool writes = table[i].kind == KIND_WRITE &&
                  (strcmp(op, "restore") != 0 || strcmp(table[i].field, "overlay") == 0 ||
                   strcmp(table[i].field, "serial") == 0);

    switch (table[i].kind) {
    case KIND_READ:
    case KIND_WRITE:
        return bench_call_file(call, table[i].field, text, writes ? O_RDWR | O_CREAT : O_RDONLY,
                               err);
    case KIND_TAP:
        return bench_call_tap(call, text, err);
    case KIND_NUMBER:
        return add_number(call, i, text, err);
    case KIND_TEXT:
        shl_mp_kv_str(&call->w, table[i].field, text);
        return 0;
    case KIND_FLAG:
        shl_mp_kv_bool(&call->w, table[i].field, true);
        return 0;
    }
    return 0;
}

/* The options behind the op; they are in argv from 0. */
static int add_options(struct bench_call *call,
                       const char *op,
                       int argc,
                       char **argv,
                       struct shl_err *err)
{
    bool has_cmdline = false;
    int at, r = 0;

    for (at = 0; at < argc && r == 0; at++) {
        const char *name = strncmp(argv[at], "--", 2) == 0 ? argv[at] + 2 : "";
        const char *text = NULL;
        size_t i = 0;

        while (i < SHL_ARRAY_SIZE(table) && strcmp(table[i].name, name) != 0) {
            i++;
        }
        if (i == SHL_ARRAY_SIZE(table)) {
            return shl_err_set(err, SHL_EINVALIDARG, "there is no option '%s'", argv[at]);
        }
        if (table[i].kind != KIND_FLAG) {
            if (at + 1 == argc) {
                return shl_err_set(err, SHL_EINVALIDARG, "--%s needs a value", name);
            }
            text = argv[++at];
        }
        has_cmdline |= strcmp(name, "cmdline") == 0;
        r = add_option(call, op, i, text, err);
    }
    if (r == 0 && strcmp(op, "start") == 0 && !has_cmdline) {
        shl_mp_kv_str(&call->w, "cmdline", CMDLINE);
    }
    return r;
}

static void print_value(const char *name, const msgpack_object *value)
{
    if (value->type == MSGPACK_OBJECT_STR) {
        printf("%s %.*s\n", name, (int)value->via.str.size, value->via.str.ptr);
    } else {
        printf("%s ", name);
        msgpack_object_print(stdout, *value);
        putchar('\n');
    }
}

static void print_map(const char *prefix, const msgpack_object *map)
{
    uint32_t i;

    for (i = 0; i < map->via.map.size; i++) {
        const msgpack_object *key = &map->via.map.ptr[i].key, *value = &map->via.map.ptr[i].val;
        char name[FIELD_MAX];

        if (key->type != MSGPACK_OBJECT_STR) {
            continue;
        }
        (void)snprintf(name, sizeof(name), "%s%.*s", prefix, (int)key->via.str.size,
                       key->via.str.ptr);
        if (strcmp(name, "id") == 0 || strcmp(name, "code") == 0) {
            continue;
        }
        if (value->type == MSGPACK_OBJECT_MAP) {
            (void)strncat(name, ".", sizeof(name) - strlen(name) - 1);
            print_map(name, value);
        } else {
            print_value(name, value);
        }
    }
}

static int flatten(int argc, char **argv)
{
    struct shl_err err = {0};

    if (argc < 4) {
        (void)fputs("vmmctl: flatten needs OUT MEMORY_MB BASE LAYER...\n", stderr);
        return EXIT_LINK;
    }
    if (bench_flatten(argv[0], strtoull(argv[1], NULL, 10) << 20,
                      strcmp(argv[2], "-") == 0 ? NULL : argv[2],
                      (const char *const *)(uintptr_t)(argv + 3), (unsigned)argc - 3, &err) < 0) {
        (void)fprintf(stderr, "vmmctl: flatten: %s\n", err.msg);
        return EXIT_REFUSED;
    }
    return 0;
}

static int run(struct bench_vmm *vmm, const char *op, int argc, char **argv, int timeout_ms)
{
    struct shl_err err = {0};
    struct bench_call call;
    int r, status = EXIT_LINK;

    bench_call_begin(&call, vmm, op);
    r = add_options(&call, op, argc, argv, &err);
    if (r == 0) {
        r = bench_call_run(&call, timeout_ms, &err);
        status = r == 0 ? 0 : call.has_reply ? EXIT_REFUSED : EXIT_LINK;
    }
    if (r == 0) {
        print_map("", call.reply.root);
    } else {
        (void)fprintf(stderr, "vmmctl: %s: %s: %s\n", op, shl_err_name(r), err.msg);
    }
    bench_call_release(&call);
    return status;
}

int main(int argc, char **argv)
{
    static const struct option known[] = {{"wait", required_argument, NULL, 'w'},
                                          {"timeout", required_argument, NULL, 't'},
                                          {NULL, 0, NULL, 0}};
    int option, status, wait_ms = 10000, timeout_ms = 60000;
    struct shl_err err = {0};
    struct bench_vmm vmm;

    while ((option = getopt_long(argc, argv, "+", known, NULL)) != -1) {
        if (option == 'w') {
            wait_ms = (int)strtol(optarg, NULL, 10) * 1000;
        } else if (option == 't') {
            timeout_ms = (int)strtol(optarg, NULL, 10) * 1000;
        } else {
            return EXIT_LINK;
        }
    }
    if (argc - optind < 2) {
        (void)fputs("usage: vmmctl [--wait S] [--timeout S] DIR OP [OPTION]...: see the head of"
                    " tests/vmm/vmmctl.c\n",
                    stderr);
        return EXIT_LINK;
    }
    if (strcmp(argv[optind + 1], "flatten") == 0) {
        return flatten(argc - optind - 2, argv + optind + 2);
    }
    if (bench_vmm_connect(&vmm, argv[optind], wait_ms, &err) < 0) {
        (void)fprintf(stderr, "vmmctl: %s\n", err.msg);
        return EXIT_LINK;
    }
    status = run(&vmm, argv[optind + 1], argc - optind - 2, argv + optind + 2, timeout_ms);
    bench_vmm_release(&vmm);
    return status;
}
