#include "node/sandbox/stack.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "node/sandbox/layers.h"
#include "node/sandbox/sandbox.h"

/* ---- references ------------------------------------------------------------------ */

static void for_each(struct node_manager *manager,
                     const struct node_stack *stack,
                     void (*act)(struct node_manager *manager, const char *id))
{
    unsigned i;

    act(manager, stack->base); /* there is a file of it only when it was imported */
    act(manager, stack->warm);
    for (i = 0; i < stack->disk_count; i++) {
        act(manager, stack->disk[i].hex);
    }
    for (i = 0; i < stack->mem_count; i++) {
        act(manager, stack->mem[i].hex);
    }
    act(manager, stack->state.hex);
}

void node_stack_ref(struct node_manager *manager, const struct node_stack *stack)
{
    for_each(manager, stack, layers_ref);
}

void node_stack_unref(struct node_manager *manager, const struct node_stack *stack)
{
    for_each(manager, stack, layers_unref);
}

/* ---- records --------------------------------------------------------------------- */

static void encode_ids(struct shl_mp_writer *w,
                       const char *key,
                       const struct node_layer_id *ids,
                       unsigned count)
{
    unsigned i;

    shl_mp_kv_array(w, key);
    for (i = 0; i < count; i++) {
        shl_mp_str(w, ids[i].hex);
    }
    shl_mp_end(w);
}

void node_stack_encode(struct shl_mp_writer *w, const char *key, const struct node_stack *stack)
{
    shl_mp_kv_map(w, key);
    shl_mp_kv_str(w, "base", stack->base);
    shl_mp_kv_str(w, "warm", stack->warm);
    shl_mp_kv_bool(w, "warm_mem", stack->warm_mem);
    shl_mp_kv_bool(w, "whole_disk", stack->whole_disk);
    encode_ids(w, "disk", stack->disk, stack->disk_count);
    encode_ids(w, "mem", stack->mem, stack->mem_count);
    shl_mp_kv_str(w, "state", stack->state.hex);
    shl_mp_end(w);
}

static int decode_id(const msgpack_object *map, const char *key, char id[NODE_LAYER_ID_SIZE])
{
    int rc = shl_mp_get_cpy(map, key, id, NODE_LAYER_ID_SIZE);

    return rc == 0 && (!id[0] || layers_id_is_valid(id)) ? 0 : SHL_EPROTO;
}

static int decode_ids(const msgpack_object *map,
                      const char *key,
                      struct node_layer_id *ids,
                      unsigned max,
                      unsigned *ret_count)
{
    const msgpack_object *found = shl_mp_find(map, key);
    uint32_t i;

    if (!found || found->type != MSGPACK_OBJECT_ARRAY || found->via.array.size > max) {
        return SHL_EPROTO;
    }
    for (i = 0; i < found->via.array.size; i++) {
        const msgpack_object *item = &found->via.array.ptr[i];

        if (item->type != MSGPACK_OBJECT_STR || item->via.str.size != NODE_LAYER_ID_SIZE - 1) {
            return SHL_EPROTO;
        }
        (void)memcpy(ids[i].hex, item->via.str.ptr, item->via.str.size);
        ids[i].hex[item->via.str.size] = '\0';
        if (!layers_id_is_valid(ids[i].hex)) {
            return SHL_EPROTO;
        }
    }
    *ret_count = found->via.array.size;
    return 0;
}

int node_stack_decode(const msgpack_object *map, const char *key, struct node_stack *stack)
{
    const msgpack_object *found = shl_mp_find(map, key);
    int rc;

    *stack = (struct node_stack){0};
    rc = found ? decode_id(found, "base", stack->base) : SHL_EPROTO;
    if (rc == 0) {
        rc = decode_id(found, "warm", stack->warm);
    }
    if (rc == 0) {
        rc = shl_mp_get_bool(found, "warm_mem", &stack->warm_mem);
    }
    if (rc == 0) {
        rc = shl_mp_get_bool(found, "whole_disk", &stack->whole_disk);
    }
    if (rc == 0) {
        rc = decode_ids(found, "disk", stack->disk, VMM_DISK_LAYERS_MAX, &stack->disk_count);
    }
    if (rc == 0) {
        rc = decode_ids(found, "mem", stack->mem, VMM_MEM_LAYERS_MAX, &stack->mem_count);
    }
    if (rc == 0) {
        rc = decode_id(found, "state", stack->state.hex);
    }
    if (rc < 0) {
        *stack = (struct node_stack){0};
    }
    return rc < 0 ? SHL_EPROTO : 0;
}

/* ---- descriptors ----------------------------------------------------------------- */

void node_stack_fds_init(struct node_stack_fds *fds)
{
    *fds = (struct node_stack_fds){.base = -1, .warm_mem = -1, .state = -1, .working_set = -1};
}

static void close_one(int *fd)
{
    if (*fd >= 0) {
        (void)close(*fd);
        *fd = -1;
    }
}

