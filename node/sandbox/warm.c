/* Warm templates: creates of them are restores.
 *
 * Happy path:
 *  1. warm_open: every template gets a struct and an id, the hash of everything its
 *     snapshot depends on. When DATA/warm/ID is there it is ready: only what was restored
 *     once, as a trial, gets that name.
 *  2. warm_pump: when no user's sandbox is starting, the next one that is missing is made
 *     (warm_make.c), one at a time.
 *  3. warm_stack: what a create starts from.
 *
 * A template that appears or changes is noticed at its next create, and by
 * housekeeping; the id of a changed one is another, and the former files go when no
 * record names them any more.
 *
 * What can go wrong: it cannot be made or not be restored the first time (logged, tried again
 * later, creates boot); it cannot be restored (warm_is_bad: it is made anew, that create boots).
 */
#include "node/sandbox/warm.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sodium.h>

#include "base/id.h"
#include "base/io.h"
#include "node/sandbox/checkpoints_private.h"
#include "node/sandbox/layers.h"

#define TEMPLATES_MAX   256
#define RETRY_MIN_MS    30000
#define RETRY_MAX_SHIFT 7
#define CPUINFO_MAX     (4 * 1024 * 1024)
#define FORMAT_VERSION  2 /* of DATA/warm/ID */
#define GENERATIONS_MAX 16

/* ---- identity -------------------------------------------------------------------- */

static void add_text(crypto_generichash_state *hash, const char *text)
{
    (void)crypto_generichash_update(hash, (const uint8_t *)text, strlen(text) + 1);
}

