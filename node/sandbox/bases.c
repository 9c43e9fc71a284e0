/* What artefacts of this node are relative to, as artefacts of their own: the image of a
 * template, the memory of a warm one.
 *
 * Happy path:
 *  1. bases_ready: an artefact is to be told, and a base of it has no record.
 *  2. run (thread pool, one at a time): its file becomes chunks and a manifest.
 *  3. on_done: the record is durable, the watcher hears of it, and then of the artefacts.
 *
 * The record stays until the watcher says that nobody needs it (node_artefact_forget), so that no
 * warm template is ever made again under the same id with other memory (bases_has).
 *
 * What can go wrong: the file is gone (the template was built anew before anybody asked), no
 * space: logged once, the artefacts on it are not told, housekeeping tries again.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/id.h"
#include "base/io.h"
#include "checkpoint/image.h"
#include "node/sandbox/checkpoints_private.h"
#include "node/sandbox/layers.h"
#include "node/sandbox/sandbox.h"

#define BASE_KIND      "base" /* of records */
#define BASE_VERSION   1
#define BASE_BYTES_MAX ((uint64_t)NODE_DISK_MAX_MB << 20)
#define RECORD_MAX     4096

struct base {
    struct shl_list node;
    char id[NODE_BASE_ID_SIZE];
    bool is_memory;
    bool imported;
    bool kept;                         /* its files are referenced by this record */
    char manifest[NODE_MANIFEST_SIZE]; /* "": not made yet */
    uint64_t chunk_bytes;
    int64_t created_at_ms;

    /* while it is not made */
    char template_name[NODE_TEMPLATE_MAX];
    bool failed; /* waits for housekeeping */
    unsigned failures;
};

struct base_job {
    uv_work_t work;
    struct checkpoints *set;
    const struct node_manager *manager;
    char id[NODE_BASE_ID_SIZE]; /* referenced */
    char template_name[NODE_TEMPLATE_MAX];
    bool is_memory;
    atomic_bool *cancel;

    /* out */
    int rc;
    struct shl_err err;
    struct ckpt_id manifest;
    struct ckpt_session_stats stats;
    uint64_t run_ms;
};

/* ---- files -------------------------------------------------------------------------- */

static int open_memory(const struct node_manager *manager, const char *id, int *ret_fd)
{
    char path[SANDBOX_PATH_MAX];
    int fd;

    layers_warm_path(manager, id, "mem", path, sizeof(path));
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    *ret_fd = fd;
    return 0;
}

static int open_image(const struct node_manager *manager,
                      const char *template_name,
                      const char *id,
                      int *ret_fd)
{
    char identity[NODE_LAYER_ID_SIZE];
    int fd = -1;

    if (files_open_template(manager, template_name, &fd, identity, NULL) == 0) {
        if (strcmp(identity, id) == 0) {
            *ret_fd = fd;
            return 0;
        }
        (void)close(fd);
    }
    return files_open_base(manager, id, ret_fd);
}

static int open_file(const struct node_manager *manager,
                     const char *template_name,
                     const char *id,
                     bool is_memory,
                     int *ret_fd)
{
    return is_memory ? open_memory(manager, id, ret_fd)
                     : open_image(manager, template_name, id, ret_fd);
}

bool bases_has_file(const struct node_manager *manager,
                    const char *template_name,
                    const char *id,
                    bool is_memory)
{
    SHL_CLEANUP_FD int fd = -1;

    return open_file(manager, template_name, id, is_memory, &fd) == 0;
}

/* ---- config ------------------------------------------------------------------------- */

/* The same bytes on every node that has the same base. */
int bases_encode_config(const char *id, bool is_memory, uint64_t bytes, struct shl_buf *buf)
{
    struct shl_mp_writer w;

    shl_mp_writer_init(&w, buf);
    shl_mp_map(&w);
    shl_mp_kv_uint(&w, "v", BASE_VERSION);
    shl_mp_kv_str(&w, "base", id);
    shl_mp_kv_bool(&w, "memory", is_memory);
    shl_mp_kv_uint(&w, "bytes", bytes);
    shl_mp_end(&w);
    return shl_mp_done(&w);
}