void node_stack_close(struct node_stack_fds *fds)
{
    unsigned i;

    close_one(&fds->base);
    close_one(&fds->warm_mem);
    close_one(&fds->state);
    close_one(&fds->working_set);
    for (i = 0; i < fds->disk_count; i++) {
        close_one(&fds->disk[i]);
    }
    for (i = 0; i < fds->mem_count; i++) {
        close_one(&fds->mem[i]);
    }
    node_stack_fds_init(fds);
}

/* A file that should be there and is not: what was saved is damaged. */
static int open_one(const char *path, int *ret_fd, struct shl_err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0) {
        return errno == ENOENT
                   ? shl_err_set(err, SHL_ECORRUPT, "a file of the saved memory is missing")
                   : shl_err_sys(err, errno, "cannot open %s", path);
    }
    *ret_fd = fd;
    return 0;
}

static int open_layer(const struct node_manager *manager,
                      const char *id,
                      const char *kind,
                      int *ret_fd,
                      struct shl_err *err)
{
    char path[SANDBOX_PATH_MAX];

    layers_path(manager, id, kind, path, sizeof(path));
    return open_one(path, ret_fd, err);
}

static int open_warm(const struct node_manager *manager,
                     const char *id,
                     const char *name,
                     int *ret_fd,
                     struct shl_err *err)
{
    char path[SANDBOX_PATH_MAX];

    layers_warm_path(manager, id, name, path, sizeof(path));
    return open_one(path, ret_fd, err);
}

static int open_disks(const struct node_manager *manager,
                      const struct node_stack *stack,
                      struct node_stack_fds *fds,
                      struct shl_err *err)
{
    unsigned i;
    int rc = 0;

    if (stack->warm[0] && !stack->whole_disk) {
        rc = open_warm(manager, stack->warm, "disk", &fds->disk[0], err);
        fds->disk_count = rc == 0;
    }
    for (i = 0; i < stack->disk_count && rc == 0; i++) {
        rc = open_layer(manager, stack->disk[i].hex, LAYERS_DISK, &fds->disk[fds->disk_count], err);
        fds->disk_count += rc == 0;
    }
    return rc;
}

/* For fresh sandboxes; one with memory layers had its beginning already. It is only a hint,
 * and a template that is being tried has none yet. */
static void open_working_set(const struct node_manager *manager,
                             const struct node_stack *stack,
                             struct node_stack_fds *fds)
{
    char path[SANDBOX_PATH_MAX];

    if (stack->warm_mem && stack->mem_count == 0) {
        layers_warm_path(manager, stack->warm, LAYERS_WORK, path, sizeof(path));
        fds->working_set = open(path, O_RDONLY | O_CLOEXEC);
    }
}

static int open_memory(const struct node_manager *manager,
                       const struct node_stack *stack,
                       struct node_stack_fds *fds,
                       struct shl_err *err)
{
    unsigned i;
    int rc = 0;

    if (stack->warm_mem) {
        rc = open_warm(manager, stack->warm, "mem", &fds->warm_mem, err);
    }
    for (i = 0; i < stack->mem_count && rc == 0; i++) {
        rc = open_layer(manager, stack->mem[i].hex, LAYERS_MEM, &fds->mem[i], err);
        fds->mem_count += rc == 0;
    }
    if (rc < 0) {
        return rc;
    }
    open_working_set(manager, stack, fds);
    return strcmp(stack->state.hex, stack->warm) == 0
               ? open_warm(manager, stack->warm, "state", &fds->state, err)
               : open_layer(manager, stack->state.hex, LAYERS_STATE, &fds->state, err);
}

static int open_base(const struct node_manager *manager,
                     const char *template_name,
                     const struct node_stack *stack,
                     struct node_stack_fds *fds,
                     struct shl_err *err)
{
    char identity[NODE_LAYER_ID_SIZE];
    int rc = files_open_template(manager, template_name, &fds->base, identity, err);

    if (!stack->base[0] || (rc == 0 && strcmp(identity, stack->base) == 0)) {
        return rc;
    }
    close_one(&fds->base);
    if (files_open_base(manager, stack->base, &fds->base) == 0) {
        return 0;
    }
    return rc < 0 ? rc
                  : shl_err_set(err, SHL_ECONFLICT,
                                "the template %s was built anew since this was saved on top of it",
                                template_name);
}

int node_stack_open(const struct node_manager *manager,
                    const char *template_name,
                    const struct node_stack *stack,
                    struct node_stack_fds *ret,
                    struct shl_err *err)
{
    int rc;

    node_stack_fds_init(ret);
    rc = open_base(manager, template_name, stack, ret, err);
    if (rc == 0) {
        rc = open_disks(manager, stack, ret, err);
    }
    /* its own code: without the disk nothing goes, without memory it still boots */
    if (rc == SHL_ECORRUPT) {
        rc = shl_err_set(err, -ENOENT, "a file of the saved disk is missing");
    }
    if (rc == 0 && stack->state.hex[0]) {
        rc = open_memory(manager, stack, ret, err);
    }
    if (rc < 0) {
        node_stack_close(ret);
    }
    return rc;
}