static int describe_file(const char *path, char *text, size_t size)
{
    struct stat st;

    if (stat(path, &st) < 0) {
        return -errno;
    }
    (void)snprintf(text, size, "%llu:%llu:%lld:%lld.%09ld", (unsigned long long)st.st_dev,
                   (unsigned long long)st.st_ino, (long long)st.st_size,
                   (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
    return 0;
}

static void add_file(crypto_generichash_state *hash, const char *path)
{
    char text[128] = "?";

    (void)describe_file(path, text, sizeof(text));
    add_text(hash, text);
}

/* Model and features of the first CPU; its frequency changes all the time. */
static void add_cpu(crypto_generichash_state *hash)
{
    static const char *const keys[] = {"vendor_id", "cpu family", "model", "stepping",
                                       "microcode", "flags",      "bugs"};
    struct shl_buf buf;
    char *text = NULL;
    char *line, *rest = NULL;
    size_t i;

    shl_buf_init(&buf, CPUINFO_MAX);
    if (shl_read_file("/proc/cpuinfo", &buf) == 0) {
        text = strndup((const char *)shl_buf_data(&buf), shl_buf_len(&buf));
    }
    shl_buf_release(&buf);
    for (line = text ? strtok_r(text, "\n", &rest) : NULL;
         line && strncmp(line, "power management", 16) != 0; line = strtok_r(NULL, "\n", &rest)) {
        for (i = 0; i < SHL_ARRAY_SIZE(keys); i++) {
            if (strncmp(line, keys[i], strlen(keys[i])) == 0) {
                add_text(hash, line);
            }
        }
    }
    free(text);
}

/* The VMM's program stands for the version of its state. */
static void make_id(struct warm *warm)
{
    const struct node_manager *manager = warm->manager;
    uint8_t digest[(NODE_LAYER_ID_SIZE - 1) / 2];
    crypto_generichash_state hash;
    char path[SANDBOX_PATH_MAX];
    char text[64];

    (void)crypto_generichash_init(&hash, NULL, 0, sizeof(digest));
    (void)snprintf(text, sizeof(text), "%d %d %u", FORMAT_VERSION, manager->net != NULL,
                   warm->generation);
    add_text(&hash, text);
    add_text(&hash, warm->base);
    add_text(&hash, manager->salt); /* machines made from one image have the same inodes */
    (void)snprintf(path, sizeof(path), "%s/kernel/vmlinux", manager->data_dir);
    add_file(&hash, path);
    (void)snprintf(path, sizeof(path), "%s/kernel/initrd", manager->data_dir);
    add_file(&hash, path);
    add_file(&hash, manager->vmm_path);
    add_cpu(&hash);
    (void)crypto_generichash_final(&hash, digest, sizeof(digest));
    shl_hex_encode(warm->id, digest, sizeof(digest));
}

static bool is_there(const struct node_manager *manager, const char *id)
{
    static const char *const names[] = {LAYERS_MEM, LAYERS_STATE, LAYERS_DISK, LAYERS_WORK};
    char path[SANDBOX_PATH_MAX];
    size_t i;

    for (i = 0; i < SHL_ARRAY_SIZE(names); i++) {
        layers_warm_path(manager, id, names[i], path, sizeof(path));
        if (access(path, R_OK) < 0) {
            return false;
        }
    }
    return true;
}

static void set_ready(struct warm *warm, bool ready)
{
    if (ready && !warm->ready) {
        layers_ref(warm->manager, warm->id);
    } else if (!ready && warm->ready) {
        layers_unref(warm->manager, warm->id);
    }
    warm->ready = ready;
}

/* The first generation that is there, or can be made. What was made once is never made
 * again under its id while somebody's layers lie on it, here or on another node: no two have the
 * same pages. */
static void choose_id(struct warm *warm)
{
    struct node_manager *manager = warm->manager;

    for (; warm->generation < GENERATIONS_MAX; warm->generation++) {
        make_id(warm);
        if (is_there(manager, warm->id)) {
            set_ready(warm, true);
            return;
        }
        if (layers_refs(manager, warm->id) == 0 && !bases_has(manager->checkpoints, warm->id)) {
            return;
        }
    }
    warm->id[0] = '\0';
}

/* Look at the image; when it is another one, everything else is, too. */
static void look(struct warm *warm)
{
    struct node_manager *manager = warm->manager;
    char path[SANDBOX_PATH_MAX];
    char image[sizeof(warm->image)] = "";
    struct shl_err err = {0};
    int fd;

    (void)snprintf(path, sizeof(path), "%s/templates/%s/disk.raw", manager->data_dir,
                   warm->template_name);
    if (describe_file(path, image, sizeof(image)) == 0 && strcmp(image, warm->image) == 0) {
        return;
    }
    set_ready(warm, false);
    (void)snprintf(warm->image, sizeof(warm->image), "%s", image);
    warm->id[0] = '\0';
    warm->generation = 0;
    warm->failures = 0;
    warm->retry_at_ms = 0;
    if (!image[0] || files_open_template(manager, warm->template_name, &fd, warm->base, &err) < 0) {
        return;
    }
    (void)close(fd);
    choose_id(warm);
}

/* ---- the set --------------------------------------------------------------------- */

static struct warm *find(struct node_manager *manager, const char *template_name)
{
    struct shl_list *it;

    SHL_LIST_FOREACH(it, &manager->warms) {
        struct warm *warm = shl_container_of(it, struct warm, link);

        if (strcmp(warm->template_name, template_name) == 0) {
            return warm;
        }
    }
    return NULL;
}

static struct warm *find_or_add(struct node_manager *manager, const char *template_name)
{
    struct warm *warm = find(manager, template_name);

    if (!warm) {
        warm = calloc(1, sizeof(*warm));
        if (!warm) {
            return NULL;
        }
        warm->manager = manager;
        (void)snprintf(warm->template_name, sizeof(warm->template_name), "%s", template_name);
        shl_list_push_back(&manager->warms, &warm->link);
    }
    if (!warm->making) {
        look(warm);
    }
    return warm;
}

static void scan(struct node_manager *manager)
{
    char path[SANDBOX_PATH_MAX];
    struct dirent *entry;
    unsigned count = 0;
    uint64_t bytes;
    DIR *folder;

    (void)snprintf(path, sizeof(path), "%s/templates", manager->data_dir);
    folder = opendir(path);
    while (folder && (entry = readdir(folder)) && count < TEMPLATES_MAX) {
        if (strlen(entry->d_name) < NODE_TEMPLATE_MAX &&
            files_template(manager, entry->d_name, &bytes, NULL) == 0) {
            (void)find_or_add(manager, entry->d_name);
            count++;
        }
    }
    if (folder) {
        (void)closedir(folder);
    }
}

void warm_open(struct node_manager *manager)
{
    if (manager->warm_wanted) {
        scan(manager);
    }
}

void warm_close(struct node_manager *manager)
{
    struct shl_list *it;

    SHL_LIST_FOREACH(it, &manager->warms) {
        struct warm *warm = shl_container_of(it, struct warm, link);

        if (warm->maker) {
            sandbox_end(warm->maker, NODE_SANDBOX_STOPPED, SHL_EUNAVAILABLE,
                        "the node daemon is being stopped");
        }
    }
}

void warm_free(struct node_manager *manager)
{
    struct shl_list *it, *next;

    SHL_LIST_FOREACH_SAFE(it, next, &manager->warms) {
        shl_list_remove(it);
        free(shl_container_of(it, struct warm, link));
    }
}

uint32_t warm_count(const struct node_manager *manager)
{
    const struct shl_list *it;
    uint32_t count = 0;

    SHL_LIST_FOREACH(it, &manager->warms) {
        count += shl_container_of(it, struct warm, link)->ready;
    }
    return count;
}

/* ---- making one at a time ---------------------------------------------------------- */

void warm_pump(struct node_manager *manager)
{
    struct warm *next = NULL;
    struct shl_err err = {0};
    struct shl_list *it;

    if (!manager->warm_wanted || manager->closing || manager->booting > 0 ||
        !shl_list_empty(&manager->boot_queue)) {
        return;
    }
    SHL_LIST_FOREACH(it, &manager->warms) {
        struct warm *warm = shl_container_of(it, struct warm, link);

        if (warm->making) {
            return;
        }
        if (!next && !warm->ready && warm->id[0] && shl_monotonic_ms() >= warm->retry_at_ms) {
            next = warm;
        }
    }
    if (next && warm_make(next, &err) < 0) {
        warm_made(next, err.code, err.msg);
    }
}

void warm_made(struct warm *warm, int code, const char *msg)
{
    struct node_manager *manager = warm->manager;
    int64_t ms = (int64_t)((shl_monotonic_us() - warm->began_us) / 1000);

    warm->making = false;
    if (manager->closing) {
        return;
    }
    if (code == 0) {
        warm->failures = 0;
        set_ready(warm, true);
        SHL_LOG(&manager->log, SHL_LOG_INFO, "template_warm",
                SHL_S("template", warm->template_name), SHL_S("id", warm->id), SHL_I("ms", ms));
    } else {
        uint32_t shift = SHL_MIN(warm->failures, (uint32_t)RETRY_MAX_SHIFT);

        warm->failures++;
        warm->retry_at_ms = shl_monotonic_ms() + ((uint64_t)RETRY_MIN_MS << shift);
        SHL_LOG(&manager->log, SHL_LOG_WARN, "template_not_warm",
                SHL_S("template", warm->template_name), SHL_S("reason", msg),
                SHL_S("effect", "creates of it boot"));
    }
    look(warm);
    warm_pump(manager);
}

void warm_housekeeping(struct node_manager *manager)
{
    if (manager->warm_wanted && !manager->closing) {
        scan(manager);
        warm_pump(manager);
    }
}

/* ---- creates ----------------------------------------------------------------------- */

void warm_stack(struct node_manager *manager, const char *template_name, struct node_stack *ret)
{
    struct warm *warm = NULL;
    uint64_t bytes;

    *ret = (struct node_stack){0};
    if (manager->warm_wanted && files_template(manager, template_name, &bytes, NULL) == 0) {
        warm = find_or_add(manager, template_name);
    }
    if (!warm || !warm->ready) {
        return;
    }
    (void)snprintf(ret->base, sizeof(ret->base), "%s", warm->base);
    (void)snprintf(ret->warm, sizeof(ret->warm), "%s", warm->id);
    (void)snprintf(ret->state.hex, sizeof(ret->state.hex), "%s", warm->id);
    ret->warm_mem = true;
}

/* Its files go with the last sandbox that uses them. */
void warm_is_bad(struct node_manager *manager, const char *id)
{
    struct shl_list *it;

    SHL_LIST_FOREACH(it, &manager->warms) {
        struct warm *warm = shl_container_of(it, struct warm, link);

        if (warm->ready && strcmp(warm->id, id) == 0) {
            SHL_LOG(&manager->log, SHL_LOG_WARN, "template_bad",
                    SHL_S("template", warm->template_name), SHL_S("id", id));
            set_ready(warm, false);
            warm->generation++;
            choose_id(warm);
        }
    }
}