int bases_decode_config(struct shl_bytes config,
                        const char *id,
                        bool is_memory,
                        uint64_t *ret_bytes,
                        struct shl_err *err)
{
    char found[NODE_BASE_ID_SIZE] = "";
    struct shl_mp_doc doc;
    uint64_t version = 0;
    bool memory = false;
    int rc;

    if (shl_mp_parse(&doc, config) < 0) {
        return shl_err_set(err, SHL_ECORRUPT, "what base a manifest is of cannot be read");
    }
    rc = shl_mp_get_uint(doc.root, "v", BASE_VERSION, &version);
    if (rc == 0) {
        rc = shl_mp_get_cpy(doc.root, "base", found, sizeof(found));
    }
    if (rc == 0) {
        rc = shl_mp_get_bool(doc.root, "memory", &memory);
    }
    if (rc == 0) {
        rc = shl_mp_get_uint(doc.root, "bytes", BASE_BYTES_MAX, ret_bytes);
    }
    if (rc < 0 || version != BASE_VERSION || strcmp(found, id) != 0 || memory != is_memory) {
        rc = shl_err_set(err, SHL_ECORRUPT, "the manifest is not that of base %s", id);
    }
    shl_mp_release(&doc);
    return rc;
}

/* ---- 2. on the thread pool ---------------------------------------------------------- */

static int publish(struct base_job *job,
                   struct ckpt_session *session,
                   struct ckpt_manifest *manifest,
                   uint64_t bytes)
{
    struct shl_buf buf;
    int rc = bases_encode_config(job->id, job->is_memory, bytes, &manifest->config);

    shl_buf_init(&buf, CKPT_MANIFEST_MAX);
    rc = rc < 0 ? rc : ckpt_manifest_encode(manifest, &buf);
    rc = rc < 0 ? shl_err_set(&job->err, rc, "the manifest cannot be written: %s", shl_err_text(rc))
                : ckpt_session_commit(session, shl_buf_bytes(&buf), &job->manifest, &job->err);
    shl_buf_release(&buf);
    return rc;
}

static int store(struct base_job *job, int fd)
{
    struct ckpt_manifest manifest;
    struct ckpt_session *session;
    struct stat st;
    int rc = fstat(fd, &st) < 0 ? shl_err_sys(&job->err, errno, "cannot look at the image") : 0;

    if (rc == 0) {
        rc = ckpt_session_begin(job->set->store, &session, &job->err);
    }
    if (rc < 0) {
        return rc;
    }
    ckpt_manifest_init(&manifest);
    rc = ckpt_raw_store(session, fd, job->cancel, &manifest, &job->err);
    ckpt_session_stats(session, &job->stats);
    if (rc == 0) {
        rc = publish(job, session, &manifest, (uint64_t)st.st_size);
    }
    if (rc < 0) {
        ckpt_session_abort(session);
    }
    ckpt_manifest_release(&manifest);
    return rc;
}

static void run(uv_work_t *work)
{
    struct base_job *job = work->data;
    uint64_t since_ms = shl_monotonic_ms();
    SHL_CLEANUP_FD int fd = -1;

    job->rc = open_file(job->manager, job->template_name, job->id, job->is_memory, &fd);
    job->rc = job->rc < 0
                  ? shl_err_sys(&job->err, -job->rc, "cannot open the file of base %s", job->id)
                  : store(job, fd);
    job->run_ms = shl_monotonic_ms() - since_ms;
}

/* ---- records ------------------------------------------------------------------------ */

static struct base *find(const struct checkpoints *set, const char *id)
{
    const struct shl_list *it;

    SHL_LIST_FOREACH(it, &set->bases) {
        struct base *base = shl_container_of(it, struct base, node);

        if (strcmp(base->id, id) == 0) {
            return base;
        }
    }
    return NULL;
}

static struct base *add(struct checkpoints *set, const char *id, bool is_memory)
{
    struct base *base = calloc(1, sizeof(*base));

    if (base) {
        (void)snprintf(base->id, sizeof(base->id), "%s", id);
        base->is_memory = is_memory;
        base->created_at_ms = shl_realtime_ms();
        shl_list_push_back(&set->bases, &base->node);
    }
    return base;
}

