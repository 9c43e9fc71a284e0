/* Reference counts of layer files.
 *
 * Happy path: an id enters the table with its first reference; when the last one goes it
 * leaves the table and joins the queue of removals, of which one batch at a time
 * runs on the thread pool.
 *
 * What can go wrong: a file cannot be removed (logged, the next start tries again); there
 * is no memory for a count (from then on nothing is removed in this run of the
 * daemon: a file too many is better than one too few).
 */
#include "node/sandbox/layers.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/id.h"
#include "base/io.h"
#include "node/sandbox/sandbox.h"

#define HASH_SIZE 1024
#define ID_DIGITS (NODE_LAYER_ID_SIZE - 1)

struct layer {
    struct layer *next;
    char id[NODE_LAYER_ID_SIZE];
    unsigned refs;
};

struct removal {
    struct removal *next;
    char id[NODE_LAYER_ID_SIZE];
    int rc;
};

struct node_layers {
    struct node_manager *manager;
    struct layer *hash[HASH_SIZE];
    bool leaky; /* a count could not be kept: remove nothing */
    struct removal *waiting;
    struct removal *batch; /* on the thread pool */
    uv_work_t work;
};

bool layers_id_is_valid(const char *id)
{
    return strlen(id) == ID_DIGITS && strspn(id, "0123456789abcdef") == ID_DIGITS;
}

void layers_path(const struct node_manager *manager,
                 const char *id,
                 const char *kind,
                 char *path,
                 size_t size)
{
    (void)snprintf(path, size, "%s/layers/%s.%s", manager->data_dir, id, kind);
}

void layers_warm_path(const struct node_manager *manager,
                      const char *id,
                      const char *name,
                      char *path,
                      size_t size)
{
    (void)snprintf(path, size, "%s/warm/%s%s%s", manager->data_dir, id, name[0] ? "/" : "", name);
}

void layers_base_path(const struct node_manager *manager,
                      const char *id,
                      const char *name,
                      char *path,
                      size_t size)
{
    (void)snprintf(path, size, "%s/bases/%s%s%s", manager->data_dir, id, name[0] ? "/" : "", name);
}

/* ---- removing -------------------------------------------------------------------- */

static int remove_one(const struct node_manager *manager, const char *id)
{
    static const char *const kinds[] = {LAYERS_DISK, LAYERS_MEM, LAYERS_STATE};
    char path[SANDBOX_PATH_MAX];
    int rc = 0;
    size_t i;

    for (i = 0; i < SHL_ARRAY_SIZE(kinds); i++) {
        layers_path(manager, id, kinds[i], path, sizeof(path));
        if (unlink(path) < 0 && errno != ENOENT) {
            rc = -errno;
        }
    }
    layers_warm_path(manager, id, "", path, sizeof(path));
    if (access(path, F_OK) == 0 && shl_remove_tree(path) < 0) {
        rc = -EIO;
    }
    layers_base_path(manager, id, "", path, sizeof(path));
    if (access(path, F_OK) == 0 && shl_remove_tree(path) < 0) {
        rc = -EIO;
    }
    return rc;
}

static void run_removals(uv_work_t *work)
{
    struct node_layers *layers = work->data;
    struct removal *removal;

    for (removal = layers->batch; removal; removal = removal->next) {
        removal->rc = remove_one(layers->manager, removal->id);
    }
}

static void start_removals(struct node_layers *layers);

static void on_removals_done(uv_work_t *work, int status)
{
    struct node_layers *layers = work->data;
    struct node_manager *manager = layers->manager;

    (void)status;
    while (layers->batch) {
        struct removal *removal = layers->batch;

        layers->batch = removal->next;
        if (removal->rc < 0) {
            SHL_LOG(&manager->log, SHL_LOG_ERROR, "layer_not_removed", SHL_S("layer", removal->id),
                    SHL_S("reason", shl_err_text(removal->rc)));
        }
        free(removal);
    }
    start_removals(layers);
    manager_job_ended(manager);
}

static void start_removals(struct node_layers *layers)
{
    int rc SHL_UNUSED;

    if (layers->batch || !layers->waiting) {
        return;
    }
    layers->batch = layers->waiting;
    layers->waiting = NULL;
    layers->work.data = layers;
    layers->manager->jobs++;
    rc = uv_queue_work(layers->manager->loop, &layers->work, run_removals, on_removals_done);
    assert(rc == 0);
}

static void remove_later(struct node_layers *layers, const char *id)
{
    struct removal *removal = layers->leaky ? NULL : calloc(1, sizeof(*removal));

    if (!removal) {
        return; /* the next start removes it */
    }
    (void)snprintf(removal->id, sizeof(removal->id), "%s", id);
    removal->next = layers->waiting;
    layers->waiting = removal;
    start_removals(layers);
}

/* ---- counting -------------------------------------------------------------------- */

static struct layer **find(const struct node_layers *layers, const char *id)
{
    struct layer **at;
    unsigned hash = 0;
    size_t i;