static int save(struct checkpoints *set, const struct base *base, struct shl_err *err)
{
    struct shl_mp_writer w;
    struct shl_buf buf;
    int rc;

    shl_buf_init(&buf, RECORD_MAX);
    shl_mp_writer_init(&w, &buf);
    shl_mp_map(&w);
    shl_mp_kv_uint(&w, "v", BASE_VERSION);
    shl_mp_kv_bool(&w, "memory", base->is_memory);
    shl_mp_kv_bool(&w, "imported", base->imported);
    shl_mp_kv_bool(&w, "kept", base->kept);
    shl_mp_kv_str(&w, "manifest", base->manifest);
    shl_mp_kv_uint(&w, "chunk_bytes", base->chunk_bytes);
    shl_mp_kv_int(&w, "created_at_ms", base->created_at_ms);
    shl_mp_end(&w);
    rc = shl_mp_done(&w);
    rc = rc < 0
             ? shl_err_set(err, rc, "the record of a base cannot be written")
             : node_store_put(set->manager->store, BASE_KIND, base->id, shl_buf_bytes(&buf), err);
    shl_buf_release(&buf);
    return rc;
}

static int decode(const msgpack_object *map, struct base *base)
{
    struct ckpt_id manifest;
    uint64_t version = 0;
    int rc = shl_mp_get_uint(map, "v", BASE_VERSION, &version);

    if (rc == 0) {
        rc = shl_mp_get_bool(map, "memory", &base->is_memory);
    }
    if (rc == 0) {
        rc = shl_mp_get_bool(map, "imported", &base->imported);
    }
    if (rc == 0) { /* records of older daemons have none */
        rc = shl_mp_get_bool(map, "kept", &base->kept);
        rc = rc == SHL_ENOTFOUND ? 0 : rc;
    }
    if (rc == 0) {
        rc = shl_mp_get_cpy(map, "manifest", base->manifest, sizeof(base->manifest));
    }
    if (rc == 0) {
        rc = shl_mp_get_uint(map, "chunk_bytes", UINT64_MAX, &base->chunk_bytes);
    }
    if (rc == 0) {
        rc = shl_mp_get_int(map, "created_at_ms", &base->created_at_ms);
    }
    return rc == 0 && manifest_id_parse(base->manifest, &manifest) ? 0 : SHL_EPROTO;
}

struct load {
    struct checkpoints *set;
    struct shl_err *err;
    int rc;
};

static bool on_record(void *arg, const char *id, struct shl_bytes value)
{
    struct load *load = arg;
    struct base *base = layers_id_is_valid(id) ? add(load->set, id, false) : NULL;
    struct shl_mp_doc doc;

    load->rc = base ? shl_mp_parse(&doc, value) : SHL_EPROTO;
    if (load->rc == 0) {
        load->rc = decode(doc.root, base);
        shl_mp_release(&doc);
    }
    if (load->rc == 0 && base->kept) {
        layers_ref(load->set->manager, base->id);
    }
    if (load->rc < 0) {
        load->rc = shl_err_set(load->err, SHL_ECORRUPT,
                               "the record of base %.40s is damaged, or of a newer shoald", id);
    }
    return load->rc == 0;
}

#define SALT_KIND "salt"
#define SALT_ID   "warm"

static int load_salt(struct node_manager *manager, struct shl_err *err)
{
    struct node_layer_id fresh;
    struct shl_buf buf;
    int rc;

    shl_buf_init(&buf, RECORD_MAX);
    rc = node_store_get(manager->store, SALT_KIND, SALT_ID, &buf, err);
    if (rc == 0 && shl_buf_len(&buf) == sizeof(fresh.hex) - 1) {
        (void)memcpy(manager->salt, shl_buf_data(&buf), shl_buf_len(&buf));
    } else if (rc == 0 || rc == SHL_ENOTFOUND) {
        shl_id_make(fresh.hex, sizeof(fresh.hex), "", sizeof(fresh.hex) - 1);
        (void)memcpy(manager->salt, fresh.hex, sizeof(fresh.hex));
        rc = node_store_put(manager->store, SALT_KIND, SALT_ID,
                            shl_bytes_of(fresh.hex, sizeof(fresh.hex) - 1), err);
    }
    shl_buf_release(&buf);
    return rc;
}

int bases_load(struct checkpoints *set, struct shl_err *err)
{
    struct load load = {.set = set, .err = err};
    int rc = node_store_each(set->manager->store, BASE_KIND, on_record, &load, err);

    rc = rc < 0 ? rc : load.rc;
    return rc < 0 ? rc : load_salt(set->manager, err);
}