    for (i = 0; i < 4; i++) { /* ids are random: any digits will do */
        hash = hash * 16 + (unsigned)shl_hex_digit(id[i]);
    }
    at = (struct layer **)&layers->hash[hash % HASH_SIZE];
    while (*at && strcmp((*at)->id, id) != 0) {
        at = &(*at)->next;
    }
    return at;
}

void layers_ref(struct node_manager *manager, const char *id)
{
    struct node_layers *layers = manager->layers;
    struct layer **at;

    if (!id[0]) {
        return;
    }
    at = find(layers, id);
    if (!*at) {
        *at = calloc(1, sizeof(**at));
        if (!*at) {
            layers->leaky = true;
            SHL_LOG(&manager->log, SHL_LOG_ERROR, "layers_not_counted", SHL_S("layer", id),
                    SHL_S("effect", "no layer is removed until the daemon starts again"));
            return;
        }
        (void)snprintf((*at)->id, sizeof((*at)->id), "%s", id);
    }
    (*at)->refs++;
}

void layers_unref(struct node_manager *manager, const char *id)
{
    struct node_layers *layers = manager->layers;
    struct layer **at;
    struct layer *layer;

    if (!id[0]) {
        return;
    }
    at = find(layers, id);
    layer = *at;
    assert(layer || layers->leaky);
    if (layer && --layer->refs == 0) {
        *at = layer->next;
        remove_later(layers, layer->id);
        free(layer);
    }
}

unsigned layers_refs(const struct node_manager *manager, const char *id)
{
    struct layer **at = find(manager->layers, id);

    return *at ? (*at)->refs : 0;
}

static bool is_in(const struct removal *removal, const char *id)
{
    while (removal && strcmp(removal->id, id) != 0) {
        removal = removal->next;
    }
    return removal;
}

bool layers_is_going(const struct node_manager *manager, const char *id)
{
    return is_in(manager->layers->waiting, id) || is_in(manager->layers->batch, id);
}

void layers_new(struct node_manager *manager, struct node_layer_id *ret)
{
    shl_id_make(ret->hex, sizeof(ret->hex), "", ID_DIGITS);
    layers_ref(manager, ret->hex);
}

/* ---- at start and at the end ------------------------------------------------------ */

/* Names are ID.KIND or, below warm/, ID; before format 2 a half-made one was "new-ID". */
static void sweep_folder(struct node_manager *manager, const char *name)
{
    char path[SANDBOX_PATH_MAX];
    struct dirent *entry;
    DIR *folder;

    (void)snprintf(path, sizeof(path), "%s/%s", manager->data_dir, name);
    folder = opendir(path);
    while (folder && (entry = readdir(folder))) {
        char id[NODE_LAYER_ID_SIZE];

        if (strncmp(entry->d_name, "new-", 4) == 0) {
            (void)snprintf(path, sizeof(path), "%s/%s/%.64s", manager->data_dir, name,
                           entry->d_name);
            if (shl_remove_tree(path) < 0) {
                SHL_LOG(&manager->log, SHL_LOG_ERROR, "layer_not_removed", SHL_S("layer", path));
            }
            continue;
        }
        (void)snprintf(id, sizeof(id), "%.*s", ID_DIGITS, entry->d_name);
        if (layers_id_is_valid(id) && layers_refs(manager, id) == 0) {
            SHL_LOG(&manager->log, SHL_LOG_INFO, "layer_unused", SHL_S("layer", entry->d_name));
            remove_later(manager->layers, id);
        }
    }
    if (folder) {
        (void)closedir(folder);
    }
}

void layers_sweep(struct node_manager *manager)
{
    sweep_folder(manager, "layers");
    sweep_folder(manager, "warm");
    sweep_folder(manager, "bases");
}

int layers_open(struct node_manager *manager, struct shl_err *err)
{
    static const char *const names[] = {"layers", "warm", "bases"};
    char path[SANDBOX_PATH_MAX];
    size_t i;

    for (i = 0; i < SHL_ARRAY_SIZE(names); i++) {
        int rc;

        (void)snprintf(path, sizeof(path), "%s/%s", manager->data_dir, names[i]);
        rc = shl_mkdir_all(path, 0700);
        if (rc < 0) {
            return shl_err_sys(err, -rc, "cannot create the data folder %s", path);
        }
    }
    manager->layers = calloc(1, sizeof(*manager->layers));
    if (!manager->layers) {
        return shl_err_sys(err, ENOMEM, "cannot start the sandbox manager");
    }
    manager->layers->manager = manager;
    return 0;
}

void layers_free(struct node_manager *manager)
{
    struct node_layers *layers = manager->layers;
    size_t i;

    if (!layers) {
        return;
    }
    assert(!layers->batch);
    for (i = 0; i < HASH_SIZE; i++) {
        while (layers->hash[i]) {
            struct layer *layer = layers->hash[i];

            layers->hash[i] = layer->next;
            free(layer);
        }
    }
    while (layers->waiting) {
        struct removal *removal = layers->waiting;

        layers->waiting = removal->next;
        free(removal);
    }
    free(layers);
    manager->layers = NULL;
}