void bases_free(struct checkpoints *set)
{
    struct shl_list *node;

    while ((node = shl_list_first(&set->bases))) {
        shl_list_remove(node);
        free(shl_container_of(node, struct base, node));
    }
}

/* ---- 3. done ------------------------------------------------------------------------ */

static void tell(struct checkpoints *set, const struct base *base, bool is_gone)
{
    struct node_artefact artefact = {
        .kind = NODE_ARTEFACT_BASE,
        .bytes = base->chunk_bytes,
        .created_at_ms = base->created_at_ms,
    };

    if (base->imported || !base->manifest[0]) {
        return;
    }
    (void)snprintf(artefact.id, sizeof(artefact.id), NODE_BASE_PREFIX "%.32s", base->id);
    (void)memcpy(artefact.manifest, base->manifest, sizeof(artefact.manifest));
    artefacts_tell_base(set, &artefact, is_gone);
}

static void fail(struct checkpoints *set, struct base *base, const char *reason)
{
    base->failed = true;
    if (base->failures++ == 0) {
        SHL_LOG(&set->manager->log, SHL_LOG_WARN, "base_not_stored", SHL_S("base", base->id),
                SHL_S("reason", reason), SHL_S("effect", "what lies on it stays on this node"));
    }
}

static void on_made(struct checkpoints *set, struct base *base, const struct base_job *job)
{
    struct shl_err err = {0};

    shl_hex_encode(base->manifest, job->manifest.bytes, sizeof(job->manifest.bytes));
    base->chunk_bytes = job->stats.raw_bytes;
    if (save(set, base, &err) < 0) {
        base->manifest[0] = '\0';
        upkeep_doom(set, &job->manifest);
        fail(set, base, err.msg);
        return;
    }
    SHL_LOG(&set->manager->log, SHL_LOG_INFO, "base_stored", SHL_S("base", base->id),
            SHL_S("kind", base->is_memory ? "memory" : "disk"),
            SHL_I("raw_bytes", job->stats.raw_bytes), SHL_I("new_bytes", job->stats.new_bytes),
            SHL_I("ms", job->run_ms));
    tell(set, base, false);
    artefacts_consider(set);
}

static void on_done(uv_work_t *work, int status)
{
    struct base_job *job = work->data;
    struct checkpoints *set = job->set;
    struct node_manager *manager = set->manager;
    struct base *base = find(set, job->id);

    (void)status;
    set->basing = false;
    layers_unref(manager, job->id);
    if (job->rc < 0) {
        set->collect_wanted = true;
    }
    if (base && !base->manifest[0] && job->rc == 0) {
        on_made(set, base, job);
    } else if (base && job->rc < 0 && !set->closing) {
        fail(set, base, job->err.msg);
    } else if (!base && job->rc == 0) {
        upkeep_release(set, &job->manifest);
    }
    free(job);
    bases_pump(set);
    manager_job_ended(manager);
}

/* ---- 1. who needs it ---------------------------------------------------------------- */

static void start(struct checkpoints *set, struct base *base)
{
    struct base_job *job = calloc(1, sizeof(*job));
    int rc SHL_UNUSED;

    if (!job) {
        fail(set, base, shl_err_text(-ENOMEM));
        return;
    }
    job->work.data = job;
    job->set = set;
    job->manager = set->manager;
    (void)memcpy(job->id, base->id, sizeof(job->id));
    (void)memcpy(job->template_name, base->template_name, sizeof(job->template_name));
    job->is_memory = base->is_memory;
    job->cancel = &set->base_cancel;
    layers_ref(set->manager, job->id);
    set->basing = true;
    set->manager->jobs++;
    rc = uv_queue_work(set->manager->loop, &job->work, run, on_done);
    assert(rc == 0);
}

void bases_pump(struct checkpoints *set)
{
    struct shl_list *it;

    SHL_LIST_FOREACH(it, &set->bases) {
        struct base *base = shl_container_of(it, struct base, node);

        if (set->basing || set->closing || !set->tidied) {
            return;
        }
        if (!base->manifest[0] && !base->failed) {
            start(set, base);
        }
    }
}

bool bases_ready(struct checkpoints *set, const struct checkpoint *checkpoint)
{
    bool ready = true;
    int i;

    for (i = 0; i < NODE_BASES_MAX; i++) {
        const char *id = checkpoint->bases[i];
        struct base *base = id[0] ? find(set, id) : NULL;

        if (!id[0] || (base && base->manifest[0])) {
            continue;
        }
        ready = false;
        base = base ? base : add(set, id, i == 1);
        if (base) {
            (void)snprintf(base->template_name, sizeof(base->template_name), "%s",
                           checkpoint->pub.spec.template_name);
        }
    }
    if (!ready) {
        bases_pump(set);
    }
    return ready;
}

void bases_retry(struct checkpoints *set)
{
    struct shl_list *it;

    SHL_LIST_FOREACH(it, &set->bases) {
        shl_container_of(it, struct base, node)->failed = false;
    }
}

void bases_tell(struct checkpoints *set)
{
    struct shl_list *it;

    SHL_LIST_FOREACH(it, &set->bases) {
        tell(set, shl_container_of(it, struct base, node), false);
    }
}

void bases_each_manifest(struct checkpoints *set,
                         void (*each)(void *arg, const char *manifest),
                         void *arg)
{
    struct shl_list *it;

    SHL_LIST_FOREACH(it, &set->bases) {
        each(arg, shl_container_of(it, struct base, node)->manifest);
    }
}

bool bases_has(const struct checkpoints *set, const char *id)
{
    return find(set, id);
}

int bases_add(struct checkpoints *set,
              const char *id,
              bool is_memory,
              const char *manifest,
              struct shl_err *err)
{
    struct base *base = find(set, id);
    int rc;

    if (base && base->manifest[0]) {
        return 0;
    }
    base = base ? base : add(set, id, is_memory);
    if (!base) {
        return shl_err_sys(err, ENOMEM, "cannot record a base");
    }
    base->imported = true;
    (void)snprintf(base->manifest, sizeof(base->manifest), "%s", manifest);
    rc = save(set, base, err);
    if (rc < 0) {
        shl_list_remove(&base->node);
        free(base);
    }
    return rc;
}

static void set_kept(struct checkpoints *set, struct base *base, bool kept)
{
    struct shl_err err = {0};

    if (base->kept == kept) {
        return;
    }
    base->kept = kept;
    if (save(set, base, &err) < 0) {
        base->kept = !kept;
        SHL_LOG(&set->manager->log, SHL_LOG_ERROR, "base_not_recorded", SHL_S("base", base->id),
                SHL_S("reason", err.msg));
        return;
    }
    (kept ? layers_ref : layers_unref)(set->manager, base->id);
}

void bases_keep(struct checkpoints *set, const char *id)
{
    struct base *base = id[0] ? find(set, id) : NULL;

    if (base && base->manifest[0]) {
        set_kept(set, base, true);
    }
}

static bool is_among(const char (*ids)[NODE_BASE_ID_SIZE], uint32_t count, const char *id)
{
    uint32_t i;

    for (i = 0; i < count; i++) {
        if (strcmp(ids[i], id) == 0) {
            return true;
        }
    }
    return false;
}

void node_bases_keep(struct node_manager *manager,
                     const char (*ids)[NODE_BASE_ID_SIZE],
                     uint32_t count)
{
    struct shl_list *it;

    SHL_LIST_FOREACH(it, &manager->checkpoints->bases) {
        struct base *base = shl_container_of(it, struct base, node);

        if (base->kept && !is_among(ids, count, base->id)) {
            SHL_LOG(&manager->log, SHL_LOG_INFO, "base_given_up", SHL_S("base", base->id));
            set_kept(manager->checkpoints, base, false);
        }
    }
}

bool bases_forget(struct checkpoints *set, const char *id)
{
    struct base *base = find(set, id);
    struct shl_err err = {0};
    struct ckpt_id manifest;

    if (!base) {
        return false;
    }
    if (node_store_delete(set->manager->store, BASE_KIND, id, &err) < 0) {
        SHL_LOG(&set->manager->log, SHL_LOG_ERROR, "base_not_forgotten", SHL_S("base", id),
                SHL_S("reason", err.msg));
        return true;
    }
    shl_list_remove(&base->node);
    if (base->kept) {
        layers_unref(set->manager, id);
    }
    if (manifest_id_parse(base->manifest, &manifest)) {
        upkeep_release(set, &manifest);
    }
    free(base);
    return true;
}
